"""Rows become tokens on several cores, part by part: order and result are the same whatever their number.

Knows nothing of files. Parts are cut by the content alone, and no more than a few of them are in memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from finetune_trainer.prepare import splits
from finetune_trainer.prepare.workers import in_order

if TYPE_CHECKING:
    from finetune_trainer.tasks.task import Reading, Task

PART_ROWS = 5_000
PART_BYTES = 8 << 20
"""The size of a part, before its rows become tokens: a book in each row makes smaller parts."""
EXAMPLE = "_example"
READ = ("text", "text_pair", "words", "question", "context", "source", "prompt", "messages", "tools")
"""Roles that say which row it is; two rows that differ in the label alone are the same."""
OVERLAP_ROWS = 5_000_000
"""Rows of a split that training rows are compared with, at most: 40 MB."""
Digests = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Taken:
    """The rows of one split that a run uses."""

    table: pa.Table
    order: splits.Indices | None
    """Rows to take; None for all."""
    reading: Reading

    @property
    def rows(self) -> int:
        return self.table.num_rows if self.order is None else len(self.order)

    def part(self, place: RowRange) -> pa.Table:
        """Return some of the rows. A sample is taken a part at a time, or it would be in memory as a whole."""
        if self.order is None:
            return self.table.slice(place.start, place.stop - place.start)
        return splits.take(self.table, self.order[place.start : place.stop])

    def places(self, role: str) -> list[RowRange]:
        """List all parts, in order."""
        of_row = self.table.nbytes / max(1, self.table.num_rows)
        rows = max(1, min(PART_ROWS, int(PART_BYTES / max(1.0, of_row))))
        return [RowRange(role, start, min(start + rows, self.rows)) for start in range(0, self.rows, rows)]


class RowRange(NamedTuple):
    """Which rows a part has."""

    role: str
    start: int
    stop: int


@dataclass(frozen=True)
class Part:
    """The tokens of some rows."""

    place: RowRange
    batches: Sequence[pa.RecordBatch]
    digests: Digests
    """A number for each row that equal rows have in common, for as long as this process lives."""
    truncated: int
    truncated_targets: int
    dropped: Mapping[str, int]

    def __reduce__(self) -> tuple[Any, ...]:
        """Travel from process to process as an Arrow stream: a slice without what it was cut from."""
        sink = pa.BufferOutputStream()
        if self.batches:
            with pa.ipc.new_stream(sink, self.batches[0].schema) as writer:
                for batch in self.batches:
                    writer.write_batch(batch)
        stream = sink.getvalue().to_pybytes()
        return _unpacked, (self.place, stream, self.digests, self.truncated, self.truncated_targets, dict(self.dropped))


def _unpacked(place: RowRange, stream: bytes, *rest: Any) -> Part:
    return Part(place, pa.ipc.open_stream(stream).read_all().to_batches() if stream else (), *rest)


def tokenised(task: Task, taken: Mapping[str, Taken], processes: int) -> Iterator[Part]:
    """Tokenise the parts of all splits, in the order given."""
    places = [place for role, rows in taken.items() for place in rows.places(role)]
    return in_order(lambda piece: _part(task, taken[places[piece].role], places[piece]), len(places), processes)


def _part(task: Task, taken: Taken, place: RowRange) -> Part:
    rows = taken.part(place)
    batches = []
    truncated = targets = 0
    dropped: Counter[str] = Counter()
    for done in task.tokenise(rows, taken.reading):
        if done.batch.num_rows:
            batches.append(_numbered(done.batch, place.start))
        truncated += done.truncated
        targets += done.truncated_targets
        dropped.update(done.dropped)
    return Part(place, batches, digests(rows), truncated, targets, dropped)


def _numbered(batch: pa.RecordBatch, first: int) -> pa.RecordBatch:
    """Give tokenised rows the numbers of the split where a task wrote those of the part."""
    index = batch.schema.get_field_index(EXAMPLE)
    if index < 0 or first == 0:
        return batch
    column = batch.column(index)
    moved = pa.array(column.to_numpy(zero_copy_only=False) + first, type=column.type)
    return batch.set_column(index, batch.schema.field(index), moved)


def digests(rows: pa.Table) -> Digests:
    """Return a number for each row, of what it reads; none where no role says that."""
    columns = [_hashable(rows.column(role).to_pylist()) for role in READ if role in rows.column_names]
    return np.array([hash(values) for values in zip(*columns, strict=True)], dtype=np.int64)


def _hashable(values: list[Any]) -> list[Any]:
    return values if not values or isinstance(values[0], str) else [repr(value) for value in values]


class Overlap:
    """Training rows that other splits have too: counted while they pass, in memory that is bounded."""

    def __init__(self) -> None:
        self._known: dict[str, Digests] = {}
        self.counts: Counter[str] = Counter()

    def add(self, part: Part) -> None:
        """Add a part. Those of the training data come after those that they are compared with."""
        role = part.place.role
        if role != splits.TRAIN:
            known = self._known.get(role, part.digests[:0])
            self._known[role] = np.sort(np.concatenate([known, part.digests]))[:OVERLAP_ROWS]
            return
        for other, known in self._known.items():
            if len(known):
                place = np.searchsorted(known, part.digests).clip(max=len(known) - 1)
                self.counts[other] += int((known[place] == part.digests).sum())
