"""Columns of text, and every way in which they can be wrong."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.config import Reason
from finetune_trainer.prepare.errors import PrepareError, others, shown
from finetune_trainer.prepare.source import Split

BLANK = r"^[\s\pZ]*$"


def strings(split: Split, column: str) -> pa.ChunkedArray:
    """A column as text; values may be missing or blank."""
    values = split.table.column(column)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_null(values.type):
        values = values.cast(pa.string())
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise PrepareError(
            Reason.DATA_INVALID,
            f"{split.place(0)}: column {column!r} holds {values.type} such as {shown(values[0].as_py())}, not text. "
            "Name the column with the text in spec.dataset.columns.",
        )
    return values


def blanks(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Which values are missing, or white space alone."""
    return pc.fill_null(pc.match_substring_regex(values, BLANK), True)


def require_text(split: Split, column: str) -> pa.ChunkedArray:
    """A column of which every value is text, and some text."""
    values = strings(split, column)
    blank = blanks(values)
    count = pc.sum(blank).as_py()
    if count:
        row = pc.index(blank, True).as_py()
        value = values[row].as_py()
        what = "has no text" if value is None else f"holds {shown(value)}, no text"
        raise PrepareError(
            Reason.DATA_INVALID,
            f"{split.place(row)}: column {column!r} {what}{others(count)}. Leave such rows out.",
        )
    return values
