"""Prepared rows as a torch data set: Arrow files mapped into memory, shared by the ranks of a node."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch.utils.data import Dataset

from finetune_trainer.data.column_request import IGNORED_LABEL, LABELS, LENGTH, OWN
from finetune_trainer.data.sampler import Pick

DRAW = "_draw"
"""`(epoch, row)`: the seed of what a collator draws for a row, the same whatever rank has it."""


class PreparedDataset(Dataset[dict[str, Any]]):
    """Rows of one split. An index is a `Pick`, or the number of a row."""

    def __init__(
        self, table: pa.Table, order: npt.NDArray[np.int64] | None = None, columns: Collection[str] | None = None
    ) -> None:
        self._table = table
        self._order = order
        self._columns = columns
        names = [name for name in table.column_names if name != LENGTH and not name.startswith(OWN)]
        self._names = [name for name in names if columns is None or name in columns or name == LABELS]
        # `Table.take` would copy whole columns of lists together for each batch: find the chunk, then slice it.
        self._chunks = table.to_batches()
        self._starts = np.cumsum([0, *(chunk.num_rows for chunk in self._chunks)])

    @classmethod
    def from_file(cls, path: Path) -> PreparedDataset:
        with pa.memory_map(str(path)) as source:
            return cls(pa.ipc.open_stream(source).read_all())

    def ordered(self, order: npt.NDArray[np.int64]) -> PreparedDataset:
        """Return the same rows, index i standing for row `order[i]`."""
        return PreparedDataset(self._table, order, self._columns)

    def reading(self, columns: Collection[str]) -> PreparedDataset:
        """Return the same rows with the labels and, of the other columns, only those that are arguments of a model."""
        return PreparedDataset(self._table, self._order, columns)

    @property
    def columns(self) -> Collection[str]:
        """Columns that a model takes; these rows give those that they have."""
        return self._table.column_names if self._columns is None else self._columns

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        """Tokens of each row of the file."""
        lengths: npt.NDArray[np.int32] = self._table.column(LENGTH).to_numpy()
        return lengths

    def number(self, index: int) -> int:
        """Return the row of the file that an index stands for."""
        return index if self._order is None else int(self._order[index])

    def own(self, index: int, name: str) -> Any:
        """Return a value that a task has kept beside a row, in a column of its own."""
        chunk, offset = self._chunk_of(self.number(index))
        return chunk.column(name)[offset].as_py()

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, index: int | Pick) -> dict[str, Any]:
        pick = index if isinstance(index, Pick) else Pick(int(index))
        number = self.number(pick.row)
        chunk, offset = self._chunk_of(number)
        row = {name: _value(chunk.column(name), offset) for name in self._names}
        row[DRAW] = (pick.epoch, number)
        return row if pick.counts else {**row, LABELS: _ignored(row[LABELS])}

    def __getitems__(self, indices: Sequence[int | Pick]) -> list[dict[str, Any]]:
        """Return a whole batch to torch's fetcher."""
        return [self[index] for index in indices]

    def _chunk_of(self, number: int) -> tuple[pa.RecordBatch, int]:
        chunk = int(np.searchsorted(self._starts, number, side="right")) - 1
        return self._chunks[chunk], number - int(self._starts[chunk])


class Collator:
    """A task's collator, given the columns that it takes; an object, because loader processes need to unpickle it."""

    def __init__(self, collate: Any, *, keep_draw: bool) -> None:
        self._collate = collate
        self._keep_draw = keep_draw

    def __call__(self, rows: list[dict[str, Any]]) -> Any:
        if not self._keep_draw:
            rows = [{name: value for name, value in row.items() if name != DRAW} for row in rows]
        return self._collate(rows)


def _value(column: pa.Array, offset: int) -> Any:
    if pa.types.is_list(column.type):
        return column.slice(offset, 1).flatten().to_numpy().tolist()
    return column[offset].as_py()


def _ignored(labels: Any) -> Any:
    return [IGNORED_LABEL] * len(labels) if isinstance(labels, list) else type(labels)(IGNORED_LABEL)
