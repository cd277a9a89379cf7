"""Readers of values that others wrote into a Kubernetes object: a value of a wrong form counts as absent. Pure.

A tenant edits labels and annotations, and the messages of his containers stand in their pods' status; none of them may raise.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

from finetune_operator.plan.types import Manifest
from finetune_trainer.contract.text import printable

WORD_MAX = 253
"""Characters of a name or a reason."""
MESSAGE_MAX = 4096
"""Characters of a message: a termination message has as many bytes."""
ITEMS_MAX = 64
"""Containers, conditions or owners of one object."""
NUMBER_MAX = 2**31 - 1
_EARLIEST, _LATEST = datetime(2000, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
"""Bounds of times that can be reckoned with."""


def mapping(value: object) -> Manifest:
    """Return an object; empty where the value is none."""
    return value if isinstance(value, dict) else {}


def mappings(value: object) -> Iterator[Manifest]:
    """Yield the objects of a list."""
    items = value[:ITEMS_MAX] if isinstance(value, list | tuple) else ()
    return (item for item in items if isinstance(item, dict))


def word(value: object) -> str:
    """Return a name or a reason; empty where there is none."""
    return printable(value, WORD_MAX) if isinstance(value, str) else ""


def message(value: object) -> str:
    """Return a text of some lines; empty where there is none."""
    return printable(value, MESSAGE_MAX, lines=True) if isinstance(value, str) else ""


def integer(value: object) -> int | None:
    """Return a number of 32 bits, as Kubernetes has them; None where there is none."""
    fits = isinstance(value, int) and not isinstance(value, bool) and -NUMBER_MAX <= value <= NUMBER_MAX
    return value if fits and isinstance(value, int) else None


def count(text: object) -> int | None:
    """Return a number from 0 in plain digits, as labels and annotations have it; None where there is none."""
    plain = isinstance(text, str) and len(text) <= 9 and text.isascii() and text.isdigit()
    return int(text) if plain and isinstance(text, str) else None


def moment(value: object) -> datetime | None:
    """Return a time; one without a zone is UTC, None where there is none."""
    if not isinstance(value, str):
        return None
    try:
        time = datetime.fromisoformat(value)
    except ValueError:
        return None
    time = time if time.tzinfo is not None else time.replace(tzinfo=UTC)
    return time if _EARLIEST <= time <= _LATEST else None
