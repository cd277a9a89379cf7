"""Names of columns: as they are in the data, or a path to a key within one that holds objects (`translation.en`)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.column_request import ColumnRequest
from finetune_trainer.data.data_errors import column_missing, names
from finetune_trainer.shared.failures import ExpectedError


def holder(column: str, available: Collection[str]) -> str | None:
    """Return the column that holds the values of a name: the column of that name, or the one that a path begins with, if any."""
    if column in available:
        return column
    first = column.split(".")[0]
    return first if first != column and first in available else None


def require(columns: Sequence[str], available: Sequence[str], name: str, hint: str = "") -> list[str]:
    """Return the columns that hold the needed ones, each once. Raise ExpectedError where one is missing."""
    holders: dict[str, None] = {}
    for column in columns:
        read = holder(column, available)
        if read is None:
            raise column_missing(column, available, name, hint)
        holders[read] = None
    return list(holders)


def without_absent(asked: ColumnRequest, available: Collection[str]) -> ColumnRequest:
    """Leave optional columns that are absent out of the request; tell of columns that nobody asks for."""
    tell_beside(asked, available)
    kept = [column for column in asked.columns if column not in asked.optional or holder(column, available) is not None]
    return replace(asked, columns=tuple(kept))


def tell_beside(asked: ColumnRequest, available: Collection[str]) -> None:
    """Tell of columns that mean something and that nobody asks for."""
    for column in asked.beside:
        if column in available and column not in asked.columns:
            asked.tell(
                f"The data has a column {column!r} beside {names(asked.columns[:1])}: it is there and is not read."
            )


def completed(table: pa.Table, asked: ColumnRequest) -> pa.Table:
    """Add columns of nulls for the columns that are asked for and absent."""
    for column in asked.columns:
        if column not in table.column_names:
            table = table.append_column(column, pa.nulls(table.num_rows))
    return table


def picked(table: pa.Table, columns: Sequence[str], name: str) -> pa.Table:
    """Pick the needed columns, under the names that they are asked for."""
    require(columns, table.column_names, name)
    arrays = {
        column: table.column(column) if column in table.column_names else _within(table, column, name)
        for column in columns
    }
    return pa.table(arrays).replace_schema_metadata(table.schema.metadata)


def plain(table: pa.Table) -> pa.Table:
    """Cast the types of text and lists that other libraries write to the plain ones."""
    schema = pa.schema([field.with_type(_plain(field.type)) for field in table.schema], table.schema.metadata)
    return table if schema == table.schema else table.cast(schema)


def require_utf8(table: pa.Table, name: str, first: int) -> None:
    """Raise where text is not UTF-8: no library checks that when it reads. `first` is the number of the table's first row."""
    try:
        table.validate(full=True)
    except pa.ArrowInvalid as invalid:
        for column in table.column_names:
            for row, item in zip(count(first), table.column(column), strict=False):
                try:
                    item.as_py()
                except UnicodeDecodeError as error:
                    raise ExpectedError(
                        Reason.DATA_INVALID,
                        f"{name}, row {row}: column {column!r} holds byte 0x{error.object[error.start]:02x} in text that is "
                        "no UTF-8. Write such values anew, in Python with text.decode('latin-1') for example, or leave the "
                        "rows out.",
                    ) from error
        raise ExpectedError(Reason.DATA_INVALID, f"{name}: {invalid}") from invalid


def _plain(type_: pa.DataType) -> pa.DataType:
    if pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return pa.string()
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(_plain(field.type)) for field in type_])
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    if any(is_list(type_) for is_list in lists):
        return pa.list_(type_.value_field.with_type(_plain(type_.value_type)))
    return type_


def key_missing(column: str, at: str, known: Sequence[str], name: str) -> ExpectedError:
    """Make the error for a key that the objects of a column do not have."""
    key = column[len(at) + 1 :].split(".")[0]
    return ExpectedError(
        Reason.COLUMN_NOT_FOUND,
        f"{name}: the objects in column {at!r} have no key {key!r}; they have {names(list(known)) or 'none'}. "
        "Name the right one in spec.dataset.columns.",
    )


def no_keys(column: str, at: str, held: object, name: str) -> ExpectedError:
    """Make the error for a path into a column that holds no objects."""
    return ExpectedError(
        Reason.COLUMN_NOT_FOUND,
        f"{name}: {column!r} asks for a key of column {at!r}, which holds {held}, no objects with keys. "
        "Name the right column in spec.dataset.columns.",
    )


def _within(table: pa.Table, column: str, name: str) -> pa.ChunkedArray:
    at, *keys = column.split(".")
    values = table.column(at)
    for key in keys:
        if pa.types.is_null(values.type):
            return values
        if not pa.types.is_struct(values.type):
            raise no_keys(column, at, values.type, name)
        known = [field.name for field in values.type]
        if key not in known:
            raise key_missing(column, at, known, name)
        values, at = pc.struct_field(values, [key]), f"{at}.{key}"
    return values


def value(row: Mapping[str, Any], column: str) -> Any:
    """Return the value of a column in a row that Python parsed; None where the row has none."""
    if column in row or "." not in column:
        return row.get(column)
    inner: Any = row
    for key in column.split("."):
        inner = inner.get(key) if isinstance(inner, Mapping) else None
    return inner
