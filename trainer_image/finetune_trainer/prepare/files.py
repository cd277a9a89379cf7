"""The local files of a split as one Arrow table: are they there, do they have the columns, do they fit together?

How a format is parsed is `formats`' business; rows wait on the disk, mapped into memory.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from finetune_trainer.config import PodPath, Reason
from finetune_trainer.paths import to_local
from finetune_trainer.prepare import access
from finetune_trainer.prepare.errors import PrepareError, names
from finetune_trainer.prepare.formats import READERS, declared_classes, places
from finetune_trainer.prepare.source import Source, Split
from finetune_trainer.prepare.spool import spooled


def read_files(paths: Sequence[PodPath], columns: Sequence[str], text_columns: Sequence[str], scratch: Path) -> Split:
    """The rows of all files, in the order given; `columns` are needed, of which `text_columns` must hold text.

    `scratch` is a folder with room for these columns.
    """
    tables, sources = [], []
    class_names: dict[str, tuple[str, ...]] = {}
    for pod_path in paths:
        path = existing(pod_path)
        table = spooled(READERS[path.suffix.lower()](path, pod_path, columns, text_columns), scratch)
        if table is None or table.num_rows == 0:
            raise PrepareError(Reason.DATA_INVALID, f"{pod_path} has no rows.")
        tables.append(table.select(list(columns)))
        sources.append(Source(pod_path, table.num_rows, places(path)))
        class_names = class_names or declared_classes(table.schema)
    return Split(_joined(tables, paths), tuple(sources), class_names)


def existing(pod_path: PodPath) -> Path:
    """The local file, or why it cannot be used."""
    path = to_local(pod_path)
    refusal = access.refusal(path, pod_path)
    if refusal:
        raise PrepareError(Reason.FILE_NOT_FOUND, refusal)
    if path.is_dir():
        raise PrepareError(Reason.FILE_NOT_FOUND, f"{pod_path} is a folder; {_files_in(path)}")
    if not path.exists():
        raise PrepareError(Reason.FILE_NOT_FOUND, f"{pod_path} does not exist. {_neighbours(path, pod_path)}")
    if path.suffix.lower() not in READERS:
        raise PrepareError(
            Reason.DATA_INVALID,
            f"{pod_path}: cannot read {path.suffix or 'a file without suffix'}; use {names(list(READERS))}.",
        )
    if not path.is_file():
        raise PrepareError(Reason.FILE_NOT_FOUND, f"{pod_path} is no regular file.")
    if path.stat().st_size == 0:
        raise PrepareError(Reason.DATA_INVALID, f"{pod_path} is empty.")
    return path


def _files_in(folder: Path) -> str:
    found = sorted(entry.name for entry in folder.iterdir() if entry.suffix.lower() in READERS)
    return f"name the files in it: {names(found)}." if found else f"it holds no {names(list(READERS))}."


def _neighbours(path: Path, pod_path: PodPath) -> str:
    folder, pod_folder = path.parent, os.path.dirname(pod_path)
    if not folder.is_dir():
        return f"The folder {pod_folder} does not exist either: is the volume mounted (spec.volumes)?"
    if access.refusal(folder, pod_folder):
        return f"What else {pod_folder} holds may not be read."
    found = sorted(entry.name for entry in folder.iterdir())
    return f"{pod_folder} holds {names(found) if found else 'nothing'}."


def _joined(tables: list[pa.Table], paths: Sequence[PodPath]) -> pa.Table:
    for table, path in zip(tables[1:], paths[1:], strict=True):
        for ours, first in zip(table.schema, tables[0].schema, strict=True):
            if ours.type != first.type and not (pa.types.is_null(ours.type) or pa.types.is_null(first.type)):
                raise PrepareError(
                    Reason.DATA_INVALID,
                    f"Column {ours.name!r} holds {first.type} in {paths[0]} and {ours.type} in {path}.",
                )
    return pa.concat_tables(tables, promote_options="default")
