"""Json documents that hold rows in another shape than an object a row: as pandas writes a table by default.

They are refused by name: such a document must be in memory as a whole, and `to_json` writes an object a row as easily.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

WAY_OUT = 'Rows are needed: write it with df.to_json(path, orient="records", lines=True).'
BY_COLUMN = f"this is one document with a key for each column, as DataFrame.to_json() writes it. {WAY_OUT}"
BY_ROW = f'this is one document with a key for each row, as to_json(orient="index") writes it. {WAY_OUT}'
ARRAY = " This is one array of rows: let the file's name end in .json."
A_LIST = (
    ' A row of a table without its names: rows have a key for each column, as to_json(orient="records") writes them.'
)
IN_PARTS = f'this is one document of columns and data, as to_json(orient="split") writes it. {WAY_OUT}'


def of_document(begins: Mapping[str, str], needed: Sequence[str]) -> str | None:
    """Say what a document is that is no row; `begins`: its keys, and the first characters of their values."""
    if all(begins.get(column) in ("{", "[") for column in needed):
        return BY_COLUMN
    return _of_keys(begins, all(first == "{" for first in begins.values()))


def of_row(row: Mapping[str, Any], needed: Sequence[str], text: Sequence[str]) -> str | None:
    """Say which document a line holds in place of a row, if any; columns of `text` hold no lists."""
    values = [row.get(column if column in row else column.split(".")[0]) for column in needed]
    if all(_is_numbered(value) for value in values):
        return BY_COLUMN
    texts = [row.get(column) for column in text]
    if texts and all(isinstance(value, list) for value in values) and all(_are_texts(value) for value in texts):
        return BY_COLUMN
    if row and all(isinstance(value, dict) and set(needed) <= set(value) for value in row.values()):
        return BY_ROW
    return _of_keys(row, all(isinstance(value, dict) for value in row.values()))


def _of_keys(keys: Mapping[str, Any], of_objects: bool) -> str | None:
    if {"columns", "data"} <= set(keys) <= {"columns", "data", "index"}:
        return IN_PARTS
    return BY_ROW if keys and of_objects and all(key.isdecimal() for key in keys) else None


def _is_numbered(value: Any) -> bool:
    """Tell whether the keys are numbers: `{"0": ..., "1": ...}`."""
    return isinstance(value, dict) and bool(value) and all(key.isdecimal() for key in value)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(item is None or isinstance(item, str) for item in value)
