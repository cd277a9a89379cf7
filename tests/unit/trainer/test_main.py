"""The commands of the training image, before their own code runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from finetune_trainer.__main__ import STOPPED
from finetune_trainer.contract.records import Exit
from tests.support.patience import PATIENCE_SECONDS

PACKAGES = Path(__file__).parents[3] / "trainer_image"
WAITS = """
import sys, time
from finetune_trainer import __main__ as program
program.COMMANDS[sys.argv[1]] = (lambda: print("up", flush=True) or time.sleep(3600), "")
sys.exit(program.main([sys.argv[1]]))
"""


def test_the_exit_code_is_that_of_the_contract() -> None:
    assert STOPPED == Exit.STOPPED


@pytest.mark.parametrize("command", ["launch", "prepare", "publish"])
def test_a_signal_ends_it_before_it_has_a_handler_of_its_own(command: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WAITS, command], stdout=subprocess.PIPE, env={"PYTHONPATH": str(PACKAGES)}
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        process.terminate()
        assert process.wait(PATIENCE_SECONDS) == Exit.STOPPED
