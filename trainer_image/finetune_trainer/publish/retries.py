"""Tries of the Hub, again and again, until one succeeds or the deadline has come."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.hub.refusals import Passing
from finetune_trainer.shared.retry import Backoff, until_done

T = TypeVar("T")
BACKOFF = Backoff(first_seconds=2.0, most_seconds=120.0, jitter=(0.5, 1.0))
"""The pauses between tries, without the deadline, which the operator sets."""


def until_hub_answers(work: Callable[[], T], backoff: Backoff, say: Callable[[str], None]) -> T:
    """Do the work, and try again after errors that pass. Raise ExpectedError when the deadline has come."""
    started, tries = time.monotonic(), 0

    def one_try() -> T:
        nonlocal tries
        tries += 1
        return work()

    def tell(error: Exception, pause_seconds: float) -> None:
        say(f"try {tries}: {error}; again in {pause_seconds:.0f} s")

    try:
        return until_done(one_try, backoff, _seconds_to_wait, tell=tell)
    except Passing as error:
        raise ExpectedError(
            Reason.HUB_UNAVAILABLE,
            f"The Hub could not be published to for {_duration(time.monotonic() - started)} "
            f"({tries} {'try' if tries == 1 else 'tries'}); the last one: {error}",
            cause=Cause.ERROR,
        ) from error


def _seconds_to_wait(error: Exception) -> float | None:
    return error.retry_after_seconds or 0.0 if isinstance(error, Passing) else None


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
