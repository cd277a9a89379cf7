"""Again and again until it is done, or the deadline is there: backoff with jitter, and what the Hub asks for."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.hub.errors import Passing

T = TypeVar("T")


@dataclass(frozen=True)
class Patience:
    """How long is waited between tries, and until when."""

    deadline: float
    """As `time.monotonic` counts."""
    first_seconds: float = 2.0
    most_seconds: float = 120.0

    def pause_seconds(self, number: int, asked: float | None) -> float:
        """The wait after try `number`: doubled each time, a part of it by chance, never less than the Hub asks for."""
        backoff = min(self.most_seconds, self.first_seconds * 2.0 ** min(number - 1, 30))
        return max(backoff * random.uniform(0.5, 1.0), 0.0 if asked is None else asked + random.uniform(0.0, 0.5))


def until_done(work: Callable[[], T], patience: Patience, say: Callable[[str], None]) -> T:
    """Do the work; where it meets what passes, again. ExpectedError when the deadline has come."""
    started = time.monotonic()
    for number in count(1):
        try:
            return work()
        except Passing as error:
            pause, left = (
                patience.pause_seconds(number, error.retry_after_seconds),
                patience.deadline - time.monotonic(),
            )
            if pause >= left:
                time.sleep(max(0.0, left))
                raise ExpectedError(
                    Reason.HUB_UNAVAILABLE,
                    f"The Hub could not be published to for {_lasting(time.monotonic() - started)} "
                    f"({number} {'try' if number == 1 else 'tries'}); the last one: {error}",
                    cause=Cause.ERROR,
                ) from error
            say(f"try {number}: {error}; again in {pause:.0f} s")
            time.sleep(pause)
    raise AssertionError("unreachable")


def _lasting(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.1f} hours"
