"""The manifest that seals a folder: what belongs in it, byte for byte.

A folder is a checkpoint (or a model) only if its manifest holds; sizes alone would miss flipped bits.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path

from pydantic import ValidationError

from finetune_trainer.config import CheckpointRef, Document
from finetune_trainer.launch.protocol import FileDigest, FileName
from finetune_trainer.paths import to_pod
from finetune_trainer.volume import read_document

NAME = "manifest.json"
_CHUNK_BYTES = 1 << 20


class Manifest(Document):
    """`manifest.json`: written last, so that its presence means that all the rest was there."""

    step: int
    attempt: int
    world_size: int
    time: datetime
    best: bool = False
    evaluation: dict[str, float] | None = None
    files: dict[FileName, FileDigest]

    def ref(self, folder: Path) -> CheckpointRef:
        """As records and status name it."""
        return CheckpointRef(step=self.step, path=to_pod(folder), time=self.time, attempt=self.attempt)


def digest(file: Path) -> FileDigest:
    """Size and SHA-256 of a file."""
    state = hashlib.sha256()
    size = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            state.update(chunk)
            size += len(chunk)
    return FileDigest(size=size, sha256=state.hexdigest())


def read(folder: Path) -> Manifest | None:
    """The manifest of a folder; None if there is none that can be read."""
    try:
        return read_document(folder / NAME, Manifest)
    except (ValidationError, UnicodeDecodeError):
        return None


def problem(folder: Path) -> str | None:
    """Why a folder's content is not what its manifest says; None if it is. Reads every byte."""
    manifest = read(folder)
    if manifest is None:
        return f"{NAME} is missing or unreadable"
    for name, expected in manifest.files.items():
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        size = file.stat().st_size
        if size != expected.size:
            return f"{name} has {size} bytes, {expected.size} were written"
        if digest(file).sha256 != expected.sha256:
            return f"the content of {name} has changed since it was written"
    return None
