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
"""Roles that identify a row: two rows that differ in the label alone are the same."""
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

    def part(self, row_range: RowRange) -> pa.Table:
        """Return some of the rows. A sample is taken a part at a time, or it would be in memory as a whole."""
        if self.order is None:
            return self.table.slice(row_range.start, row_range.stop - row_range.start)
        return splits.take(self.table, self.order[row_range.start : row_range.stop])

    def ranges(self, role: str) -> list[RowRange]:
        """List all parts, in order."""
        of_row = self.table.nbytes / max(1, self.table.num_rows)
        rows = max(1, min(PART_ROWS, int(PART_BYTES / max(1.0, of_row))))
        return [RowRange(role, start, min(start + rows, self.rows)) for start in range(0, self.rows, rows)]


class RowRange(NamedTuple):
    """The rows of a split that a part has."""

    role: str
    start: int
    stop: int


@dataclass(frozen=True)
class Part:
    """The tokens of some rows."""

    row_range: RowRange
    batches: Sequence[pa.RecordBatch]
    digests: Digests
    """A number for each row that equal rows have in common, for as long as this process lives."""
    truncated: int
    truncated_targets: int
    dropped: Mapping[str, int]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the batches as an Arrow stream: a slice goes without the table that it was cut from."""
        sink = pa.BufferOutputStream()
        if self.batches:
            with pa.ipc.new_stream(sink, self.batches[0].schema) as writer:
                for batch in self.batches:
                    writer.write_batch(batch)
        stream = sink.getvalue().to_pybytes()
        return _unpacked, (
            self.row_range,
            stream,
            self.digests,
            self.truncated,
            self.truncated_targets,
            dict(self.dropped),
        )


def _unpacked(row_range: RowRange, stream: bytes, *rest: Any) -> Part:
    return Part(row_range, pa.ipc.open_stream(stream).read_all().to_batches() if stream else (), *rest)


def tokenised(task: Task, taken: Mapping[str, Taken], processes: int) -> Iterator[Part]:
    """Tokenise the parts of all splits, in the order given."""
    ranges = [row_range for role, rows in taken.items() for row_range in rows.ranges(role)]
    return in_order(lambda piece: _part(task, taken[ranges[piece].role], ranges[piece]), len(ranges), processes)


def _part(task: Task, taken: Taken, row_range: RowRange) -> Part:
    rows = taken.part(row_range)
    batches = []
    truncated = targets = 0
    dropped: Counter[str] = Counter()
    for done in task.tokenise(rows, taken.reading):
        if done.batch.num_rows:
            batches.append(_numbered(done.batch, row_range.start))
        truncated += done.truncated
        targets += done.truncated_targets
        dropped.update(done.dropped)
    return Part(row_range, batches, digests(rows), truncated, targets, dropped)


def _numbered(batch: pa.RecordBatch, first: int) -> pa.RecordBatch:
    """Number tokenised rows within the split, where a task has numbered them within the part."""
    index = batch.schema.get_field_index(EXAMPLE)
    if index < 0 or first == 0:
        return batch
    column = batch.column(index)
    moved = pa.array(column.to_numpy(zero_copy_only=False) + first, type=column.type)
    return batch.set_column(index, batch.schema.field(index), moved)


def digests(rows: pa.Table) -> Digests:
    """Return a number for each row, made of the roles in `READ`; none where the rows have no such role."""
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
        """Add a part. Parts of the training data come after all others, which they are compared with."""
        role = part.row_range.role
        if role != splits.TRAIN:
            known = self._known.get(role, part.digests[:0])
            self._known[role] = np.sort(np.concatenate([known, part.digests]))[:OVERLAP_ROWS]
            return
        for other, known in self._known.items():
            if len(known):
                nearest = np.searchsorted(known, part.digests).clip(max=len(known) - 1)
                self.counts[other] += int((known[nearest] == part.digests).sum())
