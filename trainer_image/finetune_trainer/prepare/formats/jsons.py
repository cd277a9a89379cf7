"""Json: an object a line, or one array of objects, a block at a time.

pyarrow parses blocks of lines. What it cannot, and arrays, Python parses row by row, which finds the line and the
reason; only needed columns are looked at.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.json

from finetune_trainer.config import Reason
from finetune_trainer.prepare.errors import PrepareError, column_missing, shown
from finetune_trainer.prepare.formats.array import DECODER, Doubled, elements
from finetune_trainer.prepare.formats.raw import BLOCK_BYTES, BYTE_ORDER_MARK, blocks, not_utf8, require_text
from finetune_trainer.prepare.source import row_place

LARGEST = 2**63
Placed = tuple[str, Any]
"""A row and how messages call its place."""


def read_lines(path: Path, name: str, columns: Sequence[str], text_columns: Sequence[str]) -> Iterator[pa.Table]:
    """Tables of the needed columns of an object a line; a value that is not there is a null."""
    require_text(path, name)
    columns_seen = _Columns(name, tuple(columns), tuple(text_columns))
    for first, block in blocks(path):
        if block.strip():
            parsed = _parsed(block, columns_seen)
            yield columns_seen.table(_rows(block, first, name)) if parsed is None else parsed


def read(path: Path, name: str, columns: Sequence[str], text_columns: Sequence[str]) -> Iterator[pa.Table]:
    """The same of a file that holds an array of objects, or an object a line."""
    require_text(path, name)
    if not is_array(path):
        yield from read_lines(path, name, columns, text_columns)
        return
    columns_seen = _Columns(name, tuple(columns), tuple(text_columns))
    for part in _parts(elements(path, name)):
        yield columns_seen.table((row_place(row), value) for row, value in part)


def is_array(path: Path) -> bool:
    """Whether the file begins as an array does."""
    with path.open("rb") as file:
        for line in file:
            if text := line.removeprefix(BYTE_ORDER_MARK).strip():
                return text.startswith(b"[")
    return False


@dataclass
class _Columns:
    """The needed columns of a file: kinds of their values so far, so that they fit together."""

    name: str
    needed: tuple[str, ...]
    text: tuple[str, ...]
    kinds: dict[str, type] = field(default_factory=dict)
    found: bool = False
    """Whether all of them have been seen."""

    def table(self, rows: Iterable[Placed]) -> pa.Table:
        """Rows as a table, each looked at."""
        values: dict[str, list[Any]] = {column: [] for column in self.needed}
        keys: dict[str, None] = {}
        for place, row in rows:
            if isinstance(row, Doubled):
                raise self._invalid(place, f"column {row.key!r} is there twice. Give each a name of its own.")
            if not isinstance(row, dict):
                raise self._invalid(place, f"{shown(row)} where an object is needed.")
            keys |= dict.fromkeys(row)
            for column in self.needed:
                value = row.get(column)
                self._check(place, column, value)
                values[column].append(value)
        self.require(list(keys))
        return pa.table(
            {column: pa.array(values[column], pa.string() if column in self.text else None) for column in self.needed}
        )

    def require(self, there: Sequence[str]) -> None:
        """Raise where a column is in none of the first block's rows: later ones would come too late."""
        if not self.found:
            for column in self.needed:
                if column not in there:
                    raise column_missing(column, there, self.name)
        self.found = True

    def _check(self, place: str, column: str, value: Any) -> None:
        if value is None:
            return
        if column in self.text:
            if not isinstance(value, str):
                raise self._invalid(place, f"column {column!r} holds {shown(value)} where text is needed.")
            return
        if type(value) is int and not -LARGEST <= value < LARGEST:
            raise self._invalid(place, f"column {column!r} holds {shown(value)}, a number too large.")
        kind = float if type(value) is int else type(value)
        known = self.kinds.setdefault(column, kind)
        if known is not kind:
            before = "numbers" if known is float else "text" if known is str else known.__name__
            raise self._invalid(place, f"column {column!r} holds {shown(value)}, the rows before hold {before}.")

    def _invalid(self, place: str, message: str) -> PrepareError:
        return PrepareError(Reason.DATA_INVALID, f"{self.name}, {place}: {message}")


def _parsed(block: bytes, seen: _Columns) -> pa.Table | None:
    """The block as pyarrow parses it; None where Python should have a look."""
    # Without a schema pyarrow would read text such as "2020-01-01" as a date.
    schema = pa.schema([(column, pa.string()) for column in seen.text])
    try:
        table = pyarrow.json.read_json(
            io.BytesIO(block),
            read_options=pyarrow.json.ReadOptions(block_size=max(BLOCK_BYTES, len(block))),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, newlines_in_values=False),
        )
        table.validate(full=True)
    except pa.ArrowInvalid:
        return None
    if not set(seen.needed) <= set(table.column_names):
        return None
    # A column of the schema is in the table whether the block has it or not.
    if not seen.found and any(table.column(column).null_count == table.num_rows for column in seen.text):
        return None
    for column in set(seen.needed) - set(seen.text):
        kind = _kind(table.column(column).type)
        if kind is None or seen.kinds.setdefault(column, kind) is not kind:
            return None
    seen.found = True
    return table.select(list(seen.needed))


def _kind(type_: pa.DataType) -> type | None:
    """None also for what has a decimal point: pyarrow reads integers as that where they are too large."""
    if pa.types.is_integer(type_):
        return float
    if pa.types.is_boolean(type_):
        return bool
    return str if pa.types.is_string(type_) else None


def _rows(block: bytes, first: int, name: str) -> Iterator[Placed]:
    for number, line in enumerate(block.split(b"\n"), start=first):
        if not line.strip():
            continue
        problem = not_utf8(line, number, name)
        if problem:
            raise problem
        try:
            row = DECODER.decode(line.decode())
        except json.JSONDecodeError as error:
            hint = ""
            if number == 1 and line.strip() == b"{":
                hint = " An object a line is needed, or an array of objects in a file whose name ends in .json."
            raise PrepareError(
                Reason.DATA_INVALID,
                f"{name}, line {number} is not valid JSON: {error.msg} at column {error.colno}.{hint}",
            ) from error
        yield f"line {number}", row


def _parts(rows: Iterator[tuple[int, Any]]) -> Iterator[list[tuple[int, Any]]]:
    """Numbered rows, a block of characters at a time."""
    part: list[tuple[int, Any]] = []
    size = 0
    for number, (characters, value) in enumerate(rows):
        part.append((number, value))
        size += characters
        if size >= BLOCK_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def lines(path: Path) -> Iterator[int]:
    """Numbers of the lines that are not blank."""
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if line.removeprefix(BYTE_ORDER_MARK).strip():
                yield number
