"""Parquet, read in batches."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet

from finetune_trainer.config import Reason
from finetune_trainer.prepare.errors import PrepareError, column_missing, names

BATCH_ROWS = 16384


def read(path: Path, name: str, columns: Sequence[str], text_columns: Sequence[str]) -> Iterator[pa.Table]:
    """Tables of the needed columns."""
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            if file.metadata.num_rows == 0:
                return
            there = file.schema_arrow.names
            doubled = sorted({column for column in columns if there.count(column) > 1})
            if doubled:
                raise PrepareError(
                    Reason.DATA_INVALID,
                    f"{name}: column {names(doubled)} is there twice. Give each a name of its own.",
                )
            for column in columns:
                if column not in there:
                    raise column_missing(column, there, name)
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                # `datasets` leaves the names of classes beside the schema, which batches may lack.
                table = pa.Table.from_batches([batch]).select(list(columns))
                yield table.replace_schema_metadata(file.schema_arrow.metadata)
    except (pa.ArrowInvalid, OSError) as error:
        said = str(error).splitlines()[0].rstrip(".")
        raise PrepareError(
            Reason.DATA_INVALID, f"{name} is not a readable parquet file: {said}. Was it copied as a whole?"
        ) from error


def declared_classes(schema: pa.Schema) -> dict[str, tuple[str, ...]]:
    """Class names by column, where `datasets` wrote the file and left its features beside the schema."""
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
