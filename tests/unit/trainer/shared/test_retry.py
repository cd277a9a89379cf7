"""Tried again with pauses that grow, differ and heed the server; never beyond the deadline or the number of tries."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from finetune_trainer.shared.retry import Backoff, retry_after_seconds, until_done
from tests.support.patience import PATIENCE_SECONDS

BACKOFF = Backoff(first_seconds=2.0, most_seconds=120.0, jitter=(0.5, 1.0))
QUICK = Backoff(first_seconds=0.01, most_seconds=0.02)


class BusyError(Exception):
    """An error that passes; `asked` is the pause that the server asks for."""

    def __init__(self, asked: float = 0.0) -> None:
        super().__init__("it answered 503")
        self.asked = asked


class Flaky:
    """Work that fails so many times, then succeeds."""

    def __init__(self, failures: int, asked: float = 0.0) -> None:
        self.failures = failures
        self.asked = asked
        self.moments: list[float] = []

    def __call__(self) -> str:
        self.moments.append(time.monotonic())
        if len(self.moments) <= self.failures:
            raise BusyError(self.asked)
        return "done"


def may_pass(error: Exception) -> float | None:
    return error.asked if isinstance(error, BusyError) else None


def soon(seconds: float = PATIENCE_SECONDS) -> Backoff:
    return replace(QUICK, deadline=time.monotonic() + seconds)


def test_work_that_fails_is_done_again_and_each_pause_is_told() -> None:
    pauses: list[tuple[str, float]] = []
    work = Flaky(3)
    assert until_done(work, QUICK, may_pass, tell=lambda error, pause: pauses.append((str(error), pause))) == "done"
    assert len(work.moments) == 4
    assert [error for error, _ in pauses] == ["it answered 503"] * 3
    assert all(0.01 <= pause <= 0.025 for _, pause in pauses)


def test_pauses_double_up_to_a_limit_and_differ() -> None:
    for number, most in ((1, 2.0), (2, 4.0), (5, 32.0), (7, 120.0), (5000, 120.0)):
        pauses = [BACKOFF.pause_seconds(number) for _ in range(50)]
        assert all(most / 2 <= pause <= most for pause in pauses)
        assert len(set(pauses)) > 40


def test_pauses_of_five_more_tries_are_1_2_4_8_15_and_up_to_a_quarter() -> None:
    backoff = Backoff(first_seconds=1.0, most_seconds=15.0, tries=6)
    for number, least in enumerate((1.0, 2.0, 4.0, 8.0, 15.0), 1):
        assert all(least <= backoff.pause_seconds(number) <= least * 1.25 for _ in range(50))


def test_the_server_is_given_the_time_that_it_asks_for() -> None:
    work = Flaky(1, asked=0.4)
    assert until_done(work, soon(), may_pass) == "done"
    assert work.moments[1] - work.moments[0] >= 0.4
    assert 400.0 <= BACKOFF.pause_seconds(1, 400.0) < 401.0
    assert BACKOFF.pause_seconds(9, 1.0) >= 60.0, "no shorter than its own"
    assert all(400.0 <= Backoff(1.0, 15.0).pause_seconds(1, 400.0) <= 500.5 for _ in range(50)), "jobs come one by one"


def test_a_server_that_asks_for_too_long_a_pause_is_not_asked_again() -> None:
    work = Flaky(1, asked=901.0)
    with pytest.raises(BusyError):
        until_done(work, replace(QUICK, asked_most_seconds=900.0), may_pass)
    assert len(work.moments) == 1


def test_the_deadline_ends_it() -> None:
    began = time.monotonic()
    with pytest.raises(BusyError):
        until_done(Flaky(10_000), soon(0.3), may_pass)
    assert time.monotonic() - began > 0.25
    work = Flaky(10_000, asked=3600.0)
    with pytest.raises(BusyError):
        until_done(work, soon(0.2), may_pass)
    assert len(work.moments) == 1, "not before the server wants it"


@pytest.mark.parametrize("tries", [1, 3])
def test_the_number_of_tries_ends_it(tries: int) -> None:
    work = Flaky(10_000)
    with pytest.raises(BusyError):
        until_done(work, replace(QUICK, tries=tries), may_pass)
    assert len(work.moments) == tries


def test_tries_are_counted_anew_while_there_is_progress() -> None:
    fetched: list[int] = []

    def cut() -> int:
        if len(fetched) < 10:
            fetched.append(1)
            raise BusyError
        return len(fetched)

    assert until_done(cut, replace(QUICK, tries=2), may_pass, progress=lambda: len(fetched)) == 10


def test_what_does_not_pass_ends_it_at_once() -> None:
    tries = []

    def refused() -> None:
        tries.append(1)
        raise PermissionError("no")

    with pytest.raises(PermissionError, match="no"):
        until_done(refused, QUICK, may_pass)
    assert len(tries) == 1


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "soon"}, None),
        ({"Retry-After": "\xb2"}, None),  # a digit to Python, and no number
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 +99999999999999999999"}, None),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_a_number_or_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_seconds(headers) == seconds


@pytest.mark.parametrize("written", [format_datetime, lambda moment: format_datetime(moment).replace("+0000", "GMT")])
def test_retry_after_may_be_a_date_to_come(written: Callable[[datetime], str]) -> None:
    moment = datetime.now(UTC) + timedelta(seconds=90)
    assert retry_after_seconds({"Retry-After": written(moment)}) == pytest.approx(90, abs=45)
