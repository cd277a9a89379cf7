"""The Hub is asked again until the deadline, and what it says is told."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta

import pytest

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.publish.publish_run import deadline_of
from finetune_trainer.publish.retries import BACKOFF, until_hub_answers
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.hub.refusals import Passing
from finetune_trainer.shared.retry import Backoff
from tests.support.patience import PATIENCE_SECONDS
from tests.support.published import MOMENT, config


class Flaky:
    """Work that fails so many times, then succeeds."""

    def __init__(self, failures: int, retry_after_seconds: float | None = None) -> None:
        self.failures = failures
        self.retry_after_seconds = retry_after_seconds
        self.moments: list[float] = []

    def __call__(self) -> str:
        self.moments.append(time.monotonic())
        if len(self.moments) <= self.failures:
            raise Passing("it answered 503", self.retry_after_seconds)
        return "done"


def soon(seconds: float = PATIENCE_SECONDS) -> Backoff:
    return replace(BACKOFF, deadline=time.monotonic() + seconds, first_seconds=0.01, most_seconds=0.05)


def test_it_is_done_when_it_works() -> None:
    messages: list[str] = []
    assert until_hub_answers(Flaky(3), soon(), messages.append) == "done"
    assert [line.split(";")[0] for line in messages] == [f"try {n}: it answered 503" for n in (1, 2, 3)]


def test_the_hub_is_given_the_time_that_it_asks_for() -> None:
    work = Flaky(1, retry_after_seconds=0.4)
    assert until_hub_answers(work, soon(), lambda _: None) == "done"
    assert work.moments[1] - work.moments[0] >= 0.4


def test_the_deadline_ends_it() -> None:
    began = time.monotonic()
    with pytest.raises(ExpectedError) as raised:
        until_hub_answers(Flaky(10_000), soon(0.3), lambda _: None)
    assert time.monotonic() - began > 0.25
    assert (raised.value.reason, raised.value.cause) == (Reason.HUB_UNAVAILABLE, Cause.ERROR)
    assert "it answered 503" in str(raised.value)
    work = Flaky(10_000, retry_after_seconds=3600)
    with pytest.raises(ExpectedError):
        until_hub_answers(work, soon(0.2), lambda _: None)
    assert len(work.moments) == 1, "not before the Hub wants it"


def test_what_does_not_pass_ends_it_at_once() -> None:
    tries = []

    def refused() -> None:
        tries.append(1)
        raise ExpectedError(Reason.ACCESS_DENIED, "no")

    with pytest.raises(ExpectedError, match="no"):
        until_hub_answers(refused, soon(), lambda _: None)
    assert len(tries) == 1


def test_the_deadline_is_the_operators() -> None:
    run = config("/output", publish={"repo_id": "me/x", "deadline_seconds": 60})
    assert deadline_of(run, None, MOMENT) == MOMENT + timedelta(seconds=60)
    assert deadline_of(run, "2026-03-01T12:00:05Z", MOMENT) == MOMENT + timedelta(seconds=5)
    assert deadline_of(run, "2026-03-01T12:00:05", MOMENT) == MOMENT + timedelta(seconds=5)
