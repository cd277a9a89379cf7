"""Digests of prepared data (and of the packages and files of scripts): computed when it is sealed, compared when a run takes it.

Each is the digest of a block, so that all cores of a node work on one large file. Process 1 of a training pod imports this
module too, so it imports no library that reads the files.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from finetune_trainer.shared.volume import parse_with_digest

META = "meta.json"
"""File of facts about prepared data, with its own digest and the digests of all other files."""
FILES = "files"
LEARNT_FROM = ("train.arrow", "validation.arrow")
"""Files that decide what is learnt: the best checkpoint is chosen by the second one. The test split is not among them."""

COMPILED = "__pycache__"
"""The folder of what Python makes of a module when it is imported: it may change, and nothing depends on it."""

BLOCK_BYTES = 64 << 20
CHUNK_BYTES = 1 << 20
THREADS_MOST = 8
"""The most threads that compute digests: SHA-256 keeps up with a disk of 5 GB/s then."""


def of_folder(folder: Path) -> dict[str, Any]:
    """Compute size and digests of each file but `META` and what Python compiles by itself, as JSON: what `problem` compares with."""
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    names = sorted(file.as_posix() for file in files if file.name != META and COMPILED not in file.parts)
    sizes = {name: (folder / name).stat().st_size for name in names}
    with ThreadPoolExecutor(_threads()) as pool:
        digests = pool.map(lambda block: _digest(folder / block[0], block[1]), _blocks(sizes.items()))
        blocks: dict[str, list[str]] = {name: [] for name in names}
        for (name, _), digest in zip(_blocks(sizes.items()), digests, strict=True):
            blocks[name].append(digest)
    return {name: {"bytes": sizes[name], "blocks": blocks[name]} for name in names}


def content_of(meta: Mapping[str, Any]) -> str:
    """Return the digest of what a model learns from prepared data: rows in their order, and the names of the classes.

    Two preparations of one content have one digest, whatever the names of the files that they were made from.
    """
    learnt = [[name, meta[FILES][name]["blocks"]] for name in LEARNT_FROM if name in meta[FILES]]
    return hashlib.sha256(json.dumps([learnt, meta["labelNames"]]).encode()).hexdigest()


def read_meta(folder: Path) -> dict[str, Any]:
    """Read the facts about the data. Raise FileNotFoundError where there is none, ValueError for one that has changed."""
    meta = parse_with_digest((folder / META).read_bytes())
    if FILES not in meta:
        raise ValueError("it names no files")
    return meta


def problem(folder: Path, content: str | None = None) -> str | None:
    """Say why prepared data is not what was sealed (as `content` says, where it is given); None if it is. Reads every byte."""
    try:
        meta = read_meta(folder)
    except FileNotFoundError:
        return f"{META} is not there"
    except OSError as error:
        return f"{META} can't be read: {error.strerror or error}"
    except ValueError as error:
        return f"{META} is damaged: {error}"
    if content is not None and content_of(meta) != content:
        return "it was made anew, from other data"
    return _first_problem(folder, meta[FILES])


def _first_problem(folder: Path, files: Mapping[str, Any]) -> str | None:
    sizes = {name: entry["bytes"] for name, entry in files.items()}
    for name, size in sizes.items():
        try:
            actual_bytes = (folder / name).stat().st_size
        except OSError as error:
            return f"{name} can't be read: {error.strerror or error}"
        if actual_bytes != size:
            return f"{name} has {actual_bytes} bytes, {size} were written"

    def differs(block: tuple[str, int]) -> str | None:
        name, number = block
        try:
            same = _digest(folder / name, number) == files[name]["blocks"][number]
        except OSError as error:
            return f"{name} can't be read: {error.strerror or error}"
        return None if same else f"the content of {name} has changed since it was written"

    pool = ThreadPoolExecutor(_threads())
    try:
        return next(
            (difference for difference in pool.map(differs, _blocks(sizes.items())) if difference is not None), None
        )
    finally:
        pool.shutdown(cancel_futures=True)


def _blocks(sizes: Iterable[tuple[str, int]]) -> Iterator[tuple[str, int]]:
    """List file and number of each block; an empty file has one."""
    for name, size in sizes:
        for number in range(max(1, -(-size // BLOCK_BYTES))):
            yield name, number


def _digest(file: Path, number: int) -> str:
    state = hashlib.sha256()
    with file.open("rb", buffering=0) as stream:
        stream.seek(number * BLOCK_BYTES)
        left = BLOCK_BYTES
        while left and (chunk := stream.read(min(CHUNK_BYTES, left))):
            state.update(chunk)
            left -= len(chunk)
    return state.hexdigest()


def _threads() -> int:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return max(1, min(THREADS_MOST, cores or 1))
