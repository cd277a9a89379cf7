"""From one attempt to the next: fencing, what is gone on from, what a superseded attempt may still do."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract.records import Cause, Failure, Outcome, Progress, Reason, ResultRecord
from finetune_trainer.contract.run_config import Env
from finetune_trainer.shared.checkpoints import manifest
from finetune_trainer.shared.checkpoints.attempt_file import AttemptRecord, read_attempt_record
from finetune_trainer.shared.host import free_port
from finetune_trainer.shared.result_record import write_to_volume
from finetune_trainer.shared.volume import write_document
from tests.support.checkpoints import START, seal
from tests.support.launched import Launches, NodeProcess, until

LONG: dict[str, Any] = {"steps": 2000, "step_seconds": 0.05, "save_every": 10, "wait_sealed": False}


def dead_attempt(launches: Launches, number: int = 1) -> tuple[Path, Path]:
    """Leave an attempt that has begun, that nobody answers for any more, with checkpoints of steps 10 and 20."""
    run = launches.layout.run
    mark = AttemptRecord(
        uid=launches.uid,
        attempt=number,
        begun=START,
        addresses=(f"127.0.0.1:{free_port('127.0.0.1')}",),
        grace_period_seconds=60,
        world_size=1,
    )
    run.attempt(number).folder.mkdir(parents=True)
    write_document(run.attempt(number).record_file, mark)
    return seal(run, number, 10), seal(run, number, 20)


def left_record(launches: Launches, number: int = 1) -> None:
    """Write the record that the dead attempt's only node left."""
    failure = Failure(reason=Reason.OUT_OF_MEMORY, cause=Cause.ERROR, message="CUDA out of memory")
    record = ResultRecord(
        role="train",
        uid=launches.uid,
        attempt=number,
        outcome=Outcome.FAILED,
        failure=failure,
        started=START,
        finished=START,
    )
    write_to_volume(launches.layout.run.attempt(number), record)


def begun(node: NodeProcess) -> Progress:
    """Wait until the attempt has begun."""
    progress = until(lambda: (seen := node.progress()) and seen.begun and seen)
    assert isinstance(progress, Progress)
    return progress


def sealed_step(node: NodeProcess, step: int) -> None:
    until(lambda: (seen := node.progress()) and seen.checkpoint and seen.checkpoint.step >= step)


def over(node: NodeProcess) -> str:
    """Return how the launch of a node saw that node 0 of the attempt before was over."""
    event = next(line for line in node.text().splitlines() if "earlier attempt is over" in line)
    return str(json.loads(event)["nodes"]["0"])


def test_resume_after_sigkill_takes_newest_checkpoint(launches: Launches) -> None:
    """After SIGKILL the next attempt goes on from the newest checkpoint."""
    (first,) = launches.start(1, plan=LONG)
    sealed_step(first, 10)
    os.killpg(first.process.pid, signal.SIGKILL)
    first.wait()
    newest = max(int(folder.name.split("-")[1]) for folder in launches.layout.run.attempt(1).checkpoints.glob("*[0-9]"))
    began = time.monotonic()
    (second,) = launches.start(2, plan={"steps": newest + 2, "save_every": 1})
    until(lambda: launches.layout.run.attempt(2).record_file.exists())
    assert time.monotonic() - began > 4
    assert over(second) == "unreachable"
    assert second.wait() == 0
    assert f"starting after step {newest}" in second.text()
    mark = read_attempt_record(launches.layout.run.attempt(2))
    assert mark is not None
    assert mark.resume is not None
    assert mark.resume.step == newest
    assert mark.resume.path.startswith("/output/")
    # Rotation took the first attempt's: newer ones are sealed.
    assert list(launches.layout.run.attempt(1).checkpoints.iterdir()) == []


def test_a_record_lets_the_next_attempt_begin_at_once_and_is_passed_on(launches: Launches) -> None:
    dead_attempt(launches)
    left_record(launches)
    (second,) = launches.start(2, plan={"steps": 22})
    progress = begun(second)
    assert over(second) == "record"
    assert [record.failure.reason for record in progress.earlier if record.failure] == [Reason.OUT_OF_MEMORY]
    assert progress.resumed_from is not None
    assert (progress.resumed_from.step, progress.resumed_from.attempt) == (20, 1)


def test_answering_attempt_keeps_grace_period(launches: Launches) -> None:
    """An attempt that still answers is left its grace period, then superseded."""
    launches.grace_period_seconds = 8
    (old,) = launches.start(1, plan=LONG)
    sealed_step(old, 10)
    began = time.monotonic()
    (new,) = launches.start(2, plan={"steps": 5000, "step_seconds": 0.05, "save_every": 5000})
    until(lambda: launches.layout.run.attempt(2).record_file.exists())
    assert time.monotonic() - began >= launches.grace_period_seconds
    assert over(new) == "grace period"
    # It is told, ends, and has sealed nothing since.
    assert old.wait() == 1
    assert old.record().outcome is Outcome.SUPERSEDED
    mark = read_attempt_record(launches.layout.run.attempt(2))
    assert mark is not None
    assert mark.resume is not None
    last = max(int(folder.name.split("-")[1]) for folder in launches.layout.run.attempt(1).checkpoints.glob("*[0-9]"))
    assert last == mark.resume.step
    assert new.process.poll() is None


def test_a_superseded_attempt_that_was_told_nothing_seals_nothing(launches: Launches) -> None:
    (old,) = launches.start(1, plan=LONG)
    sealed_step(old, 10)
    run = launches.layout.run
    mark = read_attempt_record(run.attempt(1))
    assert mark is not None
    run.attempt(2).folder.mkdir()
    write_document(run.attempt(2).record_file, mark.model_copy(update={"attempt": 2}))
    before = {folder.name for folder in run.attempt(1).checkpoints.glob("*[0-9]")}
    assert old.wait() == 1
    assert old.record().outcome is Outcome.SUPERSEDED
    after = {folder.name for folder in run.attempt(1).checkpoints.glob("*[0-9]")}
    assert len(after - before) <= 1  # one may have been sealed just before the other began


def test_an_older_attempt_does_not_begin_after_a_newer_one(launches: Launches) -> None:
    dead_attempt(launches, 2)
    (record,) = launches.run(1)
    assert record.outcome is Outcome.SUPERSEDED
    assert launches.started[-1].process.returncode == 1
    assert not launches.layout.run.attempt(1).record_file.exists()


def test_an_attempt_begins_once(launches: Launches) -> None:
    dead_attempt(launches)
    (record,) = launches.run(1)
    assert record.outcome is Outcome.FAILED
    assert record.failure is not None
    assert "begun before" in record.failure.message


def truncated(folder: Path) -> None:
    os.truncate(folder / "model.safetensors", 1)


def flipped(folder: Path) -> None:
    file = folder / "optimizer.pt"
    content = bytearray(file.read_bytes())
    content[0] ^= 0x80
    file.write_bytes(content)


def missing(folder: Path) -> None:
    (folder / "rng_state_0.pth").unlink()


@pytest.mark.parametrize("damage", [truncated, flipped, missing])
def test_a_broken_checkpoint_is_moved_aside_and_said(launches: Launches, damage: Callable[[Path], None]) -> None:
    good, broken = dead_attempt(launches)
    left_record(launches)
    damage(broken)
    (node,) = launches.start(2)
    progress = begun(node)
    assert progress.resumed_from is not None
    assert progress.resumed_from.step == 10
    assert any("checkpoint-20 was damaged" in message for message in progress.messages)
    assert manifest.problem(good) is None
    assert (launches.layout.run.broken / "attempt-1-checkpoint-20").is_dir()


def test_resume_from_a_path_that_is_none_is_the_users_to_mend(launches: Launches) -> None:
    launches.resume_from = "/output/nothing"
    (record,) = launches.run()
    assert record.failure is not None
    assert record.failure.reason is Reason.CHECKPOINT_NOT_FOUND
    assert "/output/nothing" in record.failure.message


def test_required_stops_before_a_rank_starts_where_the_volume_was_emptied(launches: Launches) -> None:
    launches.resume_from = "required"
    (node,) = launches.start(2, env={Env.CHECKPOINT_STEP.value: "20"})
    assert node.wait() == 1
    failure = node.record().failure
    assert failure is not None
    assert (failure.reason, failure.cause) == (Reason.CHECKPOINT_NOT_FOUND, Cause.USER)
    assert "step 20" in failure.message
    assert "rank 0 of" not in node.text()
    assert not launches.layout.run.attempt(2).record_file.exists()


def test_a_model_that_is_not_finite_ends_the_job_and_not_well(launches: Launches) -> None:
    (record,) = launches.run(1, plan={"nan": True})
    assert record.outcome is Outcome.FAILED
    assert record.failure is not None
    assert (record.failure.reason, record.failure.cause) == (Reason.NON_FINITE, Cause.USER)
    assert record.model_path is None
    assert record.checkpoint is not None
    assert not launches.layout.run.attempt(1).model.exists()


def test_an_earlier_unfinished_run_of_the_same_name_is_continued(launches: Launches) -> None:
    newest = dead_attempt(launches)[1]
    left_record(launches)
    write_document(launches.layout.run.config, launches.config())
    again = Launches(launches.folder, uid="22222222-bbbb")
    again.prepare()
    (node,) = again.start(1)
    try:
        progress = begun(node)
    finally:
        again.close()
    assert progress.resumed_from is not None
    assert progress.resumed_from.path == to_pod_of(launches, newest)
    assert any("earlier, unfinished run" in message for message in progress.messages)


def to_pod_of(launches: Launches, folder: Path) -> str:
    return f"/output/{folder.relative_to(launches.claim)}"


def test_rank_gets_earlier_checkpoint_as_sealed(launches: Launches) -> None:
    """The best one may be older than the attempt: who asks for it must neither wait for ever nor get another one."""
    crash = {"rank": 0, "step": 7, "code": 3, "text": "a crash"}
    launches.run(1, plan={"steps": 9, "save_every": 2, "best": 2, "exit": crash})
    first = launches.layout.run.attempt(1)
    damaged = first.checkpoint(4) / "model.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"?")
    (record,) = launches.run(2, plan={"steps": 9, "save_every": 100, "fetch": [2, 4, 6, 1]})
    assert record.outcome is Outcome.SUCCEEDED
    text = launches.started[-1].text()
    assert f"sealed {to_pod_of(launches, first.checkpoint(2))}" in text
    assert f"sealed {to_pod_of(launches, first.checkpoint(6))}" in text
    assert "not sealed GET /rank/checkpoint/4: 404 the content of model.safetensors has changed" in text
    assert "not sealed GET /rank/checkpoint/1: 404 it is not on the volume" in text
