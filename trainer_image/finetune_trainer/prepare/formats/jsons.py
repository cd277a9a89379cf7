"""Json: an object a line, or one array of objects, a block at a time.

pyarrow parses blocks of rows. Blocks that it cannot parse Python parses row by row, which finds the line and the reason; only
needed columns are checked. Lists and objects in a row stay what they are.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.column_request import ColumnRequest
from finetune_trainer.data.data_errors import names
from finetune_trainer.data.split import row_place
from finetune_trainer.prepare.content import HEAD_BYTES, Content
from finetune_trainer.prepare.formats import columns, shapes
from finetune_trainer.prepare.formats.array import DECODER, elements, keys
from finetune_trainer.prepare.formats.python_rows import ColumnKinds, Placed
from finetune_trainer.prepare.formats.raw import BLOCK_BYTES, BYTE_ORDER_MARK, blocks, not_utf8, require_rows
from finetune_trainer.shared.failures import ExpectedError

EXACT = 2**53
"""The number beyond which a fraction may be an integer that has lost digits."""


def read_lines(content: Content, asked: ColumnRequest) -> Iterator[pa.Table]:
    """Yield the tables of the needed columns of an object a line; a value that is not there is a null."""
    require_rows(content)
    seen = ColumnKinds(content, asked)
    for first, block in blocks(content):
        if block.strip():
            parsed = _parsed(block, seen)
            yield seen.table(_rows(block, first, content, asked)) if parsed is None else parsed


def read(content: Content, asked: ColumnRequest) -> Iterator[pa.Table]:
    """Yield the tables of a file that holds an array of objects, alone or under a key, or an object a line."""
    require_rows(content)
    if asked.field is None and not is_array(content):
        yield from read_lines(content, asked)
        return
    seen = ColumnKinds(content, asked)
    first = 0
    for part in _parts(elements(content, asked.field)):
        parsed = _parsed("\n".join(part).encode("utf-8", "surrogatepass"), seen)
        rows = ((row_place(row), DECODER.decode(text)) for row, text in enumerate(part, start=first))
        yield seen.table(rows) if parsed is None else parsed
        first += len(part)


def is_array(content: Content) -> bool:
    """Tell whether the file begins as an array does."""
    with content.open() as file:
        while part := file.read(HEAD_BYTES):  # not a line: it may be all there is
            if text := part.removeprefix(BYTE_ORDER_MARK).strip():
                return text.startswith(b"[")
    return False


def _parsed(block: bytes, seen: ColumnKinds) -> pa.Table | None:
    """Return the block as pyarrow parses it; None where Python has to parse it."""
    needed, texts = seen.asked.columns, seen.asked.text
    if seen.asked.nested:  # of objects pyarrow would make one type, with the keys of all of them
        return None
    try:
        table = pyarrow.json.read_json(
            io.BytesIO(block),
            read_options=pyarrow.json.ReadOptions(block_size=max(BLOCK_BYTES, len(block))),
            # Without a schema pyarrow would read text such as "2020-01-01" as a date.
            parse_options=pyarrow.json.ParseOptions(explicit_schema=_schema(texts), newlines_in_values=False),
        )
        table.validate(full=True)
        table = columns.picked(table, needed, seen.content.name)
    except (pa.ArrowInvalid, ExpectedError):
        return None
    if not seen.all_seen and table.num_rows == 1:  # it may be a document that is no row
        return None
    # A column of the schema is in the table whether the block has it or not.
    if not seen.all_seen and any(table.column(column).null_count == table.num_rows for column in texts):
        return None
    for column in needed:
        kind = str if column in texts else _kind(table.column(column))
        if kind is None or seen.kinds.setdefault(column, kind) is not kind:
            return None
    seen.all_seen = True
    return table


def _schema(texts: Sequence[str]) -> pa.Schema:
    """Make the schema by which text stays text, also where it is the key of an object."""
    tree: dict[str, Any] = {}
    for column in texts:
        *holders, last = column.split(".")
        node = tree
        for key in holders:
            node = node.setdefault(key, {})
        node[last] = pa.string()
    return pa.schema(_fields(tree))


def _fields(tree: dict[str, Any]) -> list[pa.Field]:
    return [pa.field(key, pa.struct(_fields(of)) if isinstance(of, dict) else of) for key, of in tree.items()]


def _kind(values: pa.ChunkedArray) -> type | None:
    """Return the kind of a column's values, as Python would have them; None where pyarrow may have changed them."""
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
    """Tell whether pyarrow has read lists and objects as they are: no text as a date, no large integer as a fraction."""
    if pa.types.is_list(type_):
        return _is_kept(type_.value_type)
    if pa.types.is_struct(type_):
        return all(_is_kept(part.type) for part in type_)
    return any(of(type_) for of in (pa.types.is_integer, pa.types.is_string, pa.types.is_boolean, pa.types.is_null))


def _rows(block: bytes, first: int, content: Content, asked: ColumnRequest) -> Iterator[Placed]:
    for number, line in enumerate(block.split(b"\n"), start=first):
        if not line.strip():
            continue
        problem = not_utf8(line, number, content.name)
        if problem:
            raise problem
        try:
            row = DECODER.decode(line.decode())
        except json.JSONDecodeError as error:
            raise ExpectedError(
                Reason.DATA_INVALID,
                f"{content.name}, line {number} is not valid JSON: {error.msg} at column {error.colno}."
                f"{_hint(line, number, content, asked)}",
            ) from error
        except RecursionError as error:
            raise ExpectedError(
                Reason.DATA_INVALID,
                f"{content.name}, line {number}: lists and objects within each other, too deep to read.",
            ) from error
        yield f"line {number}", row


def _hint(line: bytes, number: int, content: Content, asked: ColumnRequest) -> str:
    text = line.strip()
    if text.startswith(b"{") and text.endswith(b"},"):
        return " A row is all of its line: take the comma at its end away."
    if text.startswith((b"{'", b"[{'")):
        return " In Python json.dumps writes it, str does not."
    if number == 1 and text.startswith(b"["):
        return shapes.ARRAY
    if number > 1 or line.strip() != b"{":
        return ""
    try:
        members = keys(content)
    except ExpectedError:  # broken further on: that line would be no help here
        members = {}
    if members and (shape := shapes.of_document(members, asked.columns)):
        return f" But {shape}"
    if content.kind != ".json":
        return " An object a line is needed, or an array of objects in a file whose name ends in .json."
    if not members:
        return (
            " An object a line is needed, or an array of objects, or a document with a key (spec.dataset.field) of one."
        )
    return f" This is one document; if one of its keys ({names(members)}) holds the rows, set spec.dataset.field to it."


def _parts(elements: Iterator[str]) -> Iterator[list[str]]:
    """Yield the elements, a block of characters at a time."""
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
