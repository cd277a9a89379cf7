"""Csv, read in blocks by pyarrow; every column is text, as nothing in the file says otherwise.

Only where pyarrow fails is the file read again, slowly, to find the line and the reason.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.csv

from finetune_trainer.config import Reason
from finetune_trainer.prepare.errors import PrepareError, column_missing, names
from finetune_trainer.prepare.formats.raw import BLOCK_BYTES, blocks, encoding_problem, require_text

OTHER_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "bars"}


def read(path: Path, name: str, columns: Sequence[str], text_columns: Sequence[str]) -> Iterator[pa.Table]:
    """Tables of the needed columns; an unquoted empty value is a null."""
    require_text(path, name)
    header = next(rows(path, name), ([], 1))[0]
    _check_header(header, columns, name)
    if sum(block.count(b'"') for _, block in blocks(path)) % 2:
        _check_quotes(path, name)
    try:
        with pyarrow.csv.open_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                include_columns=list(columns),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        ) as reader:
            for batch in reader:
                yield pa.Table.from_batches([batch])
    except pa.ArrowInvalid as error:
        raise _problem(path, name, str(error)) from error


def rows(path: Path, name: str) -> Iterator[tuple[list[str], int]]:
    """Rows with the line on which each begins, header first, blank lines left out."""
    csv.field_size_limit(1 << 30)
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader, begins = csv.reader(file, strict=True), 1
        try:
            for row in reader:
                if row:
                    yield row, begins
                begins = reader.line_num + 1
        except UnicodeDecodeError as error:
            raise encoding_problem(path, name) from error
        except csv.Error as error:
            raise PrepareError(Reason.DATA_INVALID, f"{name}, line {begins}: {_said(error)}.") from error


def _said(error: csv.Error) -> str:
    if "unexpected end of data" in str(error):
        return 'a quote (") that begins here is never closed'
    return str(error)


def _check_header(header: Sequence[str], columns: Sequence[str], name: str) -> None:
    if not header:
        raise PrepareError(Reason.DATA_INVALID, f"{name} has no rows.")
    doubled = sorted({column for column in header if header.count(column) > 1})
    if doubled:
        raise PrepareError(
            Reason.DATA_INVALID, f"{name}, line 1: column {names(doubled)} is there twice. Give each a name of its own."
        )
    for column in columns:
        if column not in header:
            other = next(
                (word for sign, word in OTHER_SEPARATORS.items() if len(header) == 1 and sign in header[0]), None
            )
            hint = f" Values seem to be separated by {other}: csv takes commas." if other else ""
            raise column_missing(column, header, name, hint)


def _check_quotes(path: Path, name: str) -> None:
    """pyarrow takes a quote that is never closed as one value up to the end of the file, and says nothing."""
    for _ in rows(path, name):
        pass


def _problem(path: Path, name: str, reason: str) -> PrepareError:
    width = None
    for row, line in rows(path, name):
        width = width or len(row)
        if len(row) != width:
            return PrepareError(
                Reason.DATA_INVALID,
                f"{name}, line {line}: {len(row)} values where the header has {width}. Quote values that hold commas.",
            )
    if "straddling" in reason:
        reason = f'a row is longer than {BLOCK_BYTES >> 20} MiB; is a quote (") not closed?'
    return PrepareError(Reason.DATA_INVALID, f"{name} is not valid csv: {reason}")
