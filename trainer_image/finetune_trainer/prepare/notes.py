"""What there is to note of one try to prepare, and what an earlier try of the run has left."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from finetune_trainer.contract.prepared import Prepared
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.text import log_line
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.volume import Layout, read_checked

P = TypeVar("P", bound=Prepared)
GONE = frozenset(
    {
        Reason.HUB_UNAVAILABLE,
        Reason.ACCESS_DENIED,
        Reason.FILE_NOT_FOUND,
        Reason.DATASET_NOT_FOUND,
        Reason.MODEL_NOT_FOUND,
    }
)
"""Reasons why model and data can't be looked at again, which are no reason to lose what was prepared of them."""


@dataclass
class Notes:
    """What there is to note of this try."""

    messages: list[str] = field(default_factory=list)
    """Messages about what it took: a wait, room that was made, data that was damaged."""
    sound: set[Path] = field(default_factory=set)
    """Folders on the claim of which every byte was read, and was as it was sealed."""

    def say(self, text: str) -> None:
        self.messages.append(text)
        say(text)


def say(text: str) -> None:
    """Write one line of the log."""
    log_line("prepare", text)


def with_messages(prepared: P, messages: tuple[str, ...]) -> P:
    """Add what concerns this try alone: it is not kept on the volume."""
    return prepared.model_copy(update={"messages": (*messages, *prepared.messages)})


def resolved_or_earlier(resolve: Callable[[], P], earlier: P | None, notes: Notes) -> P:
    """Return what model and data are now; what an earlier try has left, with a note, where they can't be looked at."""
    try:
        return resolve()
    except ExpectedError as error:
        if earlier is None or error.reason not in GONE:
            raise
        notes.say(f"Whether model and data have changed is not known: {error} What was prepared of them is used.")
        return earlier


def left_by_earlier_try(layout: Layout, kind: type[P]) -> P | None:
    """Read what an earlier try of this run has left; what can't be read is prepared again."""
    try:
        return read_checked(layout.run.prepared, kind)
    except (OSError, ValueError):
        return None
