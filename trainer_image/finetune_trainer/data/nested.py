"""Lists and objects in a column as Python has them, or as JSON text, without the keys that Arrow has added.

Arrow gives every object the keys of all objects, null where an object lacks one, and wants one type for each key. As text
an object keeps its own keys, so that calls of different functions fit into one column.
"""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa


def values(column: pa.Array | pa.ChunkedArray) -> list[Any]:
    """Return the values of a column: objects without the keys that are null, text of the type `arrow.json` parsed."""
    return [_value(value, column.type) for value in column.to_pylist()]


def as_text(table: pa.Table, columns: tuple[str, ...]) -> pa.Table:
    """Write lists and objects in `columns` as JSON text. Text stays what it is."""
    for index, field in enumerate(table.schema):
        if field.name in columns and not (pa.types.is_string(field.type) or pa.types.is_null(field.type)):
            texts = pa.array([text(value) for value in values(table.column(index))], pa.string())
            table = table.set_column(index, field.name, texts)
    return table


def text(value: Any) -> str | None:
    """Write a value as JSON text; None and text stay what they are."""
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def without_nulls(value: Any) -> Any:
    """Drop keys that are null from a value: libraries that write JSON from a table give every object the keys of all."""
    if isinstance(value, dict):
        return {key: without_nulls(item) for key, item in value.items() if item is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


def _value(value: Any, type_: pa.DataType) -> Any:
    if value is None:
        return None
    if isinstance(type_, pa.JsonType):
        return json.loads(value)
    if pa.types.is_struct(type_):
        fields = {field.name: _value(value[field.name], field.type) for field in type_}
        return {key: item for key, item in fields.items() if item is not None}
    if isinstance(value, list):
        return [_value(item, type_.value_type) for item in value]
    return value
