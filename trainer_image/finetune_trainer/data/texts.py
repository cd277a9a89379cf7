"""Columns of text, and every way in which they can be wrong."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.data_errors import others, shown
from finetune_trainer.data.split import Split
from finetune_trainer.shared.failures import ExpectedError

BLANK = r"^[\s\pZ]*$"
SERIALISED = {
    # What a text looks like -> a pattern of it.
    "bytes": r"""(?s)^b(?:'.*'|".*")$""",
    "a list": r"""(?s)^\s*\[\s*['"{[].*\]\s*$""",
    "an object": r"""(?s)^\s*\{\s*['"].*\}\s*$""",
}
MOST = 0.5
"""Share of the texts that must look like another value before the user is told."""


def strings(split: Split, column: str) -> pa.ChunkedArray:
    """Return a column as text; values may be missing or blank."""
    values = split.table.column(column)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_null(values.type):
        values = values.cast(pa.string())
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise ExpectedError(
            Reason.DATA_INVALID,
            f"{split.place(0)}: column {column!r} holds {values.type} such as {shown(values[0].as_py())}, not text. "
            "Name the column with the text in spec.dataset.columns.",
        )
    return values


def blanks(values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Tell of each value whether it is missing, or white space alone."""
    return pc.fill_null(pc.match_substring_regex(values, BLANK), True)


def require_text(split: Split, column: str) -> pa.ChunkedArray:
    """Return a column of which every value is text. Raise ExpectedError where a value is missing or blank, or is no text."""
    values = strings(split, column)
    blank = blanks(values)
    count = pc.sum(blank).as_py()
    if count:
        row = pc.index(blank, True).as_py()
        value = values[row].as_py()
        problem = "has no text" if value is None else f"holds {shown(value)}, no text"
        raise ExpectedError(
            Reason.DATA_INVALID,
            f"{split.place(row)}: column {column!r} {problem}{others(count)}. Leave such rows out.",
        )
    return values


def serialised(split: Split, column: str, hint: str = "") -> tuple[str, ...]:
    """Warn of texts that are another value as Python or JSON writes it: its brackets and quotes would be learnt."""
    values = strings(split, column)
    for kind, pattern in SERIALISED.items():
        matches = pc.fill_null(pc.match_substring_regex(values, pattern), False)
        count = pc.sum(matches).as_py() or 0
        if count > MOST * len(values):
            example = shown(values[pc.index(matches, True).as_py()].as_py(), 60)
            return (
                f"{count} of {len(values)} texts in column {column!r} look like {kind} written as text, such as {example}: they "
                f"are read as they stand. Write the text itself into the column if that is not meant.{hint}",
            )
    return ()
