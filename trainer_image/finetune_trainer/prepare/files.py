"""The local files of a split as one Arrow table: are they there, do they have the columns, do they fit together?

How a format is parsed is `formats`' business.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from finetune_trainer.config import PodPath, Reason
from finetune_trainer.paths import to_local
from finetune_trainer.prepare.errors import PrepareError, names
from finetune_trainer.prepare.formats import READERS, declared_classes, places
from finetune_trainer.prepare.source import Source, Split


def read_files(paths: Sequence[PodPath], columns: Sequence[str], text_columns: Sequence[str]) -> Split:
    """The rows of all files, in the order given; `columns` are needed, of which `text_columns` must hold text."""
    tables, sources = [], []
    class_names: dict[str, tuple[str, ...]] = {}
    for pod_path in paths:
        path = existing(pod_path)
        table = READERS[path.suffix.lower()](path, pod_path, columns, text_columns)
        if table.num_rows == 0:
            raise PrepareError(Reason.DATA_INVALID, f"{pod_path} has no rows.")
        _require_columns(table, columns, pod_path)
        tables.append(table.select(list(columns)))
        sources.append(Source(pod_path, table.num_rows, places(path)))
        class_names = class_names or declared_classes(table.schema)
    return Split(_joined(tables, paths), tuple(sources), class_names)


def existing(pod_path: PodPath) -> Path:
    """The local file, or why it cannot be used."""
    path = to_local(pod_path)
    if path.is_dir():
        raise PrepareError(Reason.FILE_NOT_FOUND, f"{pod_path} is a folder; name the files in it.")
    if not path.exists():
        raise PrepareError(Reason.FILE_NOT_FOUND, f"{pod_path} does not exist. {_neighbours(path, pod_path)}")
    if path.suffix.lower() not in READERS:
        raise PrepareError(
            Reason.DATA_INVALID,
            f"{pod_path}: cannot read {path.suffix or 'a file without suffix'}; use {names(list(READERS))}.",
        )
    if not os.access(path, os.R_OK):
        raise PrepareError(
            Reason.FILE_NOT_FOUND,
            f"{pod_path} may not be read by user {os.getuid()} (mode {path.stat().st_mode & 0o777:o}).",
        )
    if path.stat().st_size == 0:
        raise PrepareError(Reason.DATA_INVALID, f"{pod_path} is empty.")
    return path


def _neighbours(path: Path, pod_path: PodPath) -> str:
    folder, pod_folder = path.parent, os.path.dirname(pod_path)
    if not folder.is_dir():
        return f"The folder {pod_folder} does not exist either: is the volume mounted (spec.volumes)?"
    found = sorted(entry.name for entry in folder.iterdir())
    return f"{pod_folder} holds {names(found) if found else 'nothing'}."


def _require_columns(table: pa.Table, columns: Sequence[str], name: str) -> None:
    for column in columns:
        if column not in table.column_names:
            raise column_missing(column, table.column_names, name)


def column_missing(column: str, there: Sequence[str], name: str) -> PrepareError:
    """The error for a column that is not in the data."""
    return PrepareError(
        Reason.COLUMN_NOT_FOUND,
        f"{name} has no column {column!r}; it has {names(list(there))}. Name the right one in spec.dataset.columns.",
    )


def _joined(tables: list[pa.Table], paths: Sequence[PodPath]) -> pa.Table:
    for table, path in zip(tables[1:], paths[1:], strict=True):
        for ours, first in zip(table.schema, tables[0].schema, strict=True):
            if ours.type != first.type and not (pa.types.is_null(ours.type) or pa.types.is_null(first.type)):
                raise PrepareError(
                    Reason.DATA_INVALID,
                    f"Column {ours.name!r} holds {first.type} in {paths[0]} and {ours.type} in {path}.",
                )
    return pa.concat_tables(tables, promote_options="default")
