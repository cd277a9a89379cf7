"""Quotes in separated values, looked at a block at a time, are what they are to who reads sign by sign."""

from __future__ import annotations

import csv
import io
import random
import re
from typing import Literal

import pytest

from finetune_trainer.prepare.formats.quotes import Misplaced, Quotes, Widths


def looked_at(text: str, separator: str, sizes: random.Random) -> Quotes:
    """Return what is found where the bytes come in parts of any size."""
    quotes, content = Quotes(separator), text.encode()
    while content:
        size = sizes.randrange(1, 12)
        quotes.add(content[:size])
        content = content[size:]
    quotes.finish()
    return quotes


def read_sign_by_sign(text: str, separator: str) -> tuple[Misplaced | None, bool]:
    """Return the first misplaced quote, and whether a value before it holds a line end."""
    begins: int | None = None
    joins, place = False, 0
    while place < len(text):
        if text[place] != '"':
            place += 1
            continue
        run = len(text[place:]) - len(text[place:].lstrip('"'))
        line = text.count("\n", 0, place) + 1
        at_start = place == 0 or text[place - 1] in f"{separator}\r\n"
        place += run
        if run % 2 == 0:
            continue
        if begins is None:
            begins = line if at_start else None
        elif re.match(rf"[ \t]*({re.escape(separator)}|\r|\n|$)", text[place:]):
            joins, begins = joins or line != begins, None
        else:
            return Misplaced(begins, line), joins
    return (Misplaced(begins, None) if begins else None), joins


@pytest.mark.parametrize("separator", [",", "\t"])
def test_quotes_are_found_as_by_reading_sign_by_sign(separator: str) -> None:
    draws = random.Random(7)
    misplaced = 0
    for _ in range(3000):
        text = "".join(draws.choices(['"', '""', separator, "\n", "\r\n", "a", " "], (5, 1, 4, 2, 1, 4, 1), k=24))
        expected, joins = read_sign_by_sign(text, separator)
        quotes = looked_at(text, separator, draws)
        assert quotes.misplaced == expected, repr(text)
        if expected is None:
            assert quotes.span_lines == joins, repr(text)
        misplaced += expected is not None
    assert 300 < misplaced < 2700, "both kinds were drawn"


@pytest.mark.parametrize("quoting", [csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
def test_what_a_writer_of_csv_quotes_is_never_misplaced(quoting: Literal[0, 1]) -> None:
    draws = random.Random(3)
    for _ in range(300):
        values = [["".join(draws.choices('a",\n ', k=draws.randrange(6))) for _ in range(3)] for _ in range(5)]
        file = io.StringIO()
        csv.writer(file, quoting=quoting).writerows(values)
        quotes = looked_at(file.getvalue(), ",", draws)
        assert quotes.misplaced is None, repr(file.getvalue())
        assert quotes.span_lines == any("\n" in value for row in values for value in row)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('a,b\n1, "x"\n', 2),
        ('a,b\n  "x",1\n', 2),
        ('a,b\n"x, ","y"\n', None),
        ('a,b\n"x, ""y""",1\n', None),
        ('a,b\nsay "so",1\n', None),
        ('a,b\n"1\n",2\n3,\t"4"\n', 4),
    ],
)
def test_a_quote_behind_white_space_begins_no_value(text: str, line: int | None) -> None:
    quotes = looked_at(text, ",", random.Random(5))
    assert (quotes.behind_space, quotes.misplaced) == (line, None)


def test_a_mark_at_the_beginning_hides_no_quote() -> None:
    quotes = Quotes(",")
    quotes.add('\ufeff"a ""b""",c\n'.encode())
    quotes.finish()
    assert quotes.misplaced is None
    assert quotes.in_header


@pytest.mark.parametrize(
    ("text", "width", "equal"),
    [
        ("a\tb\n1\t2\n", 2, True),
        ("a\tb\r\n\r\n\n1\t2", 2, True),
        ("a\tb\n1\n", 2, False),
        ("a\n\t\n", 1, False),
        ("a\nb", 1, True),
        ("\n\n", 0, True),
    ],
)
def test_lines_of_as_many_values(text: str, width: int, equal: bool) -> None:
    widths = Widths("\t")
    for line in text.encode().splitlines(keepends=True):
        widths.add(line)
    assert (widths.width, widths.equal) == (width, equal)
    whole = Widths("\t")
    whole.add(text.encode())
    assert (whole.width, whole.equal) == (width, equal)
