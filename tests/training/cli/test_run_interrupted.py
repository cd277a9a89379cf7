"""`finetune run` interrupted in every way: the same command goes on, and nothing is left behind."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.local_run import LocalRun
from tests.support.patience import PATIENCE_SECONDS

STEPS = 240
LONG = {
    "max_steps": STEPS,
    "warmup_steps": 0,
    "logging_steps": 5,
    "eval_strategy": "no",
    "save_strategy": "steps",
    "save_steps": 20,
}
"""Arguments of a training that lasts long enough to be interrupted."""


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalRun]:
    made = LocalRun(tmp_path, arguments=LONG)
    made.make_data()
    yield made
    made.close()


def has_checkpoint(status: dict[str, Any]) -> bool:
    return bool(status.get("checkpoint"))


def resumed(attempt: int) -> Callable[[dict[str, Any]], bool]:
    """Return a check that this attempt has got beyond the checkpoint that it began from."""

    def holds(status: dict[str, Any]) -> bool:
        origin, step = status.get("resumedFrom"), (status.get("progress") or {}).get("step") or 0
        return status.get("attempt") == attempt and origin is not None and step > origin["step"]

    return holds


def wait_for_no_process(local: LocalRun) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while local.processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert local.processes() == []


def test_whatever_interrupts_it_the_same_command_goes_on(local: LocalRun) -> None:
    """A job is killed, is asked to stop, and has a rank that dies: each costs what it must, and at last it is done."""
    killed = local.start()
    local.wait_until(lambda status: bool(status.get("attempt")))
    refuse_a_second_run(local)
    checkpoint = local.wait_until(has_checkpoint, 0)["checkpoint"]["step"]
    assert local.processes()
    killed.kill()
    killed.wait()
    wait_for_no_process(local)

    stopped = local.start()
    first = local.wait_until(resumed(2))["resumedFrom"]["step"]
    assert first >= checkpoint
    assert "Continues" in local.heads()
    local.wait_until(lambda status: status["checkpoint"]["step"] > first)
    stopped.send_signal(signal.SIGINT)
    assert stopped.wait(PATIENCE_SECONDS) == 130
    assert local.processes() == []
    assert f"going on from the checkpoint of step {first}" in local.output()
    last_line = local.output().splitlines()[-1]
    assert last_line.startswith("Interrupted. The same command goes on from the checkpoint of step ")
    saved = int(last_line.rstrip(".").rpartition(" ")[2])
    assert saved > first

    run = local.start()
    assert local.wait_until(resumed(3))["resumedFrom"]["step"] == saved
    ranks = [process for process in local.processes() if process.cmdline()[-2:] == ["finetune_trainer", "train"]]
    assert len(ranks) == 2
    ranks[1].kill()
    assert run.wait(PATIENCE_SECONDS) == 0, local.errors()
    final = local.status()
    assert (final["phase"], final["attempt"], final["progress"]["step"]) == ("Succeeded", 4, STEPS)
    assert final["restarts"] == {"preemption": 2, "node": 0, "error": 1, "volume": 0}
    assert final["resumedFrom"]["step"] >= saved
    assert "Restarting" in local.heads()
    assert re.search(r"Rank [01] was ended by SIGKILL", local.output()), (
        "the cause, and not that the other rank lost it"
    )
    assert f"going on from the checkpoint of step {final['resumedFrom']['step']}" in local.output()
    assert local.processes() == []


def refuse_a_second_run(local: LocalRun) -> None:
    """Require that the same job can't be run beside one that runs, and that the first one does not notice."""
    first = local.started[-1]
    assert local.finish() == 2
    assert f"job reviews is already running here (process {first.pid})" in local.errors()
    assert first.poll() is None


def test_asked_twice_it_ends_at_once(local: LocalRun) -> None:
    stopped = local.start()
    local.wait_until(lambda status: bool(status.get("attempt")))
    stopped.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    stopped.send_signal(signal.SIGINT)
    assert stopped.wait(PATIENCE_SECONDS) == 130
    assert local.processes() == []
    assert "from the start: there is no checkpoint yet" in local.output()
