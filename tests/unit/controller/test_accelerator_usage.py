"""What accelerators were used for, over the life of a job."""

from datetime import UTC, datetime, timedelta
from typing import Any

from finetune_operator.controller.accelerator_usage import Account, Use, account_for
from finetune_operator.plan.types import Manifest

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def at(seconds: float) -> str:
    return (BEGIN + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def pods(attempt: int, *taken: float) -> dict[int, list[datetime]]:
    """Return the times when nodes took in the pods of an attempt, by its number."""
    return {attempt: [BEGIN + timedelta(seconds=seconds) for seconds in taken]}


def attempt(number: int, started: float, **more: Any) -> Manifest:
    return {"phase": "Starting", "attempt": number, "attemptStarted": at(started), **more}


def training(number: int, started: float, begun: float, step: int, updated: float, **more: Any) -> Manifest:
    progress = {"step": step, "updated": at(updated)}
    return attempt(number, started, attemptBegun=at(begun), progress=progress, **{"phase": "Running", **more})


def checkpoint(step: int, time: float) -> Manifest:
    return {"checkpoint": {"step": step, "time": at(time), "path": f"/output/checkpoint-{step}"}}


def life(statuses: list[Manifest], taken: dict[int, list[datetime]]) -> dict[Use, float]:
    """Return the sums over a job's statuses, one after the other."""
    account: Account | None = None
    sums = dict.fromkeys(Use, 0.0)
    for before, after in zip([{}, *statuses], statuses, strict=False):
        settled = account_for(account, before, after, taken)
        account = settled.account
        for use, seconds in settled.seconds.items():
            sums[use] += seconds
    assert account is None or "completionTime" not in statuses[-1]
    return sums


DONE = {"phase": "Succeeded", "model": {"claimName": "c", "path": "p"}, "completionTime": at(101)}


def test_a_run_without_trouble_is_startup_and_productive() -> None:
    statuses = [attempt(1, 0), training(1, 0, 10, 1, 20), training(1, 0, 10, 50, 60, **checkpoint(50, 60))]
    end = {**training(1, 0, 10, 100, 100, **checkpoint(50, 60)), **DONE}
    sums = life([*statuses, end, {**end, "observedGeneration": 2}], pods(1, 4, 6))
    assert sums == {Use.STARTUP: 15, Use.PRODUCTIVE: 80, Use.LOST: 0}


def test_waiting_for_a_node_holds_nothing() -> None:
    sums = life([attempt(1, 0), attempt(1, 0, attemptEnded=at(1800)), attempt(2, 1810)], {})
    assert sums == dict.fromkeys(Use, 0.0)


def test_what_was_not_sealed_when_a_gang_fell_is_lost() -> None:
    first = [attempt(1, 0), training(1, 0, 10, 1, 20), training(1, 0, 10, 50, 60, **checkpoint(40, 50))]
    second = attempt(2, 70, **checkpoint(40, 50), progress={"step": 50, "updated": at(60)}, attemptBegun=None)
    resumed = {"resumedFrom": checkpoint(40, 50)["checkpoint"], **checkpoint(40, 50)}
    again = [training(2, 70, 75, 40, 76, **resumed), training(2, 70, 75, 41, 80, **resumed)]
    end = {**training(2, 70, 75, 100, 140, **resumed), **DONE}
    sums = life([*first, second, *again, end], {**pods(1, 0, 0), **pods(2, 72, 72)})
    assert sums == {Use.STARTUP: 20 + 8, Use.PRODUCTIVE: 30 + 60, Use.LOST: 20}


def test_an_attempt_that_fell_before_its_first_step_was_startup() -> None:
    failed = attempt(1, 0, phase="Failed", completionTime=at(12))
    sums = life([attempt(1, 0), failed, {**failed, "observedGeneration": 2}], pods(1, 2, 2))
    assert sums == {Use.STARTUP: 10, Use.PRODUCTIVE: 0, Use.LOST: 0}


def test_a_gang_that_waits_for_its_next_attempt_is_counted_once() -> None:
    fallen = attempt(1, 0, attemptEnded=at(12))
    sums = life([attempt(1, 0), fallen, {**fallen, "observedGeneration": 2}, attempt(2, 22)], pods(1, 2, 2))
    assert sums[Use.STARTUP] == 10


def test_publishing_holds_no_accelerators() -> None:
    trained = {**training(1, 0, 10, 100, 100), "model": DONE["model"], "phase": "Publishing"}
    published = {**trained, "phase": "Succeeded", "completionTime": at(500)}
    sums = life([attempt(1, 0), training(1, 0, 10, 1, 20), trained, published], pods(1, 5, 5))
    assert sums == {Use.STARTUP: 15, Use.PRODUCTIVE: 80, Use.LOST: 0}


def test_a_new_operator_goes_on_from_the_last_checkpoint() -> None:
    before = training(1, 0, 10, 50, 60, **checkpoint(40, 50))
    after = training(1, 0, 10, 90, 100, **checkpoint(80, 90))
    settled = account_for(None, before, after, pods(1, 0, 0))
    assert settled.seconds == {Use.STARTUP: 0, Use.PRODUCTIVE: 40, Use.LOST: 0}
    assert settled.account == Account(1, BEGIN + timedelta(seconds=90))
