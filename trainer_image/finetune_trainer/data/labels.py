"""Class labels: from names, text or numbers in the data to ids from 0, and every way in which they can be wrong.

Here each row has one label; `label_lists` is for rows with several.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.data_errors import names, others, shown
from finetune_trainer.data.split import Split
from finetune_trainer.shared.failures import ExpectedError

NUMBER = r"^(0|-?[1-9][0-9]{0,17})$"
"""Pattern of a whole number; text with zeros in front (007) is a code."""
SECRET = " Splits of which the labels are kept secret hold -1: choose another split."
FLOAT = r"^[+-]?(\d+\.\d*|\.\d+|\d+)([eE][+-]?\d+)?$"
WHOLE = r"^[+-]?\d+(\.0*)?$"
SERIALISED = r"""(?s)^\s*(?:\[.*\]|\(\s*['"].*\)|\{\s*['"].*\})\s*$"""
"""Pattern of a list as Python or JSON writes it, or of a tuple or a set."""
GROUPS_SHOWN = 3
MISSING = ("nan", "none", "null", "n/a", "#n/a", "<na>", "nat")
"""Texts that pandas, Excel and databases write where a value is missing."""
MANY = 20
"""The number of labels below which it means nothing that each occurs once."""


@dataclass(frozen=True)
class Items:
    """The labels of a column one after another: one a row, or those of each row's list."""

    split: Split
    column: str
    values: pa.ChunkedArray
    """Integers or text, none of them missing."""
    row: Callable[[int], int] = int
    """Number of an item -> its row."""
    noun: str = "label"
    """The word for a label in messages."""

    @property
    def integers(self) -> bool:
        return bool(pa.types.is_integer(self.values.type))

    @property
    def declared(self) -> tuple[str, ...] | None:
        """Names of the classes, where the data has them."""
        return self.split.class_names.get(self.column)

    def wrong(self, item: int, message: str, *, article: str = "") -> ExpectedError:
        """Make the error at an item; with an `article` its value is in quotes: `the label 'ugly' in column 'stars' ...`."""
        value = self.values[item].as_py()
        shown_value = shown(value) if article else value
        where = self.split.place(self.row(item))
        return ExpectedError(
            Reason.LABELS_INVALID, f"{where}: {article}{self.noun} {shown_value} in column {self.column!r} {message}"
        )


def class_names(split: Split, column: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the classes by id, as the training rows have them, and messages for the user."""
    items = Items(split, column, _values(split, column))
    classes, messages = names_of(items)
    if len(pc.unique(items.values)) < 2:
        raise nothing_to_tell_apart(items)
    return classes, (*messages, *_about_text(items, classes), *_about_count(items, classes))


def class_ids(split: Split, column: str, class_labels: tuple[str, ...]) -> pa.ChunkedArray:
    """Return the id of each row's class. Raise ExpectedError for a class that training does not know."""
    return ids_of(Items(split, column, _values(split, column)), class_labels)


def names_of(items: Items) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names of the classes by id, as the data declares them or as they occur, and messages for the user."""
    if items.declared is not None:
        require_range(items, len(items.declared))
        return items.declared, ()
    distinct = pc.unique(items.values).to_pylist()
    if items.integers:
        return _of_integers(items, sorted(distinct))
    digits = all(name.isdecimal() for name in distinct)
    classes = tuple(sorted(distinct, key=_by_number) if digits else sorted(distinct))
    return classes, (*alike(items, classes), *_missing(items, classes))


def _by_number(digits: str) -> tuple[int, str, str]:
    """Sort numbers as numbers: 2 before 10."""
    number = digits.lstrip("0")
    return len(number), number, digits


def ids_of(items: Items, class_labels: tuple[str, ...]) -> pa.ChunkedArray:
    """Return the id of each item's class."""
    if items.integers and (items.declared == class_labels or class_labels == numbered(len(class_labels))):
        # The integers are ids: the data declares these names for them, or they were numbers in training, too.
        require_range(items, len(class_labels))
        return items.values.cast(pa.int64())
    values = items.values.cast(pa.string())
    if items.integers and items.declared is not None:  # the same names in another order, or other names
        require_range(items, len(items.declared))
        values = pc.take(pa.array(items.declared, pa.string()), items.values)
    ids = pc.index_in(values, value_set=pa.array(class_labels, type=values.type))
    if ids.null_count:
        item = pc.index(pc.is_null(ids), True).as_py()
        hint = SECRET if values[item].as_py() == "-1" else ""
        as_text = Items(items.split, items.column, values, items.row, items.noun)
        raise as_text.wrong(
            item, f"does not occur in the training data, which has {names(list(class_labels))}.{hint}", article="the "
        )
    return ids.cast(pa.int64())


def numbered(count: int) -> tuple[str, ...]:
    """Name classes by their numbers."""
    return tuple(str(label) for label in range(count))


def alike(items: Items, classes: Sequence[str]) -> tuple[str, ...]:
    """Warn of classes whose names a person would take for one name."""
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(_plain(name), []).append(name)
    several = [" and ".join(_distinct(name, group) for name in group) for group in groups.values() if len(group) > 1]
    if not several:
        return ()
    more = f" (and {len(several) - GROUPS_SHOWN} more such groups)" if len(several) > GROUPS_SHOWN else ""
    return (
        f"{items.noun.title()}s in column {items.column!r} look alike: {'; '.join(several[:GROUPS_SHOWN])}{more}. They differ in "
        "white space, capital letters or characters that are not seen, and each is a class of its own: if that is not meant, "
        "write them alike.",
    )


def _plain(name: str) -> str:
    """Return a name as a person sees it, without characters that have no width (category Cf)."""
    normal = unicodedata.normalize("NFKC", name).casefold()
    return " ".join("".join(sign for sign in normal if unicodedata.category(sign) != "Cf").split())


def _distinct(name: str, group: Sequence[str]) -> str:
    """Write a name as it is, or in escapes where another name looks the same."""
    forms = [unicodedata.normalize("NFKC", other) for other in group]
    return shown(name) if forms.count(unicodedata.normalize("NFKC", name)) == 1 else ascii(name)


def _missing(items: Items, classes: Sequence[str]) -> tuple[str, ...]:
    """Warn of a class whose name programs write where a value is missing."""
    written = [name for name in classes if name.strip().casefold() in MISSING]
    if not written or items.declared is not None:
        return ()
    count = pc.sum(pc.is_in(items.values, pa.array(written, items.values.type))).as_py()
    return (
        f"{items.noun.title()} {names(written)} in column {items.column!r} ({count} of {len(items.values)}) is what programs "
        "write where a value is missing: it is a class like any other. Leave such rows out if that is not meant.",
    )


def _about_count(items: Items, classes: Sequence[str]) -> tuple[str, ...]:
    """Warn of a column in which hardly any label occurs twice."""
    rows, labels = len(items.values), len(classes)
    if items.declared is not None or labels < MANY or labels * 2 <= rows:
        return ()
    return (
        f"Column {items.column!r} has {labels} different {items.noun}s in {rows} rows, such as {names(list(classes[:2]))}: hardly "
        "any of them can be learnt. Is it the column with the labels?",
    )


def _about_text(items: Items, classes: Sequence[str]) -> tuple[str, ...]:
    """Warn of text that could be something else."""
    if items.integers or items.declared is not None:
        return ()
    if all(_is(name, SERIALISED) for name in classes):
        return (
            f"The labels in column {items.column!r} look like lists written as text, such as {shown(classes[0])}: each "
            "different one is a class of its own. If a row has several labels set spec.problemType: "
            "multi_label_classification.",
        )
    if items.split.untyped and all(_is(name, NUMBER) for name in classes):
        return (
            f"The labels in column {items.column!r} are numbers that do not count classes from 0 ({names(list(classes))}): "
            "each is the name of a class.",
        )
    if all(_is(name, FLOAT) for name in classes) and any("." in name for name in classes):
        return (
            f"The labels in column {items.column!r} are text that looks like numbers, such as {shown(classes[0])}: each "
            "different one is a class. For numbers to be predicted set spec.problemType: regression.",
        )
    return ()


def _is(name: str, pattern: str) -> bool:
    return re.match(pattern, name) is not None


def nothing_to_tell_apart(items: Items) -> ExpectedError:
    """Make the error for a single class."""
    return ExpectedError(
        Reason.LABELS_INVALID,
        f"{items.split.name}: all rows have the {items.noun} {shown(items.values[0].as_py())} in column "
        f"{items.column!r}; there is nothing to tell apart.",
    )


def without_nulls(split: Split, column: str) -> pa.ChunkedArray:
    """Return the values of a column of labels, or of numbers to be predicted. Raise ExpectedError where one is missing."""
    values = split.table.column(column)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if pa.types.is_floating(values.type):  # pandas marks missing values as NaN
        values = pc.if_else(pc.is_nan(values), pa.scalar(None, values.type), values)
    if values.null_count:
        row = pc.index(pc.is_null(values), True).as_py()
        raise ExpectedError(
            Reason.LABELS_INVALID,
            f"{split.place(row)}: no label in column {column!r}{others(values.null_count)}. Give each row one, or leave "
            "such rows out.",
        )
    return values


def _values(split: Split, column: str) -> pa.ChunkedArray:
    """Return labels as integers or as text, whatever type they came in. Raise ExpectedError where one is missing."""
    values = without_nulls(split, column)
    if pa.types.is_boolean(values.type):
        return pc.if_else(values, "true", "false")
    if pa.types.is_integer(values.type):
        return values
    if pa.types.is_floating(values.type):
        values = values.cast(pa.float64())  # few functions take halves
        whole = pc.equal(values, pc.floor(values))
        row = pc.index(whole, False).as_py()
        raise _fraction(Items(split, column, values), max(0, row), whole=row < 0)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        hint = ""
        if is_list(values.type):
            hint = " Where a row has several labels set spec.problemType: multi_label_classification."
        raise ExpectedError(
            Reason.LABELS_INVALID,
            f"{split.place(0)}: column {column!r} holds {values.type}; labels are text or integers from 0.{hint}",
        )
    return _from_text(split, column, values)


def is_list(kind: pa.DataType) -> bool:
    """Tell whether a type is a list, of whatever width."""
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _from_text(split: Split, column: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Make numbers of text that looks like them where it comes from csv, which has no numbers; else text is text."""
    empty = pc.index(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(values)), 0), True).as_py()
    if empty >= 0:
        raise ExpectedError(
            Reason.LABELS_INVALID,
            f"{split.place(empty)}: the label in column {column!r} is empty. Give each row one, or leave such rows out.",
        )
    if not split.untyped:
        return values
    distinct = pc.unique(values)
    fraction = pc.index(pc.match_substring(values, "."), True).as_py()
    if fraction >= 0 and pc.all(pc.match_substring_regex(distinct, FLOAT)).as_py():
        whole = pc.all(pc.match_substring_regex(distinct, WHOLE)).as_py()
        raise _fraction(Items(split, column, values), fraction, whole=whole)
    return values.cast(pa.int64()) if are_ids(distinct) else values


def are_ids(distinct: pa.Array) -> bool:
    """Tell whether texts are the numbers of classes, counted from 0 (or are meant to be, where one is negative)."""
    if not len(distinct) or not pc.all(pc.match_substring_regex(distinct, NUMBER)).as_py():
        return False
    numbers = sorted(int(number) for number in distinct.to_pylist())
    return numbers[0] < 0 or not _other_than_ids(numbers)


def _other_than_ids(distinct: Sequence[int]) -> bool:
    """Tell whether numbers, ascending, begin above 0 or leave out too many to be numbers of classes."""
    return distinct[0] > 0 or distinct[-1] + 1 > 2 * len(distinct)


def _fraction(items: Items, row: int, *, whole: bool) -> ExpectedError:
    """Make the error for numbers in place of classes; `whole`: all are whole numbers with a decimal point."""
    way_out = (
        f" Write classes without it (pandas adds it where a value is missing): df[{items.column!r}].astype('Int64')."
    )
    return items.wrong(
        row,
        "is a number with a decimal point; text-classification takes text or whole numbers from 0. For numbers to be "
        f"predicted set spec.problemType: regression.{way_out if whole else ''}",
        article="the ",
    )


def _of_integers(items: Items, distinct: list[int]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    count = distinct[-1] + 1
    require_range(items, count)
    if _other_than_ids(distinct):
        raise items.wrong(
            pc.index(items.values, pa.scalar(distinct[-1], items.values.type)).as_py(),
            f"is out of range: the data has {len(distinct)} different {items.noun}s ({names(distinct)}), so they should "
            f"be 0 to {len(distinct) - 1}. Renumber them from 0, or use text {items.noun}s.",
        )
    missing = sorted(set(range(count)) - set(distinct))
    messages = (f"{items.noun.title()}s {names(missing)} do not occur in the training data.",) if missing else ()
    return numbered(count), messages


def require_range(items: Items, count: int) -> None:
    """Refuse integers that are not ids of so many classes."""
    if not items.integers:
        return
    bad = pc.or_(pc.less(items.values, 0), pc.greater_equal(items.values, count))
    item = pc.index(bad, True).as_py()
    if item < 0:
        return
    value = items.values[item].as_py()
    if value >= 0:
        raise items.wrong(item, f"is out of range: 0 to {count - 1}.")
    hint = SECRET if value == -1 else ""
    raise items.wrong(item, f"is negative; classes are counted from 0.{hint}")
