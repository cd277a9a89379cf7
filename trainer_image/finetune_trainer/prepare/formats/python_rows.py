"""Rows as Python parsed them become columns: each value is checked, so that a mistake is named with its place and reason."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from finetune_trainer.contract.records import Reason
from finetune_trainer.data import nested
from finetune_trainer.data.column_request import ColumnRequest
from finetune_trainer.data.data_errors import column_missing, half_a_character, half_character, names, shown
from finetune_trainer.prepare.content import Content
from finetune_trainer.prepare.formats import columns, shapes
from finetune_trainer.prepare.formats.array import Doubled
from finetune_trainer.shared.failures import ExpectedError

LARGEST = 2**63
KINDS = {float: "numbers", str: "text", bool: "true or false", list: "lists", dict: "objects"}
Placed = tuple[str, Any]
"""The place of a row, as messages name it, and the row."""


@dataclass
class ColumnKinds:
    """The needed columns of a file: kinds of their values so far, so that they fit together."""

    content: Content
    asked: ColumnRequest
    kinds: dict[str, type] = field(default_factory=dict)
    all_seen: bool = False
    """Whether all needed columns have been seen."""

    def table(self, rows: Iterable[Placed]) -> pa.Table:
        """Make a table of the rows, and check each of them."""
        values: dict[str, list[Any]] = {column: [] for column in self.asked.columns}
        places: list[str] = []
        seen = SeenColumns(self.asked.columns)
        for place, row in rows:
            if isinstance(row, Doubled):
                raise self._invalid(place, f"column {row.key!r} is there twice. Give each a name of its own.")
            if not isinstance(row, dict):
                raise self._invalid(place, f"{shown(row)} where an object is needed.{self._way_out(row)}")
            if not self.all_seen:
                if not places:
                    self._require_row(place, row)
                seen.add(row)
            places.append(place)
            columns.tell_beside(self.asked, row)
            for column, column_values in values.items():
                value = columns.value(row, column)
                self._check(place, column, value)
                column_values.append(value)
        self._require(seen)
        return pa.table(
            {column: self._array(column, column_values, places) for column, column_values in values.items()}
        )

    def _way_out(self, row: Any) -> str:
        """Say what a line or an element that is a list must be, to be a row."""
        if not isinstance(row, list):
            return ""
        if self.content.kind == ".jsonl" and all(isinstance(item, dict) for item in row):
            return shapes.ARRAY
        return shapes.A_LIST

    def _require_row(self, place: str, row: dict[str, Any]) -> None:
        """Raise where the first row is none, but a document that holds a whole table."""
        if self.asked.field is None and (problem := shapes.of_row(row, self.asked.columns, self.asked.text)):
            raise self._invalid(place, problem)

    def _require(self, seen: SeenColumns) -> None:
        """Raise where a column is in none of the first block's rows: later ones would come too late."""
        if not self.all_seen:
            for column in self.asked.columns:
                if column not in self.asked.optional:
                    seen.require(column, self.content)
        self.all_seen = True

    def _check(self, place: str, column: str, value: Any) -> None:
        if value is None:
            return
        kind = float if type(value) is int else type(value)
        if column in self.asked.text and kind in (float, bool):
            raise self._invalid(place, f"column {column!r} holds {shown(value)} where text is needed.")
        if type(value) is int and not -LARGEST <= value < LARGEST:
            raise self._invalid(place, f"column {column!r} holds {shown(value)}, a number too large.")
        if kind in (list, dict, Doubled):
            doubled = _doubled(value)
            if doubled is not None:
                raise self._invalid(place, f"column {column!r} holds an object with key {doubled!r} twice.")
        if (half := half_character(value)) is not None:
            raise half_a_character(f"{self.content.name}, {place}: column {column!r}", half)
        known = self.kinds.setdefault(column, kind)
        if known is not kind:
            before = KINDS.get(known, known.__name__)
            raise self._invalid(place, f"column {column!r} holds {shown(value)}, the rows before hold {before}.")

    def _array(self, column: str, values: list[Any], places: Sequence[str]) -> pa.Array:
        if column in self.asked.nested and self.kinds.get(column) in (list, dict):
            values = [nested.text(nested.without_nulls(value)) for value in values]
        is_text = column in self.asked.text and self.kinds.get(column, str) is str
        type_ = pa.string() if is_text else None
        try:
            return pa.array(values, type_)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            row = _first_that_does_not_fit(values)
            raise self._invalid(
                places[row],
                f"column {column!r} holds {shown(values[row], 120)}, in which something is of another kind than in the "
                "rows before, or in the same list: text among numbers, for example.",
            ) from None

    def _invalid(self, place: str, message: str) -> ExpectedError:
        return ExpectedError(Reason.DATA_INVALID, f"{self.content.name}, {place}: {message}")


class SeenColumns:
    """Columns, keys and values of the first rows, for messages."""

    def __init__(self, needed: Sequence[str]) -> None:
        self._needed = needed
        self._columns: dict[str, None] = {}
        self._paths: set[str] = set()
        """Needed columns that a row has, with a value or without."""
        self._keys: dict[str, dict[str, None]] = {}
        """Path of a column of objects -> their keys."""
        self._values: dict[str, Any] = {}
        self._rows = 0

    def add(self, row: dict[str, Any]) -> None:
        self._rows += 1
        self._columns |= dict.fromkeys(row)
        for key, value in row.items():
            if value is not None:
                self._values.setdefault(key, value)
        for column in self._needed:
            if column not in row and "." in column:
                self._walk(row, column)

    def _walk(self, row: dict[str, Any], column: str) -> None:
        at = ""
        inner: Any = row
        for key in column.split("."):
            if not isinstance(inner, dict):
                return
            if at:
                self._keys.setdefault(at, {}).update(dict.fromkeys(inner))
            if key not in inner:
                return
            at, inner = f"{at}.{key}".lstrip("."), inner[key]
        self._paths.add(column)

    def require(self, column: str, content: Content) -> None:
        """Raise where no row has a column."""
        if column in self._columns or column in self._paths:
            return
        at = columns.holder(column, list(self._columns))
        if at is None:
            raise column_missing(column, list(self._columns), content.name, self._hint(content))
        while f"{at}.{column[len(at) + 1 :].split('.')[0]}" in self._keys:
            at = f"{at}.{column[len(at) + 1 :].split('.')[0]}"
        if at in self._keys:
            raise columns.key_missing(column, at, list(self._keys[at]), content.name)
        if self._values.get(at) is not None:
            raise columns.no_keys(column, at, shown(self._values[at]), content.name)

    def _hint(self, content: Content) -> str:
        """Name the key that may hold the rows, where a whole document on one line looks like a row."""
        lists = {key: value for key, value in self._values.items() if isinstance(value, list)}
        holders = [key for key, value in lists.items() if any(isinstance(item, dict) for item in value[:1])]
        if self._rows == 1 and content.kind == ".json" and holders:
            return f" If {names(holders)} holds the rows, set spec.dataset.field to it."
        return ""


def _doubled(value: Any) -> str | None:
    """Find a key that is twice in an object within a value."""
    if isinstance(value, Doubled):
        return value.key
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((key for item in inner if (key := _doubled(item)) is not None), None)


def _first_that_does_not_fit(values: list[Any]) -> int:
    """Find the first row up to which pyarrow finds no common type: by halving, the rows before it have one."""
    low, high = 0, len(values)
    while high - low > 1:
        middle = (low + high) // 2
        try:
            pa.array(values[:middle])
            low = middle
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            high = middle
    return low
