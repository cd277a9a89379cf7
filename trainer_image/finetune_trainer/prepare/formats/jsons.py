"""Json: an object a line, or one array of objects, a block at a time.

pyarrow parses blocks of lines. What it cannot, and arrays, Python parses row by row, which finds the line and the
reason; only needed columns are looked at. Lists and objects in a row stay what they are.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from finetune_trainer.config import Reason
from finetune_trainer.prepare.content import Content
from finetune_trainer.prepare.errors import PrepareError, column_missing, names, shown
from finetune_trainer.prepare.formats import columns
from finetune_trainer.prepare.formats.array import DECODER, Doubled, elements, keys
from finetune_trainer.prepare.formats.raw import BLOCK_BYTES, BYTE_ORDER_MARK, Asked, blocks, not_utf8, require_text
from finetune_trainer.prepare.source import row_place

LARGEST = 2**63
EXACT = 2**53
"""Beyond it a fraction may be an integer that has lost digits."""
KINDS = {float: "numbers", str: "text", bool: "true or false", list: "lists", dict: "objects"}
Placed = tuple[str, Any]
"""A row and how messages call its place."""


def read_lines(content: Content, asked: Asked) -> Iterator[pa.Table]:
    """Tables of the needed columns of an object a line; a value that is not there is a null."""
    require_text(content)
    seen = _Columns(content, asked)
    for first, block in blocks(content):
        if block.strip():
            parsed = _parsed(block, seen)
            yield seen.table(_rows(block, first, content)) if parsed is None else parsed


def read(content: Content, asked: Asked) -> Iterator[pa.Table]:
    """The same of a file that holds an array of objects, alone or under a key, or an object a line."""
    require_text(content)
    if asked.field is None and not is_array(content):
        yield from read_lines(content, asked)
        return
    seen = _Columns(content, asked)
    first = 0
    for part in _parts(elements(content, asked.field)):
        parsed = _parsed("\n".join(part).encode("utf-8", "surrogatepass"), seen)
        rows = ((row_place(row), DECODER.decode(text)) for row, text in enumerate(part, start=first))
        yield seen.table(rows) if parsed is None else parsed
        first += len(part)


def is_array(content: Content) -> bool:
    """Whether the file begins as an array does."""
    with content.open() as file:
        for line in file:
            if text := line.removeprefix(BYTE_ORDER_MARK).strip():
                return text.startswith(b"[")
    return False


@dataclass
class _Columns:
    """The needed columns of a file: kinds of their values so far, so that they fit together."""

    content: Content
    asked: Asked
    kinds: dict[str, type] = field(default_factory=dict)
    found: bool = False
    """Whether all of them have been seen."""

    def table(self, rows: Iterable[Placed]) -> pa.Table:
        """Rows as a table, each looked at."""
        values: dict[str, list[Any]] = {column: [] for column in self.asked.columns}
        places, there = [], _There(self.asked.columns)
        for place, row in rows:
            if isinstance(row, Doubled):
                raise self._invalid(place, f"column {row.key!r} is there twice. Give each a name of its own.")
            if not isinstance(row, dict):
                raise self._invalid(place, f"{shown(row)} where an object is needed.")
            if not self.found:
                there.add(row)
            places.append(place)
            for column, found in values.items():
                value = columns.value(row, column)
                self._check(place, column, value)
                found.append(value)
        self._require(there)
        return pa.table({column: self._array(column, found, places) for column, found in values.items()})

    def _require(self, there: _There) -> None:
        """Raise where a column is in none of the first block's rows: later ones would come too late."""
        if not self.found:
            for column in self.asked.columns:
                there.require(column, self.content)
        self.found = True

    def _check(self, place: str, column: str, value: Any) -> None:
        if value is None:
            return
        kind = float if type(value) is int else type(value)
        if column in self.asked.text and kind in (float, bool):
            raise self._invalid(place, f"column {column!r} holds {shown(value)} where text is needed.")
        if type(value) is int and not -LARGEST <= value < LARGEST:
            raise self._invalid(place, f"column {column!r} holds {shown(value)}, a number too large.")
        if kind in (list, dict, Doubled):
            doubled = _doubled(value)
            if doubled is not None:
                raise self._invalid(place, f"column {column!r} holds an object with key {doubled!r} twice.")
        known = self.kinds.setdefault(column, kind)
        if known is not kind:
            before = KINDS.get(known, known.__name__)
            raise self._invalid(place, f"column {column!r} holds {shown(value)}, the rows before hold {before}.")

    def _array(self, column: str, values: list[Any], places: Sequence[str]) -> pa.Array:
        is_text = column in self.asked.text and self.kinds.get(column, str) is str
        type_ = pa.string() if is_text else None
        try:
            return pa.array(values, type_)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            row = _first_that_does_not_fit(values)
            raise self._invalid(
                places[row],
                f"column {column!r} holds {shown(values[row], 120)}, in which something is of another kind than in the "
                "rows before, or in the same list: text among numbers, for example.",
            ) from None

    def _invalid(self, place: str, message: str) -> PrepareError:
        return PrepareError(Reason.DATA_INVALID, f"{self.content.name}, {place}: {message}")


class _There:
    """What the first rows have, for messages."""

    def __init__(self, needed: Sequence[str]) -> None:
        self._needed = needed
        self._columns: dict[str, None] = {}
        self._paths: set[str] = set()
        """Needed columns that a row has, with a value or without."""
        self._keys: dict[str, dict[str, None]] = {}
        """Path of a column of objects -> their keys."""
        self._values: dict[str, Any] = {}
        self._rows = 0

    def add(self, row: dict[str, Any]) -> None:
        self._rows += 1
        self._columns |= dict.fromkeys(row)
        for key, value in row.items():
            if value is not None:
                self._values.setdefault(key, value)
        for column in self._needed:
            if column not in row and "." in column:
                self._walk(row, column)

    def _walk(self, row: dict[str, Any], column: str) -> None:
        at = ""
        found: Any = row
        for key in column.split("."):
            if not isinstance(found, dict):
                return
            if at:
                self._keys.setdefault(at, {}).update(dict.fromkeys(found))
            if key not in found:
                return
            at, found = f"{at}.{key}".lstrip("."), found[key]
        self._paths.add(column)

    def require(self, column: str, content: Content) -> None:
        """Raise where no row has a column."""
        if column in self._columns or column in self._paths:
            return
        at = columns.holder(column, list(self._columns))
        if at is None:
            raise column_missing(column, list(self._columns), content.name, self._hint(content))
        while f"{at}.{column[len(at) + 1 :].split('.')[0]}" in self._keys:
            at = f"{at}.{column[len(at) + 1 :].split('.')[0]}"
        if at in self._keys:
            raise columns.key_missing(column, at, list(self._keys[at]), content.name)
        if self._values.get(at) is not None:
            raise columns.no_keys(column, at, shown(self._values[at]), content.name)

    def _hint(self, content: Content) -> str:
        """A document on one line looks like a row."""
        lists = {key: value for key, value in self._values.items() if isinstance(value, list)}
        holders = [key for key, value in lists.items() if any(isinstance(item, dict) for item in value[:1])]
        if self._rows == 1 and content.kind == ".json" and holders:
            return f" If {names(holders)} holds the rows, set spec.dataset.field to it."
        return ""


def _doubled(value: Any) -> str | None:
    """A key that is twice in an object within a value."""
    if isinstance(value, Doubled):
        return value.key
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((found for item in inner if (found := _doubled(item)) is not None), None)


def _first_that_does_not_fit(values: list[Any]) -> int:
    """The first row up to which pyarrow finds no common type: by halving, the rows before it have one."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            pa.array(values[:middle])
            low = middle
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            high = middle
    return low


def _parsed(block: bytes, seen: _Columns) -> pa.Table | None:
    """The block as pyarrow parses it; None where Python should have a look."""
    needed, texts = seen.asked.columns, seen.asked.text
    try:
        table = pyarrow.json.read_json(
            io.BytesIO(block),
            read_options=pyarrow.json.ReadOptions(block_size=max(BLOCK_BYTES, len(block))),
            # Without a schema pyarrow would read text such as "2020-01-01" as a date.
            parse_options=pyarrow.json.ParseOptions(explicit_schema=_schema(texts), newlines_in_values=False),
        )
        table.validate(full=True)
        table = columns.picked(table, needed, seen.content.name)
    except (pa.ArrowInvalid, PrepareError):
        return None
    # A column of the schema is in the table whether the block has it or not.
    if not seen.found and any(table.column(column).null_count == table.num_rows for column in texts):
        return None
    for column in needed:
        kind = str if column in texts else _kind(table.column(column))
        if kind is None or seen.kinds.setdefault(column, kind) is not kind:
            return None
    seen.found = True
    return table


def _schema(texts: Sequence[str]) -> pa.Schema:
    """Text as text, also where it is the key of an object."""
    tree: dict[str, Any] = {}
    for column in texts:
        *holders, last = column.split(".")
        at = tree
        for key in holders:
            at = at.setdefault(key, {})
        at[last] = pa.string()
    return pa.schema(_fields(tree))


def _fields(tree: dict[str, Any]) -> list[pa.Field]:
    return [pa.field(key, pa.struct(_fields(of)) if isinstance(of, dict) else of) for key, of in tree.items()]


def _kind(values: pa.ChunkedArray) -> type | None:
    """Kind of a column's values, as Python would have them; None where pyarrow may have changed them."""
    if pa.types.is_integer(values.type):
        return float
    if pa.types.is_floating(values.type):  # integers that are too large become this, too
        largest = pc.max(pc.abs(values)).as_py()
        return float if largest is not None and largest < EXACT else None
    if pa.types.is_boolean(values.type):
        return bool
    if pa.types.is_list(values.type):
        return list if _is_kept(values.type) else None
    if pa.types.is_struct(values.type):
        return dict if _is_kept(values.type) else None
    return str if pa.types.is_string(values.type) else None


def _is_kept(type_: pa.DataType) -> bool:
    """Whether pyarrow has read lists and objects as they are: no text as a date, no large integer as a fraction."""
    if pa.types.is_list(type_):
        return _is_kept(type_.value_type)
    if pa.types.is_struct(type_):
        return all(_is_kept(part.type) for part in type_)
    return any(of(type_) for of in (pa.types.is_integer, pa.types.is_string, pa.types.is_boolean, pa.types.is_null))


def _rows(block: bytes, first: int, content: Content) -> Iterator[Placed]:
    for number, line in enumerate(block.split(b"\n"), start=first):
        if not line.strip():
            continue
        problem = not_utf8(line, number, content.name)
        if problem:
            raise problem
        try:
            row = DECODER.decode(line.decode())
        except json.JSONDecodeError as error:
            raise PrepareError(
                Reason.DATA_INVALID,
                f"{content.name}, line {number} is not valid JSON: {error.msg} at column {error.colno}."
                f"{_hint(line, number, content)}",
            ) from error
        yield f"line {number}", row


def _hint(line: bytes, number: int, content: Content) -> str:
    if number > 1 or line.strip() != b"{":
        return ""
    if content.kind != ".json":
        return " An object a line is needed, or an array of objects in a file whose name ends in .json."
    try:
        there = keys(content)
    except PrepareError:  # broken further on: that line would be no help here
        return (
            " An object a line is needed, or an array of objects, or a document with a key (spec.dataset.field) of one."
        )
    return f" This is one document; if one of its keys ({names(there)}) holds the rows, set spec.dataset.field to it."


def _parts(elements: Iterator[str]) -> Iterator[list[str]]:
    """Elements, a block of characters at a time."""
    part: list[str] = []
    size = 0
    for text in elements:
        part.append(text)
        size += len(text)
        if size >= BLOCK_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part
