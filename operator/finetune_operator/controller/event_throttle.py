"""How many events one job may have: a burst, then one now and then. Knows no clock and no events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from finetune_operator.plan.types import EventNote

BURST = 25
EACH_SECONDS = 20.0
LEFT_OUT = EventNote(
    "Warning",
    "EventsLeftOut",
    "the job's pods say more than is posted as events; the newest of it is in `status.messages` and in the conditions",
)


@dataclass
class Allowance:
    """Of the events that a job's pods cause. Its transitions are few, and always told."""

    left: float = BURST
    at: float = 0.0
    """When `left` was right, on the monotonic clock."""
    told: bool = False
    """Whether it was said that some were left out."""

    def spend(self, notes: Sequence[EventNote], now: float) -> tuple[EventNote, ...]:
        """Those of `notes` that may be posted."""
        self.left, self.at = min(BURST, self.left + (now - self.at) / EACH_SECONDS), now
        posted = []
        for note in notes:
            if note.minor and self.left < 1:
                if not self.told:
                    self.told = True
                    posted.append(LEFT_OUT)
                continue
            self.left -= note.minor
            posted.append(note)
        return tuple(posted)
