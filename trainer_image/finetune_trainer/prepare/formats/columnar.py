"""Parquet and Arrow files, read in batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.parquet

from finetune_trainer.contract.records import Reason
from finetune_trainer.data import nested
from finetune_trainer.data.column_request import ColumnRequest
from finetune_trainer.data.data_errors import names
from finetune_trainer.prepare.content import Content
from finetune_trainer.prepare.formats import columns
from finetune_trainer.shared.failures import ExpectedError

BATCH_ROWS = 16384
ARROW_FILE = b"ARROW1"
"""The beginning of a file of record batches, each of which can be read by itself; a stream of batches has no such mark."""


def read(content: Content, asked: ColumnRequest) -> Iterator[pa.Table]:
    """Yield the tables of the needed columns of a parquet file."""
    try:
        with pyarrow.parquet.ParquetFile(content.for_arrow()) as file:
            if file.metadata.num_rows == 0:
                return
            asked = columns.without_absent(asked, file.schema_arrow.names)
            needed = _needed(asked, file.schema_arrow.names, content.name)
            first = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=needed):
                # `datasets` leaves the names of classes beside the schema, which batches may lack.
                table = pa.Table.from_batches([batch]).replace_schema_metadata(file.schema_arrow.metadata)
                yield _checked(table, asked, content, first)
                first += batch.num_rows
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise _unreadable(content, "parquet", error) from error


def read_arrow(content: Content, asked: ColumnRequest) -> Iterator[pa.Table]:
    """Yield the tables of an Arrow file, or of a stream as `datasets` leaves it in its cache."""
    with content.open() as file:
        is_file = file.read(len(ARROW_FILE)) == ARROW_FILE
    try:
        with pa.memory_map(str(content.path)) if content.path else pa.PythonFile(content.open(), "r") as source:
            first = 0
            for batch in _batches(source, is_file):
                if batch.num_rows:
                    asked = columns.without_absent(asked, batch.schema.names)
                    _needed(asked, batch.schema.names, content.name)
                    yield _checked(pa.Table.from_batches([batch]), asked, content, first)
                    first += batch.num_rows
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError) as error:
        raise _unreadable(content, "Arrow", error) from error


def _checked(table: pa.Table, asked: ColumnRequest, content: Content, first: int) -> pa.Table:
    picked = columns.picked(table, asked.columns, content.name)
    columns.require_utf8(picked, content.name, first)
    return nested.as_text(columns.plain(picked), asked.nested)


def _batches(source: pa.NativeFile, is_file: bool) -> Iterator[pa.RecordBatch]:
    if is_file:
        reader = pa.ipc.open_file(source)
        yield from (reader.get_batch(number) for number in range(reader.num_record_batches))
    else:
        yield from pa.ipc.open_stream(source)


def _needed(asked: ColumnRequest, available: Sequence[str], name: str) -> list[str]:
    needed = columns.require(asked.columns, available, name)
    doubled = sorted({column for column in needed if list(available).count(column) > 1})
    if doubled:
        raise ExpectedError(
            Reason.DATA_INVALID, f"{name}: column {names(doubled)} is there twice. Give each a name of its own."
        )
    return needed


def _unreadable(content: Content, format_name: str, error: Exception) -> Exception:
    if isinstance(error, OSError) and error.errno is not None:  # an error of the disk, or of the network
        return error
    if page := content.web_page():
        return ExpectedError(Reason.DATA_INVALID, f"{page}.")
    message = str(error).splitlines()[0].rstrip(".")
    return ExpectedError(
        Reason.DATA_INVALID,
        f"{content.name} is not a readable {format_name} file: {message}. Was it copied as a whole?",
    )


def declared_classes(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Return the class names by column, where `datasets` wrote the file and left its features beside the schema."""
    note = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = note.get("info", {}).get("features", {})
    # A list of classes (tags of words, several labels) has its names one level down.
    items = {
        column: feature.get("feature", feature) for column, feature in features.items() if isinstance(feature, dict)
    }
    return {
        column: tuple(feature["names"])
        for column, feature in items.items()
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
    }
