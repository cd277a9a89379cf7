"""Csv and tsv: every value is text, and a broken line is named with what is wrong with it.

pyarrow parses; Python's own parser looks at the file again only where something is wrong, to find the line and the
reason.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.csv

from finetune_trainer.config import Reason
from finetune_trainer.prepare.content import Content
from finetune_trainer.prepare.errors import PrepareError, names
from finetune_trainer.prepare.formats import columns
from finetune_trainer.prepare.formats.raw import BLOCK_BYTES, Asked, blocks, encoding_problem, require_text

SEPARATORS = {".csv": ",", ".tsv": "\t"}
WORDS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def read(content: Content, asked: Asked) -> Iterator[pa.Table]:
    """Tables of the needed columns; an unquoted empty value is a null."""
    require_text(content)
    header = next(rows(content), ([], 1))[0]
    _check_header(header, asked.columns, content)
    if not content.far and sum(block.count(b'"') for _, block in blocks(content)) % 2:
        _check_quotes(content)
    quotes = _Quotes(content.open()) if content.far else None
    try:
        with pyarrow.csv.open_csv(
            quotes or content.for_arrow(),
            read_options=pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(delimiter=SEPARATORS[content.kind], newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                include_columns=list(asked.columns),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        ) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])
        if quotes and quotes.count % 2:
            _check_quotes(content)
    except pa.ArrowInvalid as error:
        raise _problem(content, str(error)) from error


class _Quotes(io.RawIOBase):
    """Counts quotes as they pass, where a file is not read twice."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self._file.read(len(buffer))
        self.count += found.count(b'"')
        buffer[: len(found)] = found
        return len(found)


def rows(content: Content) -> Iterator[tuple[list[str], int]]:
    """Rows with the line on which each begins, header first, blank lines left out."""
    csv.field_size_limit(1 << 30)
    with io.TextIOWrapper(content.open(), encoding="utf-8-sig", newline="") as file:
        reader, begins = csv.reader(file, strict=True, delimiter=SEPARATORS[content.kind]), 1
        try:
            for row in reader:
                if row:
                    yield row, begins
                begins = reader.line_num + 1
        except UnicodeDecodeError as error:
            raise encoding_problem(content) from error
        except csv.Error as error:
            raise PrepareError(Reason.DATA_INVALID, f"{content.name}, line {begins}: {_said(error)}.") from error


def _said(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return 'a quote (") that begins here is never closed'
    return str(error)


def _check_header(header: Sequence[str], needed: Sequence[str], content: Content) -> None:
    if not header:
        raise PrepareError(Reason.DATA_INVALID, f"{content.name} has no rows.")
    doubled = sorted({column for column in header if header.count(column) > 1})
    if doubled:
        raise PrepareError(
            Reason.DATA_INVALID,
            f"{content.name}, line 1: column {names(doubled)} is there twice. Give each a name of its own.",
        )
    ours, hint = SEPARATORS[content.kind], ""
    other = next((sign for sign in WORDS if len(header) == 1 and sign in header[0]), None)
    if other:
        hint = f" Values seem to be separated by {WORDS[other]}: {content.kind[1:]} takes {WORDS[ours]}."
    columns.require(needed, header, content.name, hint)
    for column in needed:
        if column not in header:
            raise columns.no_keys(column, column.split(".")[0], "text", content.name)


def _check_quotes(content: Content) -> None:
    """pyarrow takes a quote that is never closed as one value up to the end of the file, and says nothing."""
    for _ in rows(content):
        pass


def _problem(content: Content, reason: str) -> PrepareError:
    width = None
    for row, line in rows(content):
        width = width or len(row)
        if len(row) != width:
            return PrepareError(
                Reason.DATA_INVALID,
                f"{content.name}, line {line}: {len(row)} values where the header has {width}. "
                f"Quote values that hold {WORDS[SEPARATORS[content.kind]]}.",
            )
    if "straddling" in reason:
        reason = f'a row is longer than {BLOCK_BYTES >> 20} MiB; is a quote (") not closed?'
    return PrepareError(Reason.DATA_INVALID, f"{content.name} is not valid {content.kind[1:]}: {reason}")
