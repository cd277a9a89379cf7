"""Csv, json, jsonl and parquet as Arrow tables, with messages that name file, line and column.

pyarrow parses, in parallel and in C++. Only where it fails is a file read again, slowly, to find the line and the
reason. Types are not guessed where a guess could change the text: in csv every column is text.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet

from finetune_trainer.config import Reason
from finetune_trainer.prepare.errors import PrepareError, names, shown
from finetune_trainer.prepare.source import row_place

BLOCK_BYTES = 16 << 20
"""pyarrow infers types per block and wants a whole row in one."""


def _needed(columns: Sequence[str], there: Sequence[str]) -> list[str] | None:
    """The columns to read; None for all, so that a message can name them, where one is missing."""
    return list(columns) if set(columns) <= set(there) else None


# --- csv -------------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, name: str, columns: Sequence[str], text_columns: Sequence[str]) -> pa.Table:
    try:
        header = next(_csv_rows(path, name), ([], 1))[0]
        doubled = sorted({column for column in header if header.count(column) > 1})
        if doubled:
            raise PrepareError(Reason.DATA_INVALID, f"{name}, line 1: column {names(doubled)} is there twice.")
        return pyarrow.csv.read_csv(
            path,
            read_options=pyarrow.csv.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True),
            convert_options=pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(header, pa.string()),
                include_columns=_needed(columns, header),
                strings_can_be_null=True,
                quoted_strings_can_be_null=False,
                null_values=[""],
            ),
        )
    except pa.ArrowInvalid as error:
        raise _csv_problem(path, name, str(error)) from error


def _csv_problem(path: Path, name: str, reason: str) -> PrepareError:
    width = None
    for row, line in _csv_rows(path, name):
        width = width or len(row)
        if len(row) != width:
            return PrepareError(
                Reason.DATA_INVALID,
                f"{name}, line {line}: {len(row)} values where the header has {width}. Quote values that hold commas.",
            )
    return PrepareError(Reason.DATA_INVALID, f"{name} is not valid csv: {reason}")


def _csv_rows(path: Path, name: str) -> Iterator[tuple[list[str], int]]:
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
            raise _encoding_problem(path, name) from error
        except csv.Error as error:
            raise PrepareError(Reason.DATA_INVALID, f"{name}, line {begins}: {error}.") from error


# --- json ------------------------------------------------------------------------------------------------------------


def _read_jsonl(path: Path, name: str, columns: Sequence[str], text_columns: Sequence[str]) -> pa.Table:
    # Without a schema pyarrow would read text such as "2020-01-01" as a date.
    schema = pa.schema([(column, pa.string()) for column in text_columns])
    try:
        table = pyarrow.json.read_json(
            path,
            read_options=pyarrow.json.ReadOptions(block_size=BLOCK_BYTES),
            parse_options=pyarrow.json.ParseOptions(explicit_schema=schema, newlines_in_values=False),
        )
        table.validate(full=True)
    except pa.ArrowInvalid as error:
        raise _jsonl_problem(path, name, text_columns, str(error)) from error
    # A column of the schema is in the table whether the file has it or not.
    empty = [column for column in text_columns if table.column(column).null_count == table.num_rows]
    if empty:
        there = {key for _, text in _lines(path, name) for key in json.loads(text)}
        table = table.drop_columns([column for column in empty if column not in there])
    return table


def _jsonl_problem(path: Path, name: str, text_columns: Sequence[str], reason: str) -> PrepareError:
    kinds: dict[str, type] = {}
    empty = True
    for line, text in _lines(path, name):
        empty = False
        try:
            row = json.loads(text)
        except json.JSONDecodeError as error:
            return PrepareError(
                Reason.DATA_INVALID, f"{name}, line {line} is not valid JSON: {error.msg} at column {error.colno}."
            )
        if not isinstance(row, dict):
            return PrepareError(Reason.DATA_INVALID, f"{name}, line {line}: {shown(row)} where an object is needed.")
        problem = _mixed(row, kinds, text_columns)
        if problem:
            return PrepareError(Reason.DATA_INVALID, f"{name}, line {line}: {problem}")
    if empty:
        return PrepareError(Reason.DATA_INVALID, f"{name} has no rows.")
    return PrepareError(Reason.DATA_INVALID, f"{name} is not valid JSON lines: {reason}")


def _mixed(row: dict[str, Any], kinds: dict[str, type], text_columns: Sequence[str]) -> str | None:
    for column, value in row.items():
        if value is None:
            continue
        if column in text_columns and not isinstance(value, str):
            return f"column {column!r} holds {shown(value)} where text is needed."
        kind = float if type(value) is int else type(value)
        if kinds.setdefault(column, kind) is not kind:
            return f"column {column!r} holds {shown(value)}, the lines before hold {kinds[column].__name__}."
    return None


def _read_json(path: Path, name: str, columns: Sequence[str], text_columns: Sequence[str]) -> pa.Table:
    """An array of objects, or one object a line."""
    first = next(_lines(path, name), (1, ""))[1].lstrip()
    if not first.startswith("["):
        return _read_jsonl(path, name, columns, text_columns)
    try:
        rows = json.loads(path.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        message = f"{name}, line {error.lineno} is not valid JSON: {error.msg} at column {error.colno}."
        raise PrepareError(Reason.DATA_INVALID, message) from error
    except UnicodeDecodeError as error:
        raise _encoding_problem(path, name) from error
    kinds: dict[str, type] = {}
    for index, row in enumerate(rows):
        problem = (
            _mixed(row, kinds, text_columns) if isinstance(row, dict) else f"{shown(row)} where an object is needed."
        )
        if problem:
            raise PrepareError(Reason.DATA_INVALID, f"{name}, row {index}: {problem}")
    return pa.Table.from_pylist(rows)


def _lines(path: Path, name: str) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, with their numbers."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, line
    except UnicodeDecodeError as error:
        raise _encoding_problem(path, name) from error


# --- parquet, places, encodings --------------------------------------------------------------------------------------


def _read_parquet(path: Path, name: str, columns: Sequence[str], text_columns: Sequence[str]) -> pa.Table:
    try:
        there = pyarrow.parquet.read_schema(path, memory_map=True).names
        return pyarrow.parquet.read_table(path, columns=_needed(columns, there), memory_map=True)
    except (pa.ArrowInvalid, OSError) as error:
        raise PrepareError(Reason.DATA_INVALID, f"{name} is not a readable parquet file: {error}") from error


def declared_classes(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Class names by column, where `datasets` wrote the file and left its features beside the schema."""
    note = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = note.get("info", {}).get("features", {})
    return {
        column: tuple(feature["names"])
        for column, feature in features.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    }


def _encoding_problem(path: Path, name: str) -> PrepareError:
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                bad = line[error.start]
                return PrepareError(
                    Reason.DATA_INVALID,
                    f"{name}, line {number}: byte 0x{bad:02x} is not UTF-8. Convert the file, "
                    f"for example with `iconv -f latin1 -t utf-8`.",
                )
    return PrepareError(Reason.DATA_INVALID, f"{name} is not UTF-8.")


def places(path: Path) -> Any:
    """How a person finds a row of this file: a function from row to `line 17` or `row 16`."""

    def line(row: int) -> str:
        suffix = path.suffix.lower()
        if suffix == ".csv":
            numbers: Iterator[int] = (number for _, number in _csv_rows(path, str(path)))
            next(numbers)
        else:
            numbers = (number for number, _ in _lines(path, str(path)))
        for index, number in enumerate(numbers):
            if index == row:
                return f"line {number}"
        return row_place(row)

    if path.suffix.lower() == ".parquet" or (
        path.suffix.lower() == ".json" and next(_lines(path, str(path)))[1].lstrip().startswith("[")
    ):
        return row_place
    return line


READERS = {".csv": _read_csv, ".json": _read_json, ".jsonl": _read_jsonl, ".parquet": _read_parquet}
