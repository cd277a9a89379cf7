"""What ended a user's program, in words that say what to do, and who pays for the next try."""

from __future__ import annotations

import argparse
import errno
import os
import runpy
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract.records import Cause, Failure, Reason
from finetune_trainer.script.program_failures import failure_of, is_success, nothing_left, of_others
from finetune_trainer.shared.failures import ExpectedError
from tests.support.scripts import script_config

FILE: Mapping[str, Any] = {"path": "/code/train.py"}


def end_of(program: Callable[[], object]) -> BaseException:
    """Return what a program ends with."""
    try:
        program()
    except BaseException as error:  # noqa: BLE001 - SystemExit is one
        return error
    raise AssertionError("it ended well")


def failure(program: Callable[[], object], script: Mapping[str, Any] = FILE, output: str = "/output") -> Failure:
    made = failure_of(end_of(program), 3, script_config(output, script))
    assert made.rank == 3
    assert Failure.model_validate_json(made.to_json()) == made
    return made


def run_text(folder: Path, text: str | bytes) -> Callable[[], object]:
    file = folder / "train.py"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return lambda: runpy.run_path(str(file), run_name="__main__")


def raising(error: BaseException) -> Callable[[], object]:
    def program() -> None:
        raise error

    return program


# --- the program's text -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\ny = = 2\n", ["train.py", "invalid syntax", "line 2, column 5"]),
        ("def f():\nreturn 1\n", ["expected an indented block", "line 2"]),
        ("if True:\n\tx = 1\n        y = 2\n", ["train.py", "line 3"]),
        ("print 'old'\n", ["Missing parentheses", "line 1, column 1"]),
        (b"x = '\xff'\n", ["train.py"]),
        (b"x = 1\0\n", ["null bytes"]),
    ],
)
def test_text_that_is_no_python_is_named_with_its_line(tmp_path: Path, text: str | bytes, words: list[str]) -> None:
    made = failure(run_text(tmp_path, text))
    assert (made.reason, made.cause) == (Reason.SCRIPT_INVALID, Cause.USER)
    assert [word for word in words if word not in made.message] == []


def test_syntax_error_without_a_place_is_named_all_the_same() -> None:
    made = failure(raising(SyntaxError("odd")))
    assert made.message == "/code/train.py can't be read as Python: odd in an unknown line."
    line_only = failure(raising(SyntaxError("odd", ("/code/b.py", 7, None, None))))
    assert line_only.message == "/code/b.py can't be read as Python: odd in line 7."


def test_missing_package_is_named_with_the_way_out(tmp_path: Path) -> None:
    made = failure(run_text(tmp_path, "x = 1\nimport no_such_package.deep\n"))
    assert (made.reason, made.cause) == (Reason.NOT_IN_IMAGE, Cause.USER)
    for word in ("no module no_such_package:", "spec.script.requirements", 'train.py", line 2'):
        assert word in made.message


def test_missing_package_without_a_name_keeps_the_programs_words() -> None:
    made = failure(raising(ModuleNotFoundError("install flash-attn first")))
    assert made.reason is Reason.NOT_IN_IMAGE
    assert "install flash-attn first" in made.message
    assert "None" not in made.message.splitlines()[0]


@pytest.mark.parametrize("module", ["no_such_package", "no_such_package.sft", "json.no_such", "xml"])
def test_missing_module_is_named(module: str) -> None:
    made = failure(lambda: runpy.run_module(module, run_name="__main__"), {"path": None, "module": module})
    assert (made.reason, made.cause) == (Reason.NOT_IN_IMAGE, Cause.USER)
    assert made.message.startswith("spec.script.module: ")
    assert module in made.message


def test_module_that_imports_in_vain_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "finetuning_of_mine.py").write_text("from json import finetuning_of_mine\n")
    monkeypatch.syspath_prepend(tmp_path)
    script = {"path": None, "module": "finetuning_of_mine"}
    made = failure(lambda: runpy.run_module("finetuning_of_mine", run_name="__main__"), script)
    assert (made.reason, made.cause) == (Reason.RANK_FAILED, Cause.ERROR)
    assert "finetuning_of_mine.py" in made.message


# --- arguments --------------------------------------------------------------------------------------------------------


def with_argparse(
    *arguments: str, kind: type[argparse.ArgumentParser] = argparse.ArgumentParser
) -> Callable[[], object]:
    parser = kind(prog="train.py")
    parser.add_argument("--lr", type=float, required=True)
    return lambda: parser.parse_args(arguments)


class Polite(argparse.ArgumentParser):
    """A parser that says more, as programs have them."""

    def error(self, message: str) -> Any:
        super().error(f"sorry, {message}")


@pytest.mark.parametrize(
    ("program", "words"),
    [
        (with_argparse(), "the following arguments are required: --lr"),
        (with_argparse("--lr", "x"), "argument --lr: invalid float value: 'x'"),
        (with_argparse("--lr", "1", "--rate", "2"), "unrecognized arguments: --rate 2"),
        (with_argparse(kind=Polite), "sorry, the following arguments are required: --lr"),
    ],
)
def test_argument_that_argparse_refuses_is_named_in_its_words(program: Callable[[], object], words: str) -> None:
    made = failure(program)
    assert (made.reason, made.cause, made.exit_code) == (Reason.ARGUMENTS_INVALID, Cause.USER, 2)
    assert made.message == f"The program does not take its arguments: {words}. Correct spec.script.args."


def test_argument_that_transformers_refuses_is_named() -> None:
    text = "Some specified arguments are not used by the HfArgumentParser: ['--rate', '2']"
    made = failure(raising(ValueError(text)))
    assert (made.reason, made.cause) == (Reason.ARGUMENTS_INVALID, Cause.USER)
    assert made.message == f"{text}. Correct spec.script.args."


# --- its own end ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "success"),
    [(None, True), (0, True), (False, True), (1, False), (True, False), ("", False), ("text", False)],
)
def test_success_is_what_python_takes_for_it(code: Any, success: bool) -> None:
    assert is_success(SystemExit(code) if code is not None else SystemExit()) is success


@pytest.mark.parametrize(
    ("code", "number", "message"),
    [
        (3, 3, "The program has ended with exit code 3."),
        (2, 2, "The program has ended with exit code 2."),
        (-1, -1, "The program has ended with exit code -1."),
        ("no data", 1, "The program has ended with exit code 1: no data."),
        (2.5, 1, "The program has ended with exit code 1."),
        ("x" * 10_000, 1, f"The program has ended with exit code 1: {'x' * 298}."),
    ],
)
def test_exit_of_the_program_may_pass(code: Any, number: int, message: str) -> None:
    made = failure(raising(SystemExit(code)))
    assert (made.reason, made.cause, made.exit_code) == (Reason.RANK_FAILED, Cause.ERROR, number)
    assert made.message == message


def test_any_other_error_may_pass_and_has_its_traceback(tmp_path: Path) -> None:
    made = failure(run_text(tmp_path, "def step():\n    1 / 0\nstep()\n"))
    assert (made.reason, made.cause) == (Reason.RANK_FAILED, Cause.ERROR)
    assert made.message.startswith("ZeroDivisionError: division by zero\n")
    assert 'train.py", line 2, in step' in made.message


class OutOfMemoryError(RuntimeError):
    """An error of the name that torch gives it."""


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")])
def test_lack_of_memory_is_named(error: BaseException) -> None:
    made = failure(raising(error))
    assert (made.reason, made.cause) == (Reason.OUT_OF_MEMORY, Cause.ERROR)


def test_lost_peer_is_nobodys_mistake() -> None:
    assert failure(raising(ConnectionResetError(104, "Connection reset by peer"))).reason is Reason.PEER_LOST


@pytest.mark.parametrize(
    ("command", "name"),
    [
        (["/usr/bin/torchrun", "--nproc-per-node=2", "train.py"], "torchrun"),
        ("python -m torch.distributed.run train.py", "torch.distributed.run"),
        ([Path("accelerate"), b"launch", "train.py"], "accelerate"),
    ],
)
def test_program_that_starts_a_launcher_itself_is_told_that_the_job_has(command: Any, name: str) -> None:
    made = failure(raising(subprocess.CalledProcessError(1, command)))
    assert (made.reason, made.cause) == (Reason.SCRIPT_INVALID, Cause.USER)
    assert made.message.startswith(f"The program starts {name} by itself.")


def test_other_command_that_fails_is_an_error_of_the_program() -> None:
    assert failure(raising(subprocess.CalledProcessError(1, ["rsync", "-a"]))).reason is Reason.RANK_FAILED


@pytest.mark.parametrize(
    ("status", "reason"), [(409, Reason.PEER_LOST), (408, Reason.RANK_FAILED), (None, Reason.PEER_LOST)]
)
def test_end_of_rank_0_without_the_others_is_no_success(status: int | None, reason: Reason) -> None:
    made = of_others(status, "node 3").failure
    assert (made.reason, made.cause) == (reason, Cause.ERROR)
    assert "node 3" in made.message


def test_expected_error_is_taken_as_it_is() -> None:
    made = failure(raising(ExpectedError(Reason.FILE_NOT_FOUND, "no file")))
    assert (made.reason, made.message) == (Reason.FILE_NOT_FOUND, "no file")


@pytest.mark.parametrize(("trained", "words"), [(True, "has trained"), (False, "has reported no step")])
@pytest.mark.parametrize(("output", "where"), [(None, "in OUTPUT_DIR"), ("final", "below final in OUTPUT_DIR")])
def test_program_that_left_no_model_is_told_where_to_save(
    trained: bool, words: str, output: str | None, where: str
) -> None:
    script = script_config(script={"model_output": output}).script
    made = nothing_left(script, trained=trained).failure
    assert (made.reason, made.cause) == (Reason.NOTHING_TRAINED, Cause.USER)
    for word in (words, where, "--output_dir=$(OUTPUT_DIR)"):
        assert word in made.message


# --- files ------------------------------------------------------------------------------------------------------------


def of_file(number: int, name: str | bytes | int | None) -> OSError:
    return OSError(number, os.strerror(number), name) if name is not None else OSError(number, os.strerror(number))


@pytest.mark.parametrize("name", ["/app/cache/x", "/root/.cache"])
def test_read_only_file_system_of_the_pod_is_named_with_the_way_out(name: str) -> None:
    made = failure(raising(of_file(errno.EROFS, name)))
    assert (made.reason, made.cause) == (Reason.SCRIPT_INVALID, Cause.USER)
    for word in (name, "OUTPUT_DIR", "/tmp"):
        assert word in made.message


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, Reason.VOLUME_FULL),
        (errno.EDQUOT, Reason.VOLUME_FULL),
        (errno.EROFS, Reason.VOLUME_NOT_WRITABLE),
        (errno.EIO, Reason.VOLUME_FAILED),
    ],
)
@pytest.mark.parametrize("relative", [False, True])
def test_volume_that_fails_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, reason: Reason, relative: bool
) -> None:
    """A program writes below its working folder, which is OUTPUT_DIR: a name without a folder is on the volume, too."""
    monkeypatch.chdir(tmp_path)
    name = "logs/x" if relative else str(tmp_path / "logs" / "x")
    made = failure(raising(of_file(number, name)), output=str(tmp_path))
    assert (made.reason, made.cause) == (reason, Cause.VOLUME)


@pytest.mark.parametrize("name", [7, b"/elsewhere/\xff", None])
def test_error_of_a_file_without_a_plain_name_is_a_failure_too(name: str | bytes | int | None) -> None:
    assert failure(raising(of_file(errno.ENOSPC, name))).reason is Reason.VOLUME_FULL
    assert failure(raising(of_file(errno.EROFS, name))).reason in (Reason.SCRIPT_INVALID, Reason.VOLUME_NOT_WRITABLE)


def test_full_volume_in_the_words_of_torch_is_known() -> None:
    made = failure(raising(RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")))
    assert made.reason is Reason.VOLUME_FULL


@pytest.mark.parametrize(
    "error", [SystemExit("\udc80"), ValueError("\udc80"), SyntaxError("\udc80"), SystemExit("\0\x1b[2J")]
)
def test_text_that_is_no_text_can_be_reported(error: BaseException) -> None:
    assert failure(raising(error)).message
