"""Prepared rows as a torch data set: Arrow files mapped into memory, shared by the ranks of a node."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from torch.utils.data import Dataset

from finetune_trainer.train.order import real

IGNORED_LABEL = -100
"""What torch's losses and the Trainer's count of items leave out."""
LENGTH, LABELS = "length", "labels"


class Rows(Dataset[dict[str, Any]]):
    """Rows of one split; index `-1 - row` is a row whose label does not count."""

    def __init__(self, table: pa.Table, order: npt.NDArray[np.int64] | None = None) -> None:
        self._table = table
        self._order = order
        self._names = [name for name in table.column_names if name != LENGTH]
        # `Table.take` would copy whole columns of lists together for each batch: find the chunk, then slice it.
        self._chunks = table.to_batches()
        self._starts = np.cumsum([0, *(chunk.num_rows for chunk in self._chunks)])

    @classmethod
    def from_file(cls, path: Path) -> Rows:
        with pa.memory_map(str(path)) as source:
            return cls(pa.ipc.open_stream(source).read_all())

    def ordered(self, order: npt.NDArray[np.int64]) -> Rows:
        """The same rows, index i standing for row `order[i]`."""
        return Rows(self._table, order)

    @property
    def lengths(self) -> npt.NDArray[np.int32]:
        """Tokens of each row."""
        lengths: npt.NDArray[np.int32] = self._table.column(LENGTH).to_numpy()
        return lengths

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number, counts = real(index)
        if self._order is not None:
            number = int(self._order[number])
        place = int(np.searchsorted(self._starts, number, side="right")) - 1
        chunk, offset = self._chunks[place], number - int(self._starts[place])
        row = {name: _value(chunk.column(name), offset) for name in self._names}
        return row if counts else {**row, LABELS: IGNORED_LABEL}

    def __getitems__(self, indices: Sequence[int]) -> list[dict[str, Any]]:
        """What torch's fetcher calls for a whole batch."""
        return [self[int(index)] for index in indices]


def _value(column: pa.Array, offset: int) -> Any:
    if pa.types.is_list(column.type):
        return column.slice(offset, 1).flatten().to_numpy().tolist()
    return column[offset].as_py()
