"""Lists of labels: the tags of a text's words, or the labels of which a text has several.

What is wrong with a single label is `labels`' business; here it is found in which row's list it stands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.config import Reason
from finetune_trainer.prepare.errors import PrepareError, others, shown
from finetune_trainer.prepare.labels import INTEGER, Items, ids_of, is_list, names_of, nothing_to_tell_apart
from finetune_trainer.prepare.source import Split

SEPARATORS = ("|", ",")
"""Where lists are written as text: the first of them that occurs anywhere separates."""


class Lists:
    """A column of lists of labels, looked at as one long row of items."""

    def __init__(self, split: Split, column: str, values: pa.ChunkedArray, noun: str) -> None:
        self._lengths = pc.list_value_length(values).cast(pa.int64())
        self.items = Items(split, column, _items(split, column, values, self._row, noun), self._row, noun)

    @classmethod
    def read(cls, split: Split, column: str, *, noun: str, separator: str | None = None) -> Lists:
        """A column as it came; with `separator` it may be text."""
        values = split.table.column(column)
        if separator is not None and _is_text(values.type):
            return cls(split, column, _parts(values, separator), noun)
        if not is_list(values.type):
            raise _no_list(split, column, values.type, noun)
        if values.null_count:
            row = pc.index(pc.is_null(values), True).as_py()
            raise PrepareError(
                Reason.LABELS_INVALID,
                f"{split.place(row)}: no {noun}s in column {column!r}{others(values.null_count)}. Give each row a list, "
                "or leave such rows out.",
            )
        return cls(split, column, values, noun)

    @property
    def lengths(self) -> pa.ChunkedArray:
        """Items of each row."""
        return self._lengths

    def names(self, *, at_least: int) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Names of the classes by id; and what to tell the user."""
        items = self.items
        if len(items.values) == 0:
            raise PrepareError(
                Reason.LABELS_INVALID,
                f"{items.split.name}: no row has a {items.noun} in column {items.column!r}; there is nothing to learn.",
            )
        found = names_of(items)
        if len(pc.unique(items.values)) < at_least:
            raise nothing_to_tell_apart(items)
        return found

    def ids(self, class_labels: tuple[str, ...]) -> pa.ChunkedArray:
        """The same lists with the ids of the classes."""
        ids = pa.concat_arrays([pa.array([], pa.int32()), *ids_of(self.items, class_labels).cast(pa.int32()).chunks])
        offsets = np.concatenate([[0], np.cumsum(self._lengths.to_numpy())])
        lists = pa.LargeListArray.from_arrays(pa.array(offsets, pa.int64()), ids)
        return pa.chunked_array([lists])

    def require_no_doubles(self) -> None:
        """A 0 or a 1 for each class looks like a list of ids, but for what it repeats."""
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
        raise PrepareError(
            Reason.LABELS_INVALID,
            f"{items.split.place(row)}: column {items.column!r} holds {shown(values[rows == row].tolist())}, in which a "
            f"{items.noun} is there twice. List the ids (or names) of the {items.noun}s that apply, not a 0 or 1 for each.",
        )

    def _row(self, item: int) -> int:
        return int(np.searchsorted(np.cumsum(self._lengths.to_numpy()), item, side="right"))


def separator(splits: Iterable[Split], column: str) -> str | None:
    """What separates labels where lists are written as text; None where they are lists."""
    texts = [split.table.column(column) for split in splits]
    texts = [values for values in texts if _is_text(values.type)]
    if not texts:
        return None
    for sign in SEPARATORS:
        if any(pc.any(pc.match_substring(values, sign)).as_py() for values in texts):
            return sign
    return SEPARATORS[-1]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind))


def _parts(values: pa.ChunkedArray, sign: str) -> pa.ChunkedArray:
    """Text cut at a sign, without the white space around; no text is no label. Numbers stay text only if all are not."""
    lists = [[part for part in map(str.strip, (text or "").split(sign)) if part] for text in values.to_pylist()]
    cut = pa.chunked_array([pa.array(lists, pa.list_(pa.string()))])
    flat = pc.list_flatten(cut)
    if len(flat) and pc.all(pc.match_substring_regex(flat, INTEGER)).as_py():
        return cut.cast(pa.list_(pa.int64()))
    return cut


def _items(
    split: Split, column: str, values: pa.ChunkedArray, row_of: Callable[[int], int], noun: str
) -> pa.ChunkedArray:
    """All items one after another, as integers or text."""
    flat = pc.list_flatten(values)
    if pa.types.is_dictionary(flat.type):
        flat = flat.cast(flat.type.value_type)
    items = Items(split, column, flat, row_of, noun)
    if flat.null_count:
        item = pc.index(pc.is_null(flat), True).as_py()
        raise PrepareError(
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
        raise PrepareError(
            Reason.LABELS_INVALID,
            f"{split.place(items.row(0))}: column {column!r} holds {values.type} such as {shown(value)}; {noun}s are "
            "lists of text or of integers from 0.",
        )
    empty = pc.index(pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(flat)), 0), True).as_py()
    if empty >= 0:
        raise PrepareError(
            Reason.LABELS_INVALID,
            f"{split.place(items.row(empty))}: a {noun} in column {column!r} is empty. Name each, or leave such rows out.",
        )
    return flat


def _no_list(split: Split, column: str, kind: pa.DataType, noun: str) -> PrepareError:
    return PrepareError(
        Reason.LABELS_INVALID,
        f"{split.place(0)}: column {column!r} holds {kind} where lists of {noun}s are needed. Csv has no lists: use "
        "json lines or parquet; or name the column in spec.dataset.columns.",
    )
