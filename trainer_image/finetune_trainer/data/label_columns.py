"""Several columns of 0 and 1 of any type, one for each label that a text may have, and every way in which they can be wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.data_errors import names, shown
from finetune_trainer.data.labels import SECRET, without_nulls
from finetune_trainer.data.split import Split
from finetune_trainer.shared.failures import ExpectedError

NO, YES = ("0", "0.0", "false"), ("1", "1.0", "true")


def ids(split: Split, columns: Sequence[str]) -> pa.ChunkedArray:
    """Return for each row the numbers of the columns that hold a 1, as a list."""
    table = np.stack([_yes(split, column) for column in columns], axis=1)
    offsets = np.concatenate([[0], np.cumsum(table.sum(axis=1))])
    chosen = np.nonzero(table)[1].astype(np.int32)
    return pa.chunked_array([pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), pa.array(chosen))])


def about(split: Split, columns: Sequence[str], labels: pa.ChunkedArray) -> tuple[str, ...]:
    """Say which labels the training data never has. Raise ExpectedError where it has none at all."""
    used = set(pc.unique(pc.list_flatten(labels)).to_pylist())
    missing = [column for number, column in enumerate(columns) if number not in used]
    if not used:
        raise ExpectedError(
            Reason.LABELS_INVALID,
            f"{split.name}: no row has a 1 in any of the columns {names(list(columns))}; there is nothing to learn.",
        )
    return (f"Labels {names(missing)} do not occur in the training data.",) if missing else ()


def _yes(split: Split, column: str) -> npt.NDArray[np.bool_]:
    """Tell of each row whether it has the label."""
    values = without_nulls(split, column)
    text = _as_text(values)
    yes = pc.is_in(text, pa.array(YES))
    bad = pc.index(pc.or_(yes, pc.is_in(text, pa.array(NO))), False).as_py()
    if bad >= 0:
        value = values[bad].as_py()
        hint = SECRET if text[bad].as_py() in ("-1", "-1.0") else ""
        raise ExpectedError(
            Reason.LABELS_INVALID,
            f"{split.place(bad)}: column {column!r} (spec.dataset.labelColumns) holds {shown(value)}, where a 1 says that the "
            f"text has the label and a 0 that it has not.{hint}",
        )
    has_label: npt.NDArray[np.bool_] = yes.to_numpy().astype(np.bool_)
    return has_label


def _as_text(values: pa.ChunkedArray) -> Any:
    kind = values.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return pc.utf8_lower(pc.utf8_trim_whitespace(values.cast(pa.string())))
    simple = pa.types.is_boolean(kind) or pa.types.is_integer(kind) or pa.types.is_floating(kind)
    if simple or pa.types.is_decimal(kind):
        return (
            values.cast(pa.float64()).cast(pa.string()) if not pa.types.is_boolean(kind) else values.cast(pa.string())
        )
    return pa.chunked_array([pa.array([repr(value) for value in values.to_pylist()], pa.string())])
