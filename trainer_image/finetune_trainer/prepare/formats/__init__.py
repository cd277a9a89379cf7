"""Csv, json, jsonl and parquet as Arrow tables, a part at a time, with messages that name file, line and column.

However large a file is, memory holds a block of it. Types are not guessed where a guess could change the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path

import pyarrow as pa

from finetune_trainer.prepare.formats import columnar, delimited, jsons
from finetune_trainer.prepare.formats.columnar import declared_classes
from finetune_trainer.prepare.source import row_place

__all__ = ["READERS", "declared_classes", "places"]

Reader = Callable[[Path, str, Sequence[str], Sequence[str]], Iterator[pa.Table]]
"""From path, name for messages, needed columns and those of them that hold text, to tables of the needed columns."""

READERS: dict[str, Reader] = {
    ".csv": delimited.read,
    ".json": jsons.read,
    ".jsonl": jsons.read_lines,
    ".parquet": columnar.read,
}


def places(path: Path) -> Callable[[int], str]:
    """How a person finds a row of this file: a function from row to `line 17` or `row 16`."""
    suffix = path.suffix.lower()
    if suffix == ".parquet" or (suffix == ".json" and jsons.is_array(path)):
        return row_place

    def line(row: int) -> str:
        numbers = (
            islice((number for _, number in delimited.rows(path, str(path))), 1, None)
            if suffix == ".csv"
            else jsons.lines(path)
        )
        number = next(islice(numbers, row, None), None)
        return row_place(row) if number is None else f"line {number}"

    return line
