"""PreparedTask splits on disk: Arrow files that every rank maps into memory, complete or not there at all.

They are written under a name of the try's own, forced to disk, then renamed: only that rename makes prepared data exist.
Who may write, and what becomes of tries that were killed, is `lease`'s business.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pyarrow as pa

from finetune_trainer.shared import data_digests
from finetune_trainer.shared.data_digests import META
from finetune_trainer.shared.volume import sync_file, sync_folder, with_digest

SYNC_THREADS = 8
"""The number of files that are forced to disk at once: packages are thousands of small ones, and a server answers each."""
DAMAGED = ".damaged-"
"""The part of a name that marks prepared data which was set aside."""


def split_file(folder: Path, role: str) -> Path:
    """Return the file with the tokens of a split."""
    return folder / f"{role}.arrow"


def examples_file(folder: Path, role: str) -> Path:
    """Return the file with the rows of a split before they became tokens, which metrics and predictions read."""
    return folder / f"{role}.examples.arrow"


def read_meta(folder: Path) -> dict[str, Any] | None:
    """Return the notes beside the data; None where there is no complete prepared data, or the notes are damaged."""
    try:
        return data_digests.read_meta(folder)
    except (FileNotFoundError, ValueError):
        return None


@contextmanager
def building(partial: Path) -> Iterator[Path]:
    """Make a folder to write in, and remove it when the work fails: where the volume is full, it must not stay so."""
    partial.mkdir()
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def seal(partial: Path, folder: Path, meta: Mapping[str, Any]) -> None:
    """Note `meta` and the digests of all files beside the data, and give all of it its name."""
    with ThreadPoolExecutor(SYNC_THREADS) as pool:
        for _ in pool.map(sync_file, partial.rglob("*")):
            pass
    noted = with_digest({**meta, data_digests.FILES: data_digests.of_folder(partial)})
    (partial / META).write_text(json.dumps(noted, sort_keys=True, ensure_ascii=False), encoding="utf-8")
    sync_file(partial / META)
    sync_folder(partial)
    try:
        partial.rename(folder)
    except OSError:
        # Another job made the same content meanwhile; its name says that it is the same.
        if read_meta(folder) is None:
            raise
        shutil.rmtree(partial, ignore_errors=True)
    sync_folder(folder.parent)


def set_aside(folder: Path) -> str | None:
    """Hide prepared data that is not as it was sealed. Return why; None where the data was sound, or is gone.

    The data is checked again once nobody else can find it: another job may have made it anew meanwhile. Nothing in it is
    removed: somebody may have it mapped into memory.
    """
    aside = hide(folder, DAMAGED)
    if aside is None:
        return None
    problem = data_digests.problem(aside)
    if problem is None:
        show_again(aside, folder)
    return problem


def hide(folder: Path, mark: str) -> Path | None:
    """Rename prepared data, with `mark` in the name, so that nobody finds it. Return its folder; None where the data is gone."""
    hidden = folder.with_name(f"{folder.name}{mark}{uuid.uuid4().hex[:8]}")
    with suppress(OSError):  # not every volume sets times
        os.utime(folder)  # data that was hidden just now must not look like an old leftover
    try:
        folder.rename(hidden)
    except FileNotFoundError:
        return None
    return hidden


def show_again(hidden: Path, folder: Path) -> bool:
    """Give hidden data its name back; False where whoever found it gone has made it again."""
    with suppress(OSError):
        hidden.rename(folder)
        return True
    return False


class ArrowFile:
    """An Arrow stream that is written batch by batch; the first one says which columns there are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._sink: pa.OSFile | None = None
        self._writer: pa.ipc.RecordBatchStreamWriter | None = None

    def __enter__(self) -> ArrowFile:
        return self

    def __exit__(self, *_: object) -> None:
        if self._writer is not None:
            self._writer.close()
        if self._sink is not None:
            self._sink.close()

    def write(self, batch: pa.RecordBatch) -> None:
        """Add rows."""
        if self._writer is None:
            self._sink = pa.OSFile(str(self._path), "wb")
            self._writer = pa.ipc.new_stream(self._sink, batch.schema)
        self._writer.write_batch(batch)
