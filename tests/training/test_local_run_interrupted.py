"""`finetune run` interrupted in every way: the same command goes on, and nothing is left behind."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.local_run import LocalRun

LONG = {
    "max_steps": 200,
    "warmup_steps": 0,
    "logging_steps": 5,
    "eval_strategy": "no",
    "save_strategy": "steps",
    "save_steps": 20,
}
EXIT_SECONDS = 45
"""Grace period of the pods, and something more."""


@pytest.fixture
def local(tmp_path: Path) -> Iterator[LocalRun]:
    made = LocalRun(tmp_path, arguments=LONG)
    made.make_data()
    yield made
    made.close()


def has_checkpoint(status: dict[str, Any]) -> bool:
    return bool(status.get("checkpoint"))


@pytest.mark.timeout(600)
def test_killed_and_run_again_it_goes_on_from_the_checkpoint(local: LocalRun) -> None:
    killed = local.start()
    checkpoint = local.wait_until(has_checkpoint)["checkpoint"]["step"]
    killed.kill()
    killed.wait()

    local.start()
    resumed = local.wait_until(lambda status: bool(status.get("resumedFrom")))
    assert resumed["resumedFrom"]["step"] >= checkpoint
    assert resumed["attempt"] == 2
    assert "Continues" in local.heads()
    assert local.started[-1].wait(280) == 0, local.errors()
    final = local.status()
    assert final["phase"] == "Succeeded"
    assert final["restarts"] == {"preemption": 1, "node": 0, "error": 0, "hang": 0}
    assert final["progress"]["step"] == 200
    assert f"going on from the checkpoint of step {resumed['resumedFrom']['step']}" in local.output()
    assert local.processes() == []


def test_killed_it_leaves_no_process_behind(local: LocalRun) -> None:
    killed = local.start()
    local.wait_until(lambda status: bool(status.get("progress")))
    assert local.processes()
    killed.kill()
    killed.wait()
    deadline = time.monotonic() + EXIT_SECONDS
    while local.processes() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert local.processes() == []


def test_asked_to_stop_it_stops_in_order_and_says_how_to_go_on(local: LocalRun) -> None:
    stopped = local.start()
    checkpoint = local.wait_until(has_checkpoint)["checkpoint"]["step"]
    stopped.send_signal(signal.SIGINT)
    assert stopped.wait(EXIT_SECONDS) == 130
    assert local.processes() == []
    said = local.output().splitlines()[-1]
    assert said.startswith("Interrupted. The same command goes on from the checkpoint of step ")
    assert int(said.rstrip(".").rpartition(" ")[2]) >= checkpoint


def test_asked_twice_it_ends_at_once(local: LocalRun) -> None:
    stopped = local.start()
    local.wait_until(lambda status: bool(status.get("attempt")))
    began = time.monotonic()
    stopped.send_signal(signal.SIGTERM)
    time.sleep(0.3)
    stopped.send_signal(signal.SIGINT)
    assert stopped.wait(EXIT_SECONDS) == 130
    assert time.monotonic() - began < 10
    assert local.processes() == []
    assert "from the start: there is no checkpoint yet" in local.output()


def test_a_second_run_of_the_same_job_is_refused(local: LocalRun) -> None:
    first = local.start()
    local.wait_until(lambda status: bool(status.get("attempt")))
    assert local.finish() == 2
    assert f"job reviews is already running here (process {first.pid})" in local.errors()
    assert first.poll() is None


@pytest.mark.timeout(600)
def test_a_rank_that_is_killed_costs_a_restart_and_no_more(local: LocalRun) -> None:
    run = local.start()
    local.wait_until(has_checkpoint)
    ranks = [process for process in local.processes() if process.cmdline()[-2:] == ["finetune_trainer", "train"]]
    assert len(ranks) == 2
    ranks[1].kill()
    assert run.wait(280) == 0, local.errors()
    final = local.status()
    assert final["attempt"] == 2
    assert final["restarts"] == {"preemption": 0, "node": 0, "error": 1, "hang": 0}
    assert final["progress"]["step"] == 200
    assert "Restarting" in local.heads()
    assert "going on from the checkpoint of step" in local.output()
