"""A check of quotes in separated values: a value that begins with one must end with one.

In tab-separated corpora a quote is a character like any other. Who takes it for the beginning of a value joins all lines
up to the next quote, and says nothing: so what follows a closing quote is looked at.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finetune_trainer.prepare.formats.raw import BYTE_ORDER_MARK, LINE_END

QUOTE, RETURN, OTHER = b'"', b"\r", b"x"
SPACES = 8
"""The characters of white space that are looked at before a quote."""
Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Misplaced:
    """A value that begins with a quote and does not end with one."""

    begins: int
    """Line of the quote that begins it."""
    goes_on: int | None
    """Line on which text follows the quote that should end it; None where there is no such quote."""


class Quotes:
    """The quotes of a file, of which all bytes are added in order, in parts of any size."""

    def __init__(self, separator: str) -> None:
        self.misplaced: Misplaced | None = None
        """The first one in the file."""
        self.span_lines = False
        """Whether a value in quotes holds a line end."""
        self.in_header = False
        """Whether the first line has a value in quotes."""
        self.behind_space: int | None = None
        """The first line on which white space and then a quote begin a value: neither is taken away."""
        self._separator = separator.encode()
        self._begins = np.frombuffer(self._separator + LINE_END + RETURN, np.uint8)
        """The characters before a quote that begins a value, and after one that ends it."""
        self._after = re.compile(rb"[ \t]*(?:%s|\r|\n|$)" % re.escape(self._separator))
        self._before = re.compile(rb"(?:%s|\n|^)[ \t]+$" % re.escape(self._separator))
        self._open: int | None = None
        """Line on which a value began that has not ended."""
        self._line = 1
        self._rest: list[bytes] = []
        """Parts of a line whose end has not been added."""

    def add(self, part: bytes) -> None:
        """Look at more bytes."""
        end = part.rfind(LINE_END) + 1
        if end:
            self._lines(b"".join([*self._rest, part[:end]]))
            self._rest = []
        if end < len(part):
            self._rest.append(part[end:])

    def finish(self) -> None:
        """End the walk: there are no more blocks."""
        self._lines(b"".join(self._rest))
        self._rest = []
        if self._open is not None and self.misplaced is None:
            self.misplaced = Misplaced(self._open, None)

    def _lines(self, block: bytes) -> None:
        if self.misplaced is not None:
            return
        if self._line == 1:
            block = block.removeprefix(BYTE_ORDER_MARK)
            self.in_header |= QUOTE in block.split(LINE_END, 1)[0]
        if QUOTE in block:
            self._quotes(_single_quotes(block))
        self._line += block.count(LINE_END)

    def _quotes(self, block: bytes) -> None:
        signs = np.frombuffer(block, np.uint8)
        positions = np.flatnonzero(signs == QUOTE[0])
        line_ends = np.flatnonzero(signs == LINE_END[0])
        if not self._all_fit(signs, positions, line_ends):
            self._one_by_one(block, positions, line_ends)

    def _all_fit(self, signs: npt.NDArray[np.uint8], positions: Positions, line_ends: Positions) -> bool:
        """Look at the usual case, all at once: quotes begin and end values by turns."""
        is_open = self._open is not None
        begin, end = positions[int(is_open) :: 2], positions[1 - int(is_open) :: 2]
        before, behind = begin[begin > 0] - 1, end[end < len(signs) - 1] + 1
        if not (np.isin(signs[before], self._begins).all() and np.isin(signs[behind], self._begins).all()):
            return False
        first, last = (np.searchsorted(line_ends, position) for position in (begin, end))
        if is_open and len(last):
            self.span_lines = True
            last = last[1:]
        closed = len(last)
        self.span_lines |= bool((first[:closed] != last).any())
        if len(first) > closed:
            self._open = self._line + int(first[-1])
        elif len(positions):
            self._open = None
        return True

    def _one_by_one(self, block: bytes, positions: Positions, line_ends: Positions) -> None:
        lines = self._line + np.searchsorted(line_ends, positions)
        for position, line in zip(positions.tolist(), lines.tolist(), strict=True):
            if self._open is None:
                if position == 0 or block[position - 1] in self._begins:
                    self._open = line
                elif self.behind_space is None and self._before.search(block, max(0, position - SPACES), position):
                    self.behind_space = line
                continue  # another one is a character of its value
            if not self._after.match(block, position + 1):
                self.misplaced = Misplaced(self._open, line)
                return
            self.span_lines |= line != self._open
            self._open = None


def _single_quotes(block: bytes) -> bytes:
    """Keep of the block those quotes alone that may begin or end a value.

    Two quotes are one within a value in quotes, and an empty value elsewhere: either way nothing begins or ends. Of an odd
    number in a row one is left, an even number becomes other characters, so that what stands around it does not meet.
    """
    while QUOTE * 3 in block:
        block = block.replace(QUOTE * 3, QUOTE)
    return block.replace(QUOTE * 2, OTHER * 2)


class Widths:
    """Whether all lines of a file have as many separators, if a quote is a character like any other."""

    def __init__(self, separator: str) -> None:
        self._separator = separator.encode()[0]
        self.width = 0
        """Values of a line; 0 before there is one."""
        self.equal = True

    def add(self, lines: bytes) -> None:
        """Look at some more lines, which are whole."""
        if not self.equal or not lines:
            return
        signs = np.frombuffer(lines if lines.endswith(LINE_END) else lines + LINE_END, np.uint8)
        ends = np.flatnonzero(signs == LINE_END[0])
        starts = np.concatenate([[0], ends[:-1] + 1])
        filled = (ends - starts > 1) | ((ends - starts == 1) & (signs[starts] != RETURN[0]))
        separators = np.flatnonzero(signs == self._separator)
        counts = np.diff(np.searchsorted(separators, ends), prepend=0)[filled] + 1
        if len(counts):
            self.width = self.width or int(counts[0])
            self.equal = bool((counts == self.width).all())
