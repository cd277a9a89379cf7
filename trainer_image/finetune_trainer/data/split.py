"""Rows of one split as an Arrow table, and the place that each came from.

The one shape in which data travels inside `prepare`, wherever it was read from.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(frozen=True)
class Source:
    """A part of a split: a file, or the whole split of a Hub dataset."""

    name: str
    """The name in messages: a path, or `split 'train' of yelp_review_full`."""
    rows: int
    place: Callable[[int], str]
    """Row of this part, from 0, -> its place for a person: `line 17`, `row 16`."""

    def sliced(self, start: int, stop: int) -> Source:
        """Return some of its rows; their places stay what they are."""
        return Source(self.name, stop - start, lambda row: self.place(row + start))


@dataclass(frozen=True)
class Split:
    """A split as it was read, columns as they are called in the data."""

    table: pa.Table
    sources: tuple[Source, ...]
    class_names: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Column -> names of its classes, where the dataset declares them."""
    picked: npt.NDArray[np.int64] | None = None
    """Rows of the sources that the table holds, where it does not hold all of them."""
    untyped: bool = False
    """Whether its files know text alone (csv, tsv): `1` may be a number or not."""
    messages: tuple[str, ...] = ()
    """Messages for the user about how the split was read."""

    def place(self, row: int) -> str:
        """Name where a row of the split came from: `/data/train.csv, line 17`."""
        if self.picked is not None:
            row = int(self.picked[row])
        for source in self.sources:
            if row < source.rows:
                return f"{source.name}, {source.place(row)}"
            row -= source.rows
        raise IndexError(row)

    @property
    def name(self) -> str:
        """What messages call the split as a whole."""
        first = self.sources[0].name
        return first if len(self.sources) == 1 else f"{first} and {len(self.sources) - 1} more files"

    @property
    def lists(self) -> str:
        """Advice on how to write a column of lists in such data, for columns that hold something else."""
        if self.untyped:
            return "Csv has no lists: use json lines or parquet"
        return 'Write each as a list, ["a", "b"] (in Python text.split() or ast.literal_eval makes one of text)'

    def sliced(self, start: int, stop: int) -> Split:
        """Return some of its rows; their places stay what they are."""
        kept, first = [], 0
        for source in self.sources:
            begins, ends = max(start - first, 0), min(stop - first, source.rows)
            if begins < ends:
                kept.append(source.sliced(begins, ends))
            first += source.rows
        return replace(self, table=self.table.slice(start, stop - start), sources=tuple(kept))


def row_place(row: int) -> str:
    """Name a place in a part that has no lines: rows counted from 0, as in Python."""
    return f"row {row}"
