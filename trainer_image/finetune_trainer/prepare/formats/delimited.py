"""Csv and tsv: every value is text, and a broken line is named with what is wrong with it.

pyarrow parses; Python's own parser looks at the file again only where something is wrong, to find the line and the
reason. Whether a quote in tsv is a quote is told by the file itself.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from typing import Any, BinaryIO, Literal

import pyarrow as pa
import pyarrow.csv

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.column_request import ColumnRequest
from finetune_trainer.data.data_errors import names
from finetune_trainer.prepare.content import Content
from finetune_trainer.prepare.formats import columns
from finetune_trainer.prepare.formats.quotes import Misplaced, Quotes, Widths
from finetune_trainer.prepare.formats.raw import (
    BLOCK_BYTES,
    LINE_END,
    blocks,
    encoding_problem,
    nul_problem,
    require_rows,
)
from finetune_trainer.shared.failures import ExpectedError

SEPARATORS = {".csv": ",", ".tsv": "\t"}
EXCEL = "sep="
WORDS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


@dataclass(frozen=True)
class Dialect:
    """How a file writes its values."""

    separator: str
    quoted: bool = True
    """Whether a value may stand in quotes; if not, a quote is a character like any other."""
    misplaced: Misplaced | None = None
    """The value that speaks against quotes around values."""
    behind_space: int | None = None
    """The line on which a value begins with white space and then a quote."""


def dialect(content: Content) -> Dialect:
    """Find out how a file writes its values, from all of it (of one that is far away, from its first block).

    Csv has quotes. So has tsv that a table was exported to, while in corpora a quote is a character: it is one where quotes
    do not end the values that they begin, or join lines, and all lines have as many values without them.
    """
    separator = SEPARATORS[content.kind]
    if content.far and separator != "\t":
        return Dialect(separator)
    quotes, widths = Quotes(separator), Widths(separator)
    for _, block in islice(blocks(content), 1 if content.far else None):
        quotes.add(block)
        if separator == "\t":
            widths.add(block)
    if not content.far:
        quotes.finish()
    joins_lines = quotes.span_lines and widths.width > 1
    fits_without = separator == "\t" and widths.equal and not quotes.in_header
    plain = fits_without and (quotes.misplaced is not None or joins_lines)
    return Dialect(separator, not plain, quotes.misplaced, quotes.behind_space)


def read(content: Content, asked: ColumnRequest) -> Iterator[pa.Table]:
    """Yield the tables of the needed columns; an unquoted empty value is a null."""
    require_rows(content)
    how = dialect(content)
    if how.quoted and how.misplaced:
        raise _quote_problem(content, how.misplaced)
    header = next(rows(content, how), ([], 1))[0]
    asked = columns.without_absent(asked, header)
    _check_header(header, asked.columns, content)
    if not how.quoted:
        asked.tell(_characters(content, how))
    elif how.behind_space:
        asked.tell(_behind_space(content, how.behind_space))
    seen = _SeenQuotes(content, how.separator) if content.far and how.quoted else None
    source = seen or (content.open() if content.far else content.for_arrow())
    try:
        with nullcontext() if isinstance(source, str) else source:
            for batch in _batches(source, how, header, asked):
                if seen:
                    seen.require_good()
                yield pa.Table.from_batches([batch])
        if seen:
            seen.quotes.finish()
            seen.require_good()
            if seen.quotes.behind_space and not how.behind_space:
                asked.tell(_behind_space(content, seen.quotes.behind_space))
    except pa.ArrowInvalid as error:
        if seen:
            seen.require_good()
        raise _problem(content, how, str(error)) from error


def _batches(source: Any, how: Dialect, header: Sequence[str], asked: ColumnRequest) -> Iterator[pa.RecordBatch]:
    with pyarrow.csv.open_csv(
        source,
        read_options=pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES),
        parse_options=pyarrow.csv.ParseOptions(
            delimiter=how.separator, quote_char='"' if how.quoted else False, newlines_in_values=how.quoted
        ),
        convert_options=pyarrow.csv.ConvertOptions(
            column_types=dict.fromkeys(header, pa.string()),
            include_columns=list(asked.columns),
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
            null_values=[""],
        ),
    ) as reader:
        yield from reader


class _SeenQuotes(io.RawIOBase):
    """A file whose quotes are checked while it is parsed, where it is not read twice."""

    def __init__(self, content: Content, separator: str) -> None:
        self._content = content
        self._file: BinaryIO = content.open()
        self.quotes = Quotes(separator)
        self._line = 1

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self._file.read(len(buffer))
        if problem := nul_problem(block, self._line, self._content.name):
            raise problem
        self._line += block.count(LINE_END)
        if block:
            self.quotes.add(block)
        else:  # the parser complains of the last value before anybody else knows that it was the last
            self.quotes.finish()
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        self._file.close()
        super().close()

    def require_good(self) -> None:
        """Raise where a quote among those that have passed does not end the value that it begins."""
        if self.quotes.misplaced:
            raise _quote_problem(self._content, self.quotes.misplaced)


def rows(content: Content, how: Dialect | None = None) -> Iterator[tuple[list[str], int]]:
    """Yield the rows with the line on which each begins, header first, blank lines left out."""
    how = how or dialect(content)
    csv.field_size_limit(1 << 30)
    with io.TextIOWrapper(content.open(), encoding="utf-8-sig", newline="") as file:
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if how.quoted else csv.QUOTE_NONE
        reader, begins = csv.reader(file, delimiter=how.separator, quoting=quoting), 1
        try:
            for row in reader:
                if row:
                    yield row, begins
                begins = reader.line_num + 1
        except UnicodeDecodeError as error:
            raise encoding_problem(content) from error
        except csv.Error as error:
            raise ExpectedError(Reason.DATA_INVALID, f"{content.name}, line {begins}: {error}.") from error


def _quote_problem(content: Content, misplaced: Misplaced) -> ExpectedError:
    """Make the error that pyarrow does not make: pyarrow takes all up to the next quote for one value, even the rest of the file."""
    problem = (
        'a quote (") that begins here is never closed.'
        if misplaced.goes_on is None
        else f'a value begins with a quote ("), and behind the quote that should end it, on line {misplaced.goes_on}, text '
        "follows."
    )
    tabs = (
        " Where quotes are characters like any other, all lines must have as many tabs."
        if content.kind == ".tsv"
        else ""
    )
    return ExpectedError(
        Reason.DATA_INVALID,
        f"{content.name}, line {misplaced.begins}: {problem} Write a quote within a value twice and quotes around the value "
        f'("say ""so"" again"), or take the quote away.{tabs}',
    )


def _characters(content: Content, how: Dialect) -> str:
    """Say why the quotes of a file are read as characters."""
    why = "they join lines that have as many values as the header"
    if how.misplaced:
        why = f"the one that begins a value on line {how.misplaced.begins} does not end it"
    return f'{content.name}: quotes (") are read as characters like any other, because {why}.'


def _behind_space(content: Content, line: int) -> str:
    return (
        f'{content.name}, line {line}: a value begins with white space and then a quote ("): both are read as characters of it. '
        "If the value is meant to stand in quotes take the white space away."
    )


def _check_header(header: Sequence[str], needed: Sequence[str], content: Content) -> None:
    if not header:
        raise ExpectedError(Reason.DATA_INVALID, f"{content.name} has no rows.")
    doubled = sorted({column for column in needed if header.count(column) > 1})
    if doubled:
        raise ExpectedError(
            Reason.DATA_INVALID,
            f"{content.name}, line 1: column {names(doubled)} is there twice. Give each a name of its own.",
        )
    separator, hint = SEPARATORS[content.kind], ""
    other = next((sign for sign in WORDS if len(header) == 1 and sign in header[0]), None)
    if other:
        hint = f" Values seem to be separated by {WORDS[other]}: {content.kind[1:]} takes {WORDS[separator]}."
    if header[0].lower().startswith(EXCEL):
        hint = " Line 1 tells Excel how values are separated, and nobody else: take it out."
    columns.require(needed, header, content.name, hint)
    for column in needed:
        if column not in header:
            raise columns.no_keys(column, column.split(".")[0], "text", content.name)


def _problem(content: Content, how: Dialect, reason: str) -> ExpectedError:
    width = None
    for row, line in rows(content, how):
        width = width or len(row)
        if len(row) != width:
            separators = WORDS[how.separator]
            way_out = f"Quote values that hold {separators}." if how.quoted else f"Take {separators} out of values."
            return ExpectedError(
                Reason.DATA_INVALID,
                f"{content.name}, line {line}: {len(row)} values where the header has {width}. {way_out}",
            )
    if "straddling" in reason:
        reason = f'a row is longer than {BLOCK_BYTES >> 20} MiB; is a quote (") not closed?'
    return ExpectedError(Reason.DATA_INVALID, f"{content.name} is not valid {content.kind[1:]}: {reason}")
