"""The number of events that one job may post: a burst, then one every 20 seconds. Knows no clock and no events."""

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
    """Allowance for events that a job's pods cause. Events of its own transitions are few and are always posted."""

    left: float = BURST
    at: float = 0.0
    """Time at which `left` was right, on the monotonic clock."""
    left_out_posted: bool = False
    """Whether the event `LEFT_OUT` was posted."""

    def spend(self, notes: Sequence[EventNote], now: float) -> tuple[EventNote, ...]:
        """Return the notes that may be posted."""
        self.left, self.at = min(BURST, self.left + (now - self.at) / EACH_SECONDS), now
        posted = []
        for note in notes:
            if note.minor and self.left < 1:
                if not self.left_out_posted:
                    self.left_out_posted = True
                    posted.append(LEFT_OUT)
                continue
            self.left -= note.minor
            posted.append(note)
        return tuple(posted)
