"""Csv, tsv, json, jsonl, text, parquet and arrow as Arrow tables, a part at a time, with messages that name file, line and column.

However large a file is, memory holds a block of it. Types are not guessed where a guess could change the text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import PurePosixPath

import pyarrow as pa

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.column_request import ColumnRequest
from finetune_trainer.data.data_errors import names
from finetune_trainer.data.split import row_place
from finetune_trainer.prepare.content import COMPRESSIONS, Content, kind_of
from finetune_trainer.prepare.formats import columnar, columns, delimited, jsons, lines
from finetune_trainer.prepare.formats.columnar import declared_classes
from finetune_trainer.shared.failures import ExpectedError

__all__ = ["READERS", "UNTYPED", "declared_classes", "places", "read", "unknown_kind"]

Reader = Callable[[Content, ColumnRequest], Iterator[pa.Table]]
"""A function from a file to tables of the needed columns."""

READERS: dict[str, Reader] = {
    ".csv": delimited.read,
    ".tsv": delimited.read,
    ".json": jsons.read,
    ".jsonl": jsons.read_lines,
    ".txt": lines.read,
    ".parquet": columnar.read,
    ".arrow": columnar.read_arrow,
}
UNTYPED = tuple(delimited.SEPARATORS)
"""Kinds of files whose values are all text."""
PACKED = (".csv", ".tsv", ".json", ".jsonl", ".txt")
"""Kinds that may be compressed as a whole; the others compress within."""


def unknown_kind(name: str) -> str | None:
    """Say why a file of this name cannot be read."""
    kind, packed = kind_of(name), PurePosixPath(name).suffix.lower() in COMPRESSIONS
    if kind in READERS and (not packed or kind in PACKED):
        return None
    if kind in READERS:
        return f"cannot read {kind} that is packed as a whole; unpack it"
    kind_name = kind or ("a packed file of an unknown kind" if packed else "a file without suffix")
    return f"cannot read {kind_name}; use {names(list(READERS))}, the text formats also packed as {names(list(COMPRESSIONS))}"


def read(content: Content, asked: ColumnRequest) -> Iterator[pa.Table]:
    """Read the rows of a file: all columns that are asked for."""
    if asked.field is not None and content.kind != ".json":
        raise ExpectedError(
            Reason.DATA_INVALID,
            f"{content.name}: spec.dataset.field is {asked.field!r}, and only a document whose name ends in .json has "
            "keys that hold rows. Leave it out.",
        )
    return (columns.completed(table, asked) for table in READERS[content.kind](content, asked))


def places(content: Content, asked: ColumnRequest) -> Callable[[int], str]:
    """Return the function that tells a person where a row of this file is: `line 17` or `row 16`."""
    kind = content.kind
    if kind in (".parquet", ".arrow") or (kind == ".json" and (asked.field is not None or jsons.is_array(content))):
        return row_place

    def numbers() -> Iterator[int]:
        if kind in delimited.SEPARATORS:
            return islice((number for _, number in delimited.rows(content)), 1, None)
        return lines.numbers(content)

    return _Lines(numbers)


class _Lines:
    """The line numbers of rows: rows that are asked for in order take one walk through the file, not one each."""

    def __init__(self, numbers: Callable[[], Iterator[int]]) -> None:
        self._numbers = numbers
        self._rest, self._next = numbers(), 0

    def __call__(self, row: int) -> str:
        if row < self._next:
            self._rest, self._next = self._numbers(), 0
        number = next(islice(self._rest, row - self._next, None), None)
        self._next = row + 1
        return row_place(row) if number is None else f"line {number}"
