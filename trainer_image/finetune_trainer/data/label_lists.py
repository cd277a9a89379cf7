"""Lists of labels: the tags of a text's words, or the labels of which a text has several.

`labels` finds what is wrong with a single label; this module finds the row in whose list the label stands.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.data_errors import half_a_character, half_character, others, shown
from finetune_trainer.data.labels import SERIALISED, Items, are_ids, ids_of, is_list, names_of, nothing_to_tell_apart
from finetune_trainer.data.split import Split
from finetune_trainer.data.texts import BLANK
from finetune_trainer.shared.failures import ExpectedError

SEPARATORS = ("|", ";", ",")
"""Separators of lists that are written as text: the first of them that occurs anywhere is taken."""
BRACKETS = "[]"
"""Value in place of a separator where each text is a list as JSON or Python writes it (in Python also a tuple, or a set)."""
_ITEM = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|-?[0-9]+"""
_LIST = re.compile(rf"\s*[\[({{]\s*(?:(?:{_ITEM})\s*(?:,\s*(?:{_ITEM})\s*)*,?\s*)?[\])}}]\s*", re.DOTALL)
TAG = "tag"
"""What messages call the label of a word."""
NOT_COUNTED = -100
"""Number of a tag that does not count: data that was aligned with tokens has it at the later tokens of a word."""


class Lists:
    """A column of lists of labels, read as one long row of items."""

    def __init__(self, split: Split, column: str, values: pa.ChunkedArray, noun: str) -> None:
        self._lengths = pc.list_value_length(values).cast(pa.int64())
        self._counted: np.ndarray[Any, Any] | None = None
        """Number of each item that counts, among all items; None where all count."""
        flat = _items(split, column, values, self._row, noun)
        self._written = len(flat)
        if noun == TAG:
            counted = pc.not_equal(flat, str(NOT_COUNTED) if _is_text(flat.type) else NOT_COUNTED)
            if not pc.all(counted).as_py():
                flat, self._counted = flat.filter(counted), np.flatnonzero(counted.to_numpy())
        self.items = Items(split, column, flat, self._row, noun)

    @classmethod
    def read(cls, split: Split, column: str, *, noun: str, separator: str | None = None) -> Lists:
        """Read a column of lists; with a `separator` the column may also be text."""
        values = split.table.column(column)
        if separator is not None and _is_text(values.type):
            cut = _parsed(split, column, values) if separator == BRACKETS else _parts(values, separator)
            return cls(split, column, cut, noun)
        if not is_list(values.type):
            raise ExpectedError(
                Reason.LABELS_INVALID,
                f"{split.place(0)}: column {column!r} holds {values.type} where lists of {noun}s are needed. {split.lists}; or name "
                "the right column in spec.dataset.columns.",
            )
        if values.null_count:
            row = pc.index(pc.is_null(values), True).as_py()
            raise ExpectedError(
                Reason.LABELS_INVALID,
                f"{split.place(row)}: no {noun}s in column {column!r}{others(values.null_count)}. Give each row a list, "
                "or leave such rows out.",
            )
        return cls(split, column, values, noun)

    @property
    def lengths(self) -> pa.ChunkedArray:
        """Items of each row."""
        return self._lengths

    @property
    def not_counted(self) -> int:
        """Number of items that are marked as not counting."""
        return self._written - len(self.items.values)

    def names(self, *, at_least: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the names of the classes by id, and messages for the user."""
        items = self.items
        if len(items.values) == 0:
            raise ExpectedError(
                Reason.LABELS_INVALID,
                f"{items.split.name}: no row has a {items.noun} in column {items.column!r}; there is nothing to learn.",
            )
        class_names = names_of(items)
        if len(pc.unique(items.values)) < at_least:
            raise nothing_to_tell_apart(items)
        return class_names

    def ids(self, class_labels: tuple[str, ...]) -> pa.ChunkedArray:
        """Return the same lists with the ids of the classes; items that do not count stay as they are."""
        ids = pa.concat_arrays([pa.array([], pa.int32()), *ids_of(self.items, class_labels).cast(pa.int32()).chunks])
        if self._counted is not None:
            whole = np.full(self._written, NOT_COUNTED, np.int32)
            whole[self._counted] = ids.to_numpy()
            ids = pa.array(whole)
        offsets = np.concatenate([[0], np.cumsum(self._lengths.to_numpy())])
        lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), ids)
        return pa.chunked_array([lists])

    def require_no_doubles(self) -> None:
        """Refuse lists with a repeated label: most are a 0 or a 1 for each class, which would pass for lists of ids."""
        items = self.items
        if not items.integers or len(items.values) == 0:
            return
        lengths = self._lengths.to_numpy()
        rows = np.repeat(np.arange(len(lengths)), lengths)
        values = items.values.to_numpy()
        pairs = np.sort(rows * (int(values.max()) + 1) + values)
        again = np.flatnonzero(pairs[1:] == pairs[:-1])
        if not len(again):
            return
        row = int(pairs[again[0]] // (int(values.max()) + 1))
        raise ExpectedError(
            Reason.LABELS_INVALID,
            f"{items.split.place(row)}: column {items.column!r} holds {shown(values[rows == row].tolist())}, in which a "
            f"{items.noun} is there twice. List the ids (or names) of the {items.noun}s that apply, not a 0 or 1 for each.",
        )

    def require_difference(self) -> None:
        """Refuse rows that all have all labels: a 0 and a 1 for either of two classes looks like a list of both ids."""
        items = self.items
        different = len(pc.unique(items.values))
        if not items.integers or different < 2 or len(items.values) < different * len(self._lengths):
            return
        raise ExpectedError(
            Reason.LABELS_INVALID,
            f"{items.split.name}: all rows have all {different} {items.noun}s in column {items.column!r}; there is nothing to "
            f"tell apart. List the ids (or names) of the {items.noun}s that apply, not a 0 or 1 for each.",
        )

    def _row(self, item: int) -> int:
        item = item if self._counted is None else int(self._counted[item])
        return int(np.searchsorted(np.cumsum(self._lengths.to_numpy()), item, side="right"))


def separator(splits: Iterable[Split], column: str) -> str | None:
    """Find the sign that separates labels where lists are written as text; None where no column is text."""
    texts = [split.table.column(column) for split in splits]
    texts = [values for values in texts if _is_text(values.type)]
    if not texts:
        return None
    written = [values.filter(pc.invert(pc.match_substring_regex(values, BLANK))) for values in texts]
    if any(map(len, written)) and all(
        pc.all(pc.match_substring_regex(texts, SERIALISED)).as_py() for texts in written if len(texts)
    ):
        return BRACKETS
    for sign in SEPARATORS:
        if any(pc.any(pc.match_substring(values, sign)).as_py() for values in texts):
            return sign
    return SEPARATORS[-1]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _parts(values: pa.ChunkedArray, sign: str) -> pa.ChunkedArray:
    """Cut texts at a sign, without the white space around; an empty text has no label. Numbers of classes become integers."""
    lists = [[part for part in map(str.strip, (text or "").split(sign)) if part] for text in values.to_pylist()]
    cut = pa.chunked_array([pa.array(lists, pa.list_(pa.string()))])
    return cut.cast(pa.list_(pa.int64())) if are_ids(pc.unique(pc.list_flatten(cut))) else cut


def _parsed(split: Split, column: str, values: pa.ChunkedArray) -> pa.ChunkedArray:
    """Parse lists that are written as text; an empty text has no label."""
    lists: list[list[Any]] = []
    for row, text in enumerate(values.to_pylist()):
        items = _list(text) if text and text.strip() else []
        if items is None:
            raise ExpectedError(
                Reason.LABELS_INVALID,
                f"{split.place(row)}: column {column!r} holds {shown(text)}, which looks like a list and is none. Write it "
                'as ["a", "b"], which json.dumps does, or as a|b.',
            )
        if (half := half_character(items)) is not None:
            raise half_a_character(f"{split.place(row)}: column {column!r}", half)
        lists.append(items)
    if {type(item) for items in lists for item in items} == {int}:
        return pa.chunked_array([pa.array(lists, pa.list_(pa.int64()))])
    return pa.chunked_array([pa.array([list(map(str, items)) for items in lists], pa.list_(pa.string()))])


def _list(text: str) -> list[Any] | None:
    """Parse a text that is a list of texts or integers; None where it is none."""
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        if not _LIST.fullmatch(text):
            return None
        try:
            # One item at a time: between two of them Python would read more than there is.
            items = [ast.literal_eval(item) for item in re.findall(_ITEM, text, re.DOTALL)]
        except (ValueError, SyntaxError):
            return None
    if not isinstance(items, list) or not all(type(item) in (int, str) for item in items):
        return None
    return items if all(type(item) is str or abs(item) < 2**63 for item in items) else None


def _items(
    split: Split, column: str, values: pa.ChunkedArray, row_of: Callable[[int], int], noun: str
) -> pa.ChunkedArray:
    """Return all items one after another, as integers or text."""
    flat = pc.list_flatten(values)
    if pa.types.is_dictionary(flat.type):
        flat = flat.cast(flat.type.value_type)
    items = Items(split, column, flat, row_of, noun)
    if flat.null_count:
        item = pc.index(pc.is_null(flat), True).as_py()
        raise ExpectedError(
            Reason.LABELS_INVALID,
            f"{split.place(items.row(item))}: a {noun} in column {column!r} is null{others(flat.null_count)}. Name each, "
            "or leave such rows out.",
        )
    if pa.types.is_null(flat.type):
        return flat.cast(pa.string())
    if pa.types.is_integer(flat.type):
        return flat
    if not _is_text(flat.type):
        value = flat[0].as_py() if len(flat) else None
        raise ExpectedError(
            Reason.LABELS_INVALID,
            f"{split.place(items.row(0))}: column {column!r} holds {values.type} such as {shown(value)}; {noun}s are "
            "lists of text or of integers from 0.",
        )
    empty = pc.index(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(flat)), 0), True).as_py()
    if empty >= 0:
        raise ExpectedError(
            Reason.LABELS_INVALID,
            f"{split.place(items.row(empty))}: a {noun} in column {column!r} is empty. Name each, or leave such rows out.",
        )
    return flat
