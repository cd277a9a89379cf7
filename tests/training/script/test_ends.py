"""How a user's own program ends other than well: what the record says, in the words of the user."""

from __future__ import annotations

import json
import signal

import pytest

from finetune_trainer.contract.records import Cause, Outcome, Reason
from tests.support.script_launches import ScriptLaunches

LEAVES_A_MODEL = """
import os, pathlib
pathlib.Path(os.environ["OUTPUT_DIR"], "model.bin").write_bytes(b"weights")
"""
USAGE = """
import argparse
parser = argparse.ArgumentParser()
parser.add_argument("--learning_rate", type=float)
parser.parse_args()
"""
CASES = {
    "syntax error": (
        "steps = 3\nfor step in range(steps)\n    pass\n",
        Reason.SCRIPT_INVALID,
        Cause.USER,
        "line 2, column 25",
    ),
    "module that is missing": (
        "import no_such_package\n",
        Reason.NOT_IN_IMAGE,
        Cause.USER,
        "no module no_such_package",
    ),
    "argparse": (USAGE, Reason.ARGUMENTS_INVALID, Cause.USER, "argument --learning_rate: invalid float value: 'fast'"),
    "exit code": ("import sys\nsys.exit(3)\n", Reason.RANK_FAILED, Cause.ERROR, "exit code 3"),
    "nothing left": ("print('trained')\n", Reason.NOTHING_TRAINED, Cause.USER, "left no file of a model in OUTPUT_DIR"),
    "a child's command": (
        "import subprocess\nsubprocess.run(['false'], check=True)\n",
        Reason.RANK_FAILED,
        Cause.ERROR,
        "CalledProcessError: Command '['false']' returned non-zero exit status 1.",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_program_that_fails_is_named_with_reason_and_words(scripts: ScriptLaunches, case: str) -> None:
    scripts.text, reason, cause, words = CASES[case]
    scripts.script = {"arguments": ("--learning_rate=fast",)}
    (record,) = scripts.run()
    assert scripts.started[0].process.returncode == 1
    assert record.outcome is Outcome.FAILED
    assert record.failure is not None
    assert (record.failure.reason, record.failure.cause) == (reason, cause), record.failure.message
    assert words in record.failure.message
    assert (record.failure.node, record.failure.rank) == (0, 0)
    assert record.model_path is None
    if case == "exit code":
        assert record.failure.exit_code == 3


def test_exception_on_one_node_is_told_with_rank_and_node_and_leaves_no_model(scripts: ScriptLaunches) -> None:
    """The program of node 0 ends well: that alone is no success."""
    scripts.nodes = 2
    scripts.text = f"{LEAVES_A_MODEL}\nif os.environ['NODE_RANK'] == '1':\n    raise ValueError('row 7 has no text')\n"
    first, second = scripts.run()
    assert second.failure is not None
    assert (second.failure.reason, second.failure.node, second.failure.rank) == (Reason.RANK_FAILED, 1, 1)
    assert second.failure.message.splitlines()[0] == "ValueError: row 7 has no text"
    assert first.failure is not None, scripts.started[0].text()
    assert first.failure.reason is Reason.PEER_LOST
    assert "node 1 has ended: RankFailed: ValueError: row 7 has no text" in first.failure.message
    assert not scripts.model.exists()

    scripts.text = LEAVES_A_MODEL
    assert [record.outcome for record in scripts.run(attempt=2)] == [Outcome.SUCCEEDED] * 2
    assert (scripts.model / "model.bin").exists()


@pytest.mark.parametrize("launcher", ["python", "torchrun"])
def test_program_that_ends_its_process_by_itself_is_told_so(scripts: ScriptLaunches, launcher: str) -> None:
    scripts.text = f"{LEAVES_A_MODEL}\nprint('all done', flush=True)\nos._exit(0)\n"
    scripts.script = {"launcher": launcher}
    (record,) = scripts.run()
    assert record.outcome is Outcome.FAILED
    assert record.failure is not None
    assert (record.failure.reason, record.failure.node) == (Reason.RANK_FAILED, 0)
    assert "os._exit" in record.failure.message
    assert "all done" in record.failure.message


@pytest.mark.parametrize("launcher", ["python", "torchrun"])
def test_program_that_saves_at_sigterm_is_stopped_and_goes_on_from_there(
    scripts: ScriptLaunches, launcher: str
) -> None:
    """What it leaves is no finished model, although it ended with exit code 0."""
    scripts.script = {"launcher": launcher, "arguments": ("--pause_at=3",)}
    (node,) = scripts.start()
    scripts.wait_for_step(node, 3)
    node.process.send_signal(signal.SIGTERM)
    assert node.wait() == 143
    assert "ended, asked to" in node.text()
    record = node.record()
    assert record.outcome is Outcome.STOPPED
    assert record.checkpoint is not None
    assert record.checkpoint.step == 3
    assert record.model_path is None
    assert scripts.sealed()[-1] == "step_3"
    assert not scripts.model.exists()

    scripts.script = {"launcher": launcher}
    (record,) = scripts.run(attempt=2)
    assert record.outcome is Outcome.SUCCEEDED
    assert "goes on from step 3" in scripts.started[1].text()
    assert json.loads((scripts.model / "model.json").read_text()) == {"step": 6}


def test_preflight_that_does_not_pass_ends_the_attempt_before_the_program(scripts: ScriptLaunches) -> None:
    scripts.text = LEAVES_A_MODEL
    scripts.script = {"launcher": "accelerate", "preflight": True, "accelerate_config": {"no_such_key": 1}}
    (record,) = scripts.run()
    assert record.failure is not None
    assert (record.failure.reason, record.failure.cause) == (Reason.PREFLIGHT_FAILED, Cause.ERROR)
    assert "no_such_key" in record.failure.message
    assert not (scripts.output / "model.bin").exists()
    assert record.model_path is None
