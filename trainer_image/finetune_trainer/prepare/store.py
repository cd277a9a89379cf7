"""Prepared splits on disk: Arrow files that every rank maps into memory, complete or not there at all.

Written under a temporary name, forced to disk, then renamed.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from finetune_trainer.volume import make_folder, sync_file, sync_folder

META = "meta.json"
PARTIAL = ".partial-"


def split_file(folder: Path, split: str) -> Path:
    """Where a split of prepared data lies."""
    return folder / f"{split}.arrow"


def read_meta(folder: Path) -> dict[str, Any] | None:
    """What was noted beside the data; None where there is no complete prepared data."""
    path = folder / META
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def write(folder: Path, splits: Mapping[str, Iterable[pa.RecordBatch]], note: Callable[[], Mapping[str, Any]]) -> None:
    """Write all splits, then what is to be noted beside them; or nothing."""
    partial = folder.with_name(f"{folder.name}{PARTIAL}{os.getpid()}")
    make_folder(folder.parent)
    for left in folder.parent.glob(f"*{PARTIAL}*"):  # by a try that was killed
        shutil.rmtree(left, ignore_errors=True)
    partial.mkdir()
    try:
        for split, batches in splits.items():
            _write_arrow(split_file(partial, split), batches)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)  # where the volume is full, it must not stay so
        raise
    (partial / META).write_text(json.dumps(note(), sort_keys=True, ensure_ascii=False), encoding="utf-8")
    for path in partial.iterdir():
        sync_file(path)
    sync_folder(partial)
    try:
        partial.rename(folder)
    except OSError:
        # Another job made the same content meanwhile; its name says that it is the same.
        if read_meta(folder) is None:
            raise
        shutil.rmtree(partial)
    sync_folder(folder.parent)


def _write_arrow(path: Path, batches: Iterable[pa.RecordBatch]) -> None:
    iterator = iter(batches)
    first = next(iterator)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, first.schema) as writer:
        writer.write_batch(first)
        for batch in iterator:
            writer.write_batch(batch)
