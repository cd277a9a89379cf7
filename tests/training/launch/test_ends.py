"""How an attempt ends other than well: what the record says, and what is left running (nothing)."""

import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from finetune_trainer.contract.records import RESULT_RECORD_MAX_BYTES, Cause, Outcome, Reason
from tests.support.damage import flip
from tests.support.launched import Launches, NodeProcess, until

LONG: dict[str, Any] = {"steps": 2000, "step_seconds": 0.05, "save_every": 10, "wait_sealed": False}


def training(node: NodeProcess, step: int = 2) -> list[psutil.Process]:
    """Wait until ranks train; returns all processes below launch."""
    until(lambda: (seen := node.progress()) and (seen.step or 0) >= step)
    return psutil.Process(node.process.pid).children(recursive=True)


def assert_gone(processes: list[psutil.Process]) -> None:
    assert len(processes) >= 2
    until(lambda: not any(child.is_running() and child.status() != psutil.STATUS_ZOMBIE for child in processes), 10)


@pytest.mark.parametrize("damaged", [True, False])
def test_rank_reading_lost_data_costs_nothing(launches: Launches, tmp_path: Path, *, damaged: bool) -> None:
    """An error of the volume in memory that is mapped is a SIGBUS; so is a shared memory that is full."""
    here, go_on = tmp_path / "here", tmp_path / "go-on"
    fall = {"rank": 0, "step": 4, "signal": signal.SIGBUS}
    wait = {"leave": {"step": 2, "file": str(here)}, "await": {"step": 3, "file": str(go_on)}}
    (node,) = launches.start(plan={"steps": 9, "kill": fall, **wait})
    until(here.exists)
    if damaged:
        flip(launches.data / "train.arrow")
    go_on.touch()
    node.wait()
    failure = node.record().failure
    assert failure is not None
    expected = (Reason.PREPARED_DAMAGED, Cause.VOLUME) if damaged else (Reason.RANK_KILLED, Cause.ERROR)
    assert (failure.reason, failure.cause, failure.rank) == (*expected, 0)


def test_a_killed_rank(launches: Launches) -> None:
    launches.processes = 2
    (record,) = launches.run(plan={"steps": 9, "kill": {"rank": 1, "step": 3, "signal": signal.SIGKILL}})
    assert record.outcome is Outcome.FAILED
    assert launches.started[0].process.returncode == 1
    assert record.failure is not None
    assert (record.failure.reason, record.failure.cause) == (Reason.RANK_KILLED, Cause.ERROR)
    assert (record.failure.rank, record.failure.node, record.failure.signal) == (1, 0, signal.SIGKILL)
    assert record.checkpoint is not None
    assert record.checkpoint.step == 2
    # What the silent rank had printed is shown now.
    assert "rank 1 of 2" in launches.started[0].text()


def test_a_rank_that_reports_its_failure(launches: Launches) -> None:
    failure = {"reason": "ColumnNotFound", "cause": "user", "message": "no column 'text'\n" + "x" * 9000}
    (record,) = launches.run(plan={"steps": 9, "fail": {"rank": 0, "step": 1, "failure": failure}})
    assert record.failure is not None
    assert (record.failure.reason, record.failure.cause) == (Reason.COLUMN_NOT_FOUND, Cause.USER)
    assert record.failure.message.startswith("no column 'text'")
    assert launches.started[0].termination_log.stat().st_size <= RESULT_RECORD_MAX_BYTES


def test_a_rank_that_ends_without_a_word(launches: Launches) -> None:
    (record,) = launches.run(plan={"steps": 9, "exit": {"rank": 0, "step": 1, "code": 3, "text": "cannot allocate"}})
    assert record.failure is not None
    assert (record.failure.reason, record.failure.rank, record.failure.exit_code) == (Reason.RANK_FAILED, 0, 3)
    assert "cannot allocate" in record.failure.message


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_end_while_training(launches: Launches, number: signal.Signals) -> None:
    launches.grace_period_seconds = 300
    (node,) = launches.start(plan=LONG | {"orphan": True})
    processes = training(node, step=20)
    children = psutil.Process(node.process.pid).children()
    assert [child for child in children if child.status() == psutil.STATUS_ZOMBIE] == [], "orphans are reaped"
    node.process.send_signal(number)
    assert node.wait() == 143
    record = node.record()
    assert record.outcome is Outcome.STOPPED
    assert record.failure is not None
    assert (record.failure.reason, record.failure.cause) == (Reason.STOPPED, Cause.PREEMPTION)
    assert record.checkpoint is not None
    assert record.checkpoint.step >= 10
    assert_gone(processes)


def test_ranks_that_do_not_listen_are_ended_within_the_grace_period(launches: Launches) -> None:
    launches.grace_period_seconds = 8
    (node,) = launches.start(plan=LONG | {"ignore_sigterm": True})
    processes = training(node)
    node.process.send_signal(signal.SIGTERM)
    assert node.wait() == 143
    assert node.record().outcome is Outcome.STOPPED
    assert_gone(processes)


def test_asked_to_end_while_it_waits_for_its_peers(launches: Launches) -> None:
    launches.nodes = 2
    (node,) = launches.start(only=(0,))
    until(node.progress)
    node.process.send_signal(signal.SIGTERM)
    assert node.wait() == 143
    assert node.record().outcome is Outcome.STOPPED
    assert launches.layout.run.begun() == []


def test_success_is_what_the_ranks_say_not_how_torchrun_ends(launches: Launches) -> None:
    (node,) = launches.start(plan={"steps": 2, "linger_seconds": 3600})
    assert node.wait() == 0
    assert node.record().outcome is Outcome.SUCCEEDED


def test_launch_killed_takes_its_ranks_along(launches: Launches) -> None:
    (node,) = launches.start(plan=LONG)
    processes = training(node)
    node.process.kill()
    node.wait()
    assert_gone(processes)
    assert not node.termination_log.exists()


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (lambda launches: launches.layout.run.prepared.unlink(), "prepared.json is not there"),
        (lambda launches: flip(launches.layout.run.prepared), "prepared.json can't be read"),
        (lambda launches: flip(launches.data / "train.arrow"), "the content of train.arrow has changed"),
        (lambda launches: shutil.rmtree(launches.data), "meta.json is not there"),
    ],
)
def test_with_damaged_data_no_rank_trains_and_it_is_made_again(
    launches: Launches, damage: Callable[[Launches], None], named: str
) -> None:
    damage(launches)
    (record,) = launches.run(plan=LONG)
    assert record.outcome is Outcome.FAILED
    assert record.failure is not None
    assert (record.failure.reason, record.failure.cause) == (Reason.PREPARED_DAMAGED, Cause.VOLUME)
    assert named in record.failure.message
    assert "starting after step" not in launches.started[0].text()
