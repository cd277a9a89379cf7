"""Columns that a reader is asked for, and columns of prepared rows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

LABELS, LENGTH = "labels", "length"
"""Columns of prepared rows that every task writes: what is to be learnt, and tokens per row (for grouping)."""
OWN = "_"
"""Prefix of columns that are not for the model, but for metrics and predictions."""
IGNORED_LABEL = -100
"""The label that losses, metrics and the count of items leave out."""


@dataclass(frozen=True)
class ColumnRequest:
    """The columns that a reader is to find."""

    columns: tuple[str, ...]
    """The needed columns; `translation.en` is a key of the objects in a column."""
    text: tuple[str, ...] = ()
    """The needed columns that hold text (or lists of it): no reader may take `007` for a number."""
    field: str | None = None
    """Key of a json document that holds the rows."""
    nested: tuple[str, ...] = ()
    """The needed columns that hold lists and objects of any shape: files are read with these as JSON text."""
    optional: tuple[str, ...] = ()
    """The needed columns that may be absent: then they are null in all rows."""
    beside: tuple[str, ...] = ()
    """Columns that have a meaning beside the needed ones, but are not read: the user is told where the data has them."""
    tell: Callable[[str], None] = lambda _: None
    """The function that takes messages for the user about how a file was read."""
