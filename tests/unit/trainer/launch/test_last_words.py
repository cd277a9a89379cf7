"""What of a dead rank's last lines reaches the user: why it died, without what libraries say of themselves."""

from __future__ import annotations

import pytest

from finetune_trainer.launch.last_words import LINES, last_words

NOISE = """\
/opt/venv/lib/python3.11/site-packages/torch/nn/modules/loss.py:41: UserWarning: reduction is deprecated
  warnings.warn(warning.format(ret))
[rank0]:[W1121 12:00:01.123456 ProcessGroup.cpp:1250] Warning: destroy_process_group() was not called
W1121 12:00:01.500000 77 torch/distributed/run.py:852] OMP_NUM_THREADS is not set
 12%|█▏        | 12/100 [00:03<00:22,  3.97it/s]
"""
FATAL = """\
Fatal Python error: Segmentation fault

Thread 0x00007f77a0000640 (most recent call first):
  File "/usr/lib/python3.11/threading.py", line 324 in wait

Current thread 0x00007f77b41db040 (most recent call first):
  File "/opt/venv/lib/python3.11/site-packages/torch/nn/functional.py", line 2546 in linear
  File "/opt/venv/lib/python3.11/site-packages/torch/nn/modules/module.py", line 1773 in _call_impl

Extension modules: numpy._core._multiarray_umath, torch._C, torch._C._dynamo (total: 93)
"""
TRACEBACK = """\
Traceback (most recent call last):
  File "/app/train.py", line 3, in <module>
    main()
ValueError: no loss
"""


def test_libraries_warnings_and_progress_bars_are_left_out() -> None:
    assert last_words(NOISE + "loss is 0.3\n" + NOISE) == "loss is 0.3"


def test_interpreter_crash_is_told_with_innermost_frames() -> None:
    """A crash of the interpreter is its own account with the innermost frames."""
    lines = last_words(NOISE + FATAL).splitlines()
    assert lines[0] == "Fatal Python error: Segmentation fault"
    assert "functional.py" in lines[1]
    assert len(lines) == 3


def test_an_abort_says_what_the_library_said() -> None:
    tail = f"terminate called after throwing an instance of 'c10::Error'\n  what():  CUDA error\n{NOISE}{FATAL}"
    assert last_words(tail).splitlines()[:2] == [
        "terminate called after throwing an instance of 'c10::Error'",
        "what():  CUDA error",
    ]


def test_a_traceback_is_told_by_its_end() -> None:
    words = last_words("epoch 1\n" * 30 + TRACEBACK + NOISE)
    assert words.endswith("ValueError: no loss")
    assert "epoch" not in words


@pytest.mark.parametrize("tail", ["", "\n\n", NOISE])
def test_where_nothing_was_said_nothing_is_shown(tail: str) -> None:
    assert last_words(tail) == ""


def test_what_is_shown_is_short() -> None:
    words = last_words("\n".join(f"line {number} " + "x" * 5000 for number in range(40)))
    assert len(words.splitlines()) == LINES
    assert len(words) < 2000
