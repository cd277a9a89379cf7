"""Numbers that a model is to predict, from columns of any type, and every way in which they can be wrong."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.data_errors import others, shown
from finetune_trainer.data.labels import FLOAT, without_nulls
from finetune_trainer.data.split import Split
from finetune_trainer.shared.failures import ExpectedError

LARGEST = float(np.finfo(np.float32).max)


def numbers(split: Split, column: str) -> pa.ChunkedArray:
    """Return the numbers of a column. Raise ExpectedError where one is missing, is none, or is more than a model can say."""
    values = without_nulls(split, column)
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        values = pc.utf8_trim_whitespace(values)
        _require(split, column, values, pc.match_substring_regex(values, FLOAT), "is no number")
        values = pc.utf8_ltrim(values, "+")
    elif not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind)):
        raise ExpectedError(
            Reason.LABELS_INVALID,
            f"{split.place(0)}: column {column!r} holds {kind} such as {shown(values[0].as_py())}; a regression takes "
            "numbers. Name the column with the numbers in spec.dataset.columns.",
        )
    values = values.cast(pa.float64())
    sound = pc.and_(pc.is_finite(values), pc.less_equal(pc.abs(values), LARGEST))
    _require(split, column, values, sound, "is no number that a model can predict")
    return values


def require_spread(split: Split, column: str, values: pa.ChunkedArray) -> None:
    """Refuse numbers that are all the same: there would be nothing to learn."""
    extremes = pc.min_max(values)
    if extremes["min"] == extremes["max"]:
        raise ExpectedError(
            Reason.LABELS_INVALID,
            f"{split.name}: all rows have the number {values[0].as_py()} in column {column!r}; there is nothing to learn.",
        )


def _require(split: Split, column: str, values: pa.ChunkedArray, sound: pa.ChunkedArray, problem: str) -> None:
    row = pc.index(sound, False).as_py()
    if row >= 0:
        count = pc.sum(pc.invert(sound)).as_py()
        raise ExpectedError(
            Reason.LABELS_INVALID,
            f"{split.place(row)}: the label {shown(values[row].as_py())} in column {column!r} {problem}{others(count)}. "
            "A regression takes numbers: mend such rows, or leave them out.",
        )
