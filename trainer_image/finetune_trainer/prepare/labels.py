"""Class labels: from names, text or numbers in the data to ids from 0, and every way in which they can be wrong."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.config import Reason
from finetune_trainer.prepare.errors import PrepareError, names, others, shown
from finetune_trainer.prepare.source import Split

INTEGER = r"^[+-]?\d+$"
FLOAT = r"^[+-]?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?$"


def class_names(split: Split, column: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Names of the classes by id, as the training rows have them; and what to tell the user."""
    values = _values(split, column)
    declared = split.class_names.get(column)
    if declared is not None:
        _require_range(split, column, values, len(declared))
        used = len(pc.unique(values))
        _require_two(split, column, used, values)
        return declared, ()
    if pa.types.is_integer(values.type):
        return _from_integers(split, column, values)
    found = sorted(str(value) for value in pc.unique(values).to_pylist())
    _require_two(split, column, len(found), values)
    return tuple(found), ()


def class_ids(split: Split, column: str, class_labels: tuple[str, ...]) -> pa.ChunkedArray:
    """The id of each row's class; a class that training does not know is an error."""
    values = _values(split, column)
    if pa.types.is_integer(values.type) and _are_numbers(class_labels, split, column):
        _require_range(split, column, values, len(class_labels))
        return values.cast(pa.int64())
    values = values.cast(pa.string())
    ids = pc.index_in(values, value_set=pa.array(class_labels, type=values.type))
    if ids.null_count:
        row = pc.index(pc.is_null(ids), True).as_py()
        raise PrepareError(
            Reason.LABELS_INVALID,
            f"{split.place(row)}: the label {shown(values[row].as_py())} in column {column!r} does not occur in the "
            f"training data, which has {names(list(class_labels))}.",
        )
    return ids.cast(pa.int64())


def _are_numbers(class_labels: tuple[str, ...], split: Split, column: str) -> bool:
    """Whether integers are ids of these classes: they were numbers in training, or the data declares their names."""
    return column in split.class_names or all(label.isdecimal() for label in class_labels)


def _values(split: Split, column: str) -> pa.ChunkedArray:
    """Labels as integers or as text, whatever type they came in; none of them missing."""
    values = split.table.column(column)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if values.null_count:
        row = pc.index(pc.is_null(values), True).as_py()
        raise PrepareError(
            Reason.LABELS_INVALID,
            f"{split.place(row)}: no label in column {column!r}{others(values.null_count)}. Give each row one, or leave "
            "such rows out.",
        )
    if pa.types.is_boolean(values.type):
        return pc.if_else(values, "true", "false")
    if pa.types.is_integer(values.type):
        return values
    if pa.types.is_floating(values.type):
        whole = pc.equal(values, pc.floor(values))
        row = max(0, pc.index(whole, False).as_py())
        raise _fraction(split, column, values[row].as_py(), row)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise PrepareError(
            Reason.LABELS_INVALID,
            f"{split.place(0)}: column {column!r} holds {values.type}; labels are text or integers from 0.",
        )
    return _from_text(split, column, values)


def _from_text(split: Split, column: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Csv has no numbers, only text that looks like them."""
    distinct = pc.unique(values)
    empty = pc.index(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(values)), 0), True).as_py()
    if empty >= 0:
        raise PrepareError(
            Reason.LABELS_INVALID,
            f"{split.place(empty)}: the label in column {column!r} is empty. Give each row one, or leave such rows out.",
        )
    if pc.all(pc.match_substring_regex(distinct, INTEGER)).as_py():
        return values.cast(pa.int64())
    if pc.all(pc.match_substring_regex(distinct, FLOAT)).as_py():
        row = pc.index(pc.match_substring_regex(values, INTEGER), False).as_py()
        raise _fraction(split, column, values[row].as_py(), row)
    return values


def _fraction(split: Split, column: str, value: object, row: int) -> PrepareError:
    return PrepareError(
        Reason.LABELS_INVALID,
        f"{split.place(row)}: the label {shown(value)} in column {column!r} is a number with a decimal "
        "point; text-classification takes text or whole numbers from 0.",
    )


def _from_integers(split: Split, column: str, values: pa.ChunkedArray) -> tuple[tuple[str, ...], tuple[str, ...]]:
    distinct = sorted(pc.unique(values).to_pylist())
    count = distinct[-1] + 1
    _require_range(split, column, values, count)
    if distinct[0] > 0 or count > 2 * len(distinct):
        row = pc.index(values, pa.scalar(distinct[-1], values.type)).as_py()
        raise PrepareError(
            Reason.LABELS_INVALID,
            f"{split.place(row)}: label {distinct[-1]} in column {column!r} is out of range: the data has "
            f"{len(distinct)} different labels ({names(distinct)}), so they should be 0 to {len(distinct) - 1}. "
            "Renumber them from 0, or use text labels.",
        )
    _require_two(split, column, len(distinct), values)
    missing = sorted(set(range(count)) - set(distinct))
    messages = (f"Labels {names(missing)} do not occur in the training data.",) if missing else ()
    return tuple(str(label) for label in range(count)), messages


def _require_range(split: Split, column: str, values: pa.ChunkedArray, count: int) -> None:
    if not pa.types.is_integer(values.type):
        return
    bad = pc.or_(pc.less(values, 0), pc.greater_equal(values, count))
    row = pc.index(bad, True).as_py()
    if row < 0:
        return
    value = values[row].as_py()
    hint = " Splits of which the labels are kept secret hold -1: choose another split." if value == -1 else ""
    raise PrepareError(
        Reason.LABELS_INVALID,
        f"{split.place(row)}: label {value} in column {column!r} is out of range: 0 to {count - 1}.{hint}"
        if value >= 0
        else f"{split.place(row)}: label {value} in column {column!r} is negative; classes are counted from 0.{hint}",
    )


def _require_two(split: Split, column: str, found: int, values: pa.ChunkedArray) -> None:
    if found < 2:
        raise PrepareError(
            Reason.LABELS_INVALID,
            f"{split.name}: all rows have the label {shown(values[0].as_py())} in column {column!r}; "
            "there is nothing to tell apart.",
        )
