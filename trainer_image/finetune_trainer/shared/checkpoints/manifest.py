"""The manifest that seals a folder: what belongs in it, byte for byte, and whether all numbers in it were finite.

A folder is a checkpoint (or a model) only if its manifest holds; sizes alone would miss flipped bits.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from pathlib import Path
from typing import Annotated

from pydantic import Field

from finetune_trainer.contract.frozen_document import Document, FiniteMetrics
from finetune_trainer.contract.launch_protocol import FileDigest, FileName
from finetune_trainer.contract.records import CheckpointRef
from finetune_trainer.shared.checkpoints import finite
from finetune_trainer.shared.paths import to_pod
from finetune_trainer.shared.volume import CHECKPOINT, NOT_A_FILE, read_checked, write_checked

NAME = "manifest.json"
NAMED_MAX = 3
_CHUNK_BYTES = 1 << 20


class BrokenError(Exception):
    """Error for a folder that is not what was sealed."""


class Manifest(Document):
    """`manifest.json`: written last, so that its presence means that all other files were there."""

    step: int
    attempt: int
    world_size: int
    time: datetime
    best: bool = False
    finite: bool | None = None
    """Whether all numbers of weights and optimizer were finite; null where nobody looked: an older release sealed it."""
    evaluation: FiniteMetrics | None = None
    files: dict[FileName, FileDigest]
    written_as: Annotated[FileName | None, Field(exclude_if=lambda name: name is None)] = None
    """Where a user's own program wrote it, below OUTPUT_DIR: `step_40`. Null for a checkpoint of a task."""

    def ref(self, folder: Path) -> CheckpointRef:
        """Return the reference that records and status hold."""
        return CheckpointRef(step=self.step, path=to_pod(folder), time=self.time, attempt=self.attempt)

    @property
    def not_finite(self) -> tuple[str, ...]:
        """Tensors that hold NaN or infinity, each as `file: tensor`."""
        return tuple(f"{name}: {tensor}" for name, file in self.files.items() for tensor in file.not_finite)


def digest(file: Path) -> FileDigest:
    """Return size and SHA-256 of a file."""
    state = hashlib.sha256()
    size = 0
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            state.update(chunk)
            size += len(chunk)
    return FileDigest(size=size, sha256=state.hexdigest())


def write(folder: Path, manifest: Manifest) -> None:
    """Leave the manifest in its folder, durably."""
    write_checked(folder / NAME, manifest)


def read(folder: Path) -> Manifest | None:
    """Read the manifest of a folder; None if there is none that can be read."""
    try:
        return read_checked(folder / NAME, Manifest, digest_required=False)
    except (ValueError, OSError):
        return None


def verified(folder: Path) -> Manifest:
    """Return the manifest of a folder, once every byte of it was read and is what was sealed.

    Raise BrokenError where it is not, OSError where it can't be read.
    """
    try:
        return _verified(folder)
    except ValueError as error:
        raise BrokenError(f"{NAME} is not what was written") from error
    except OSError as error:
        if error.errno in NOT_A_FILE:
            raise BrokenError(f"something else is in the place of what was written: {error.strerror}") from error
        raise


def _verified(folder: Path) -> Manifest:
    manifest = read_checked(folder / NAME, Manifest, digest_required=False)
    if manifest is None:
        raise BrokenError(f"{NAME} is missing")
    for name, expected in manifest.files.items():
        file = folder / name
        if not file.is_file():
            raise BrokenError(f"{name} is missing")
        size = file.stat().st_size
        if size != expected.size:
            raise BrokenError(f"{name} has {size} bytes, {expected.size} were written")
        if digest(file).sha256 != expected.sha256:
            raise BrokenError(f"the content of {name} has changed since it was written")
    match = CHECKPOINT.match(folder.name)
    if match is not None and int(match[1]) != manifest.step:
        raise BrokenError(f"it was sealed as the checkpoint of step {manifest.step}")
    return manifest


def problem(folder: Path) -> str | None:
    """Say why a folder can't be used as what was sealed; None if it can. Reads every byte."""
    try:
        verified(folder)
    except (BrokenError, OSError) as error:
        return why(error)
    return None


def why(error: Exception) -> str:
    """Say in words what kept a folder from being verified."""
    return str(error) if isinstance(error, BrokenError) else f"it can't be read: {error}"


def unfit(folder: Path) -> str | None:
    """Say why nothing may resume from a sealed folder; None if it is what was sealed, and all its numbers are finite."""
    try:
        poison = not_finite(folder, verified(folder))
    except (BrokenError, OSError) as error:
        return why(error)
    return f"it holds numbers that are not finite: {poison}" if poison is not None else None


def not_finite(folder: Path, manifest: Manifest) -> str | None:
    """Say which numbers of a sealed folder are not finite; None if all are. Where the manifest does not say, check the files."""
    names = manifest.not_finite
    if manifest.finite is None:
        names = tuple(f"{name}: {tensor}" for name in manifest.files for tensor in finite.not_finite(folder / name))
    more = f" and {len(names) - NAMED_MAX} more" if len(names) > NAMED_MAX else ""
    return f"{', '.join(names[:NAMED_MAX])}{more}" if names else None
