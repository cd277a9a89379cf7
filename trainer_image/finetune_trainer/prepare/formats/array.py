"""One JSON array, alone or in a document, that may be larger than memory: its elements, one after the other, and the line
of a mistake.
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TextIO

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.data_errors import names, shown
from finetune_trainer.prepare.content import Content
from finetune_trainer.prepare.formats.raw import encoding_problem
from finetune_trainer.shared.failures import ExpectedError

CHUNK_CHARACTERS = 1 << 20
MAYBE_CUT_CHARACTERS = 16
"""The distance from the end of the text read so far within which an error may be due to that end."""
BLANK = re.compile(r"[ \t\r\n]*")
COMMA = re.compile(r"[ \t\r\n]*,[ \t\r\n]*")


@dataclass(frozen=True)
class Doubled:
    """An object with a key that is there twice: Python would keep the last value and say nothing."""

    key: str


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any] | Doubled:
    members = dict(pairs)
    if len(members) == len(pairs):
        return members
    keys = [key for key, _ in pairs]
    return Doubled(next(key for key in members if keys.count(key) > 1))


DECODER = json.JSONDecoder(object_pairs_hook=_object)
SCANNER = json.JSONDecoder()
"""A decoder without the hook, which finds quicker where a value ends."""


def elements(content: Content, field: str | None = None) -> Iterator[str]:
    """Yield the text of each element on a line of its own; of the array under key `field`, if named."""
    with _window(content) as array:
        yield from array.elements() if field is None else array.elements_of(field)


def keys(content: Content) -> dict[str, str]:
    """Return the keys of the object that a document is, and how their values begin."""
    with _window(content) as array:
        return dict(array.members())


@contextmanager
def _window(content: Content) -> Iterator[_Array]:
    with io.TextIOWrapper(content.open(), encoding="utf-8-sig", newline="") as file:
        try:
            yield _Array(file, content.name)
        except UnicodeDecodeError as error:
            raise encoding_problem(content) from error
        except _BrokenError as broken:
            message = (
                f"{content.name}, line {broken.line} is not valid JSON: {broken.problem} at column {broken.column}."
            )
            raise ExpectedError(Reason.DATA_INVALID, message) from broken


class _BrokenError(Exception):
    def __init__(self, problem: str, line: int, column: int) -> None:
        super().__init__(problem)
        self.problem, self.line, self.column = problem, line, column


class _Array:
    """A window on the file: the text that was read and has not been consumed."""

    def __init__(self, file: TextIO, name: str) -> None:
        self._file = file
        self._name = name
        self._text = ""
        self._at = 0
        self._lines = 0
        """Line ends before the window."""
        self._before = 0
        """Characters of the window's first line that are before it."""

    def elements(self) -> Iterator[str]:
        yield from self._values()
        self._end()

    def elements_of(self, field: str) -> Iterator[str]:
        """Yield the elements of the array that a document has under a key."""
        keys_read, is_found = [], False
        for key, first in self.members(but=field):
            keys_read.append(key)
            if key == field:
                if is_found:
                    raise self._invalid(f"key {field!r} is there twice.")
                if first != "[":
                    raise self._invalid(
                        f"key {field!r} (spec.dataset.field) holds {shown(json.loads(self._element()))} where a list of rows is "
                        "needed."
                    )
                is_found = True
                yield from self._values()
        self._end()
        if not is_found:
            raise self._invalid(
                f"there is no key {field!r}; it has {names(keys_read) or 'none'}. Set spec.dataset.field."
            )

    def members(self, but: str | None = None) -> Iterator[tuple[str, str]]:
        """Yield the keys of an object and how their values begin; values are passed over, but that of `but` is left to the caller."""
        self._take("{", "Expecting an object")
        if self._next() == "}":
            self._at += 1
            return
        while True:
            if self._next() != '"':
                raise self._broken("Expecting property name enclosed in double quotes", self._at)
            key = json.loads(self._element())
            self._take(":", "Expecting ':' delimiter")
            first = self._next()
            yield key, first
            if key != but:
                for _ in self._values() if first == "[" else [self._element()]:
                    pass
            if self._take(",}", "Expecting ',' delimiter") == "}":
                return

    def _values(self) -> Iterator[str]:
        self._take("[", "Expecting value")
        if self._next() == "]":
            self._at += 1
        else:
            yield self._element()
            while self._comma():
                yield self._element()

    def _comma(self) -> bool:
        """Tell whether another element follows; if so the window stands before it."""
        match = COMMA.match(self._text, self._at)
        if match and match.end() < len(self._text):
            self._at = match.end()
            return True
        return self._take(",]", "Expecting ',' delimiter") == ","

    def _end(self) -> None:
        if self._next():
            raise self._broken("Extra data", self._at)

    def _invalid(self, message: str) -> ExpectedError:
        return ExpectedError(Reason.DATA_INVALID, f"{self._name}: {message}")

    def _element(self) -> str:
        self._next()
        while True:
            try:
                _, end = SCANNER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                cut = error.pos >= len(self._text) - MAYBE_CUT_CHARACTERS or error.msg.startswith("Unterminated string")
                if cut and self._more():
                    continue
                raise self._broken(error.msg, error.pos) from error
            except RecursionError as error:
                raise self._broken("lists and objects within each other, too deep to read", self._at) from error
            if end == len(self._text) and self._more():  # a number may go on
                continue
            text, self._at = self._text[self._at : end], end
            # A line end within a value can only be between its parts.
            return text.replace("\n", " ").replace("\r", " ")

    def _take(self, wanted: str, otherwise: str) -> str:
        character = self._next()
        if not character or character not in wanted:
            raise self._broken(otherwise, self._at)
        self._at += 1
        return character

    def _next(self) -> str:
        """Return the next character that is not blank; empty at the end."""
        while True:
            match = BLANK.match(self._text, self._at)
            self._at = match.end() if match else self._at
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def _more(self) -> bool:
        """Read on, as much again as the window holds, so that a long element is not parsed over and over."""
        chunk = self._file.read(max(CHUNK_CHARACTERS, len(self._text) - self._at))
        if not chunk:
            return False
        consumed, self._text = self._text[: self._at], self._text[self._at :]
        self._at = 0
        ends = consumed.count("\n")
        self._lines += ends
        self._before = len(consumed) - consumed.rfind("\n") - 1 if ends else self._before + len(consumed)
        self._text += chunk
        return True

    def _broken(self, problem: str, at: int) -> _BrokenError:
        before = self._text[:at]
        ends = before.count("\n")
        column = len(before) - before.rfind("\n") if ends else self._before + len(before) + 1
        return _BrokenError(problem, self._lines + ends + 1, column)
