"""From one attempt to the next: fencing, what is gone on from, what a superseded attempt may still do."""

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.config import Outcome, Reason
from finetune_trainer.launch import manifest
from finetune_trainer.launch.marks import Mark, read_mark
from finetune_trainer.volume import write_document
from tests.support.checkpoints import START, seal
from tests.support.launched import Launches, NodeProcess, free_port, until

pytestmark = pytest.mark.timeout(240)

LONG: dict[str, Any] = {"steps": 2000, "step_seconds": 0.05, "save_every": 10, "wait_sealed": False}
SHORT: dict[str, Any] = {"steps": 22, "save_every": 11}


def sealed_step(node: NodeProcess, step: int) -> None:
    until(lambda: (seen := node.progress()) and seen.checkpoint and seen.checkpoint.step >= step)


def over(node: NodeProcess) -> str:
    """How the launch of a node saw that node 0 of the attempt before was over."""
    event = next(line for line in node.text().splitlines() if "earlier attempt is over" in line)
    return str(json.loads(event)["nodes"]["0"])


def test_after_sigkill_the_next_attempt_goes_on_from_the_newest_checkpoint(launches: Launches) -> None:
    (first,) = launches.start(1, plan=LONG)
    sealed_step(first, 10)
    os.killpg(first.process.pid, signal.SIGKILL)
    first.wait()
    newest = max(int(one.name.split("-")[1]) for one in launches.layout.run.attempt(1).checkpoints.glob("*[0-9]"))
    began = time.monotonic()
    (second,) = launches.start(2, plan={"steps": newest + 2, "save_every": 1})
    until(lambda: launches.layout.run.attempt(2).mark.exists())
    assert time.monotonic() - began > 4
    assert over(second) == "unreachable"
    assert second.wait() == 0
    assert f"starting after step {newest}" in second.text()
    mark = read_mark(launches.layout.run.attempt(2))
    assert mark is not None
    assert mark.resume is not None
    assert mark.resume.step == newest
    assert mark.resume.path.startswith("/output/")
    # Rotation took the first attempt's: newer ones are sealed.
    assert list(launches.layout.run.attempt(1).checkpoints.iterdir()) == []


def test_a_record_lets_the_next_attempt_begin_at_once_and_is_passed_on(launches: Launches) -> None:
    failure = {"reason": "OutOfMemory", "cause": "error", "message": "CUDA out of memory"}
    launches.run(1, plan=SHORT | {"fail": {"rank": 0, "step": 12, "failure": failure}})
    (second,) = launches.start(2, plan=SHORT)
    progress = until(lambda: (seen := second.progress()) and seen.begun and seen)
    assert over(second) == "record"
    assert [record.failure.reason for record in progress.earlier if record.failure] == [Reason.OUT_OF_MEMORY]
    assert second.wait() == 0
    assert "starting after step 11" in second.text()


def test_an_attempt_that_still_answers_is_left_its_grace_period_then_superseded(launches: Launches) -> None:
    launches.grace_period_seconds = 8
    (old,) = launches.start(1, plan=LONG)
    sealed_step(old, 10)
    began = time.monotonic()
    (new,) = launches.start(2, plan={"steps": 5000, "step_seconds": 0.05, "save_every": 5000})
    until(lambda: launches.layout.run.attempt(2).mark.exists())
    assert time.monotonic() - began >= launches.grace_period_seconds
    assert over(new) == "grace period"
    # It is told, ends, and has sealed nothing since.
    assert old.wait() == 1
    assert old.record().outcome is Outcome.SUPERSEDED
    mark = read_mark(launches.layout.run.attempt(2))
    assert mark is not None
    assert mark.resume is not None
    last = max(int(one.name.split("-")[1]) for one in launches.layout.run.attempt(1).checkpoints.glob("*[0-9]"))
    assert last == mark.resume.step
    assert new.process.poll() is None


def test_a_superseded_attempt_that_was_told_nothing_seals_nothing(launches: Launches) -> None:
    (old,) = launches.start(1, plan=LONG)
    sealed_step(old, 10)
    run = launches.layout.run
    mark = read_mark(run.attempt(1))
    assert mark is not None
    run.attempt(2).folder.mkdir()
    write_document(run.attempt(2).mark, mark.model_copy(update={"attempt": 2}))
    before = {one.name for one in run.attempt(1).checkpoints.glob("*[0-9]")}
    assert old.wait() == 1
    assert old.record().outcome is Outcome.SUPERSEDED
    after = {one.name for one in run.attempt(1).checkpoints.glob("*[0-9]")}
    assert len(after - before) <= 1  # one may have been sealed just before the other began


def test_an_older_attempt_does_not_begin_after_a_newer_one(launches: Launches) -> None:
    launches.run(2, plan=SHORT | {"steps": 1})
    (record,) = launches.run(1)
    assert record.outcome is Outcome.SUPERSEDED
    assert launches.started[-1].process.returncode == 1
    assert not launches.layout.run.attempt(1).mark.exists()


def test_an_attempt_begins_once(launches: Launches) -> None:
    launches.run(1, plan=SHORT | {"steps": 1, "exit": {"rank": 0, "step": 1, "code": 1, "text": ""}})
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


def dead_attempt(launches: Launches) -> tuple[Path, Path]:
    """An attempt 1 that nobody answers for, with two checkpoints."""
    run = launches.layout.run
    mark = Mark(
        uid=launches.uid,
        attempt=1,
        begun=START,
        addresses=(f"127.0.0.1:{free_port()}",),
        grace_period_seconds=0,
        world_size=1,
    )
    run.attempt(1).folder.mkdir(parents=True)
    write_document(run.attempt(1).mark, mark)
    first, second = seal(run, 1, 10), seal(run, 1, 20)
    return first, second


@pytest.mark.parametrize("damage", [truncated, flipped, missing])
def test_a_broken_checkpoint_is_moved_aside_and_said(launches: Launches, damage: Callable[[Path], None]) -> None:
    good, broken = dead_attempt(launches)
    damage(broken)
    (node,) = launches.start(2, plan={"steps": 0})
    progress = until(lambda: (seen := node.progress()) and seen.begun and seen)
    assert progress.resumed_from is not None
    assert progress.resumed_from.step == 10
    assert any("checkpoint-20 was damaged" in message for message in progress.messages)
    assert manifest.problem(good) is None
    assert (launches.layout.run.broken / "attempt-1-checkpoint-20").is_dir()
    node.process.send_signal(signal.SIGTERM)
    node.wait()


def test_resume_from_a_path_that_is_none_is_the_users_to_mend(launches: Launches) -> None:
    launches.resume_from = "/output/nothing"
    (record,) = launches.run()
    assert record.failure is not None
    assert record.failure.reason is Reason.CHECKPOINT_NOT_FOUND
    assert "/output/nothing" in record.failure.message


def test_an_earlier_unfinished_run_of_the_same_name_is_continued(launches: Launches) -> None:
    launches.run(1, plan=SHORT | {"exit": {"rank": 0, "step": 12, "code": 1, "text": ""}})
    again = Launches(launches.folder, uid="22222222-bbbb")
    again.prepare()
    try:
        (record,) = again.run(1, plan=SHORT)
        assert record.outcome is Outcome.SUCCEEDED
        assert "starting after step 11" in again.started[0].text()
        assert any("earlier, unfinished run" in message for message in record.messages)
        # A third object of that name finds a finished run: it trains from the start.
        third = Launches(launches.folder, uid="33333333-cccc")
        third.prepare()
        third.run(1, plan={"steps": 1})
        assert "starting after step 0" in third.started[0].text()
    finally:
        again.close()
