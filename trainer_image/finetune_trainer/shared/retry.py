"""Tries of work that may succeed later: with growing pauses of random length, until a deadline or a number of tries.

The caller says which errors may pass, because it knows its server. Nothing here knows the Hub.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from math import inf
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Backoff:
    """The pauses between tries, and when to give up."""

    first_seconds: float
    most_seconds: float
    factor: float = 2.0
    """The factor by which each pause is longer than the one before."""
    jitter: tuple[float, float] = (1.0, 1.25)
    """The smallest and the largest share of a pause that is waited: many jobs that failed together come back one by one."""
    tries: int | None = None
    """The most tries while there is no progress; None for no limit."""
    deadline: float | None = None
    """The moment of `time.monotonic` after which no try begins; None for none."""
    asked_most_seconds: float = inf
    """The longest pause that a server may ask for: one that asks for a longer one is not asked again."""

    def pause_seconds(self, number: int, asked_seconds: float = 0.0) -> float:
        """Return the wait after try `number` (from 1 on), never shorter than the server asks for."""
        share = random.uniform(*self.jitter)
        own = min(self.most_seconds, self.first_seconds * self.factor ** min(number - 1, 30)) * share
        asked = asked_seconds * max(share, 1.0) + random.uniform(0.0, 0.5) if asked_seconds else 0.0
        return max(own, asked)


def until_done(
    work: Callable[[], T],
    backoff: Backoff,
    may_pass: Callable[[Exception], float | None],
    *,
    tell: Callable[[Exception, float], None] = lambda error, pause_seconds: None,
    progress: Callable[[], object] = lambda: None,
) -> T:
    """Return what `work` returns; do it again after an error that may pass, and raise the last one when it is time to give up.

    `may_pass` returns the seconds that the server asks to wait, 0 where it asks for none, and None for an error that no
    second try mends. `tell` is called before each pause. While `progress` returns another value each time, work that is cut
    has not failed: tries and pauses are counted anew.
    """
    number, before = 1, progress()
    while True:
        try:
            return work()
        except Exception as error:
            asked_seconds = may_pass(error)
            if asked_seconds is None:
                raise
            if (now := progress()) != before:
                number, before = 1, now
            if number == backoff.tries or asked_seconds > backoff.asked_most_seconds:
                raise
            pause_seconds = backoff.pause_seconds(number, asked_seconds)
            if backoff.deadline is not None and pause_seconds >= (left := backoff.deadline - time.monotonic()):
                time.sleep(max(0.0, left))
                raise
            tell(error, pause_seconds)
        time.sleep(pause_seconds)
        number += 1


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Return what the header Retry-After asks for, a number or a date; None where there is none that can be read."""
    value = next((value.strip() for name, value in headers.items() if name.lower() == "retry-after"), "")
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):  # no date, or a time zone of billions of hours
        return None
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
