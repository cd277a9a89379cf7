"""Facts that an earlier try found out about a model: enough to find prepared data again without importing transformers.

They are kept near the prepared data, under a name made of everything that they depend on. Where the file is missing, or
another release wrote it, a try takes a second or two longer.
"""

from __future__ import annotations

from contextlib import suppress
from importlib import metadata
from pathlib import Path

from finetune_trainer.contract.frozen_document import Document
from finetune_trainer.prepare.fingerprint import file_digest, sha256
from finetune_trainer.shared.volume import Layout, make_folder, read_document, write_document

SMALL_BYTES = 32 << 20
"""The size up to which files are read (configuration, tokenizer); larger ones, the weights, are known by size and time."""


class Known(Document):
    key: str
    """The key of the prepared data."""
    messages: tuple[str, ...] = ()
    """Messages to the user about the model and its limits."""


def file_for(layout: Layout, settings: str, model: Path, data: object) -> Path | None:
    """Return the file for these settings (their digest), the model in a folder, and data; None if no one can read the model."""
    try:
        files = [_file_identity(path) for path in sorted(model.iterdir()) if path.is_file()]
    except OSError:
        return None  # whoever loads the model says why
    name = sha256([settings, str(model), files, data, metadata.version("transformers")])
    return layout.all_prepared.with_name("known") / f"{name[:32]}.json"


def read(file: Path) -> Known | None:
    """Read the facts; None where there are none, or they cannot be read."""
    try:
        return read_document(file, Known)
    except (OSError, ValueError):
        return None


def write(file: Path, known: Known) -> None:
    """Write the facts for the next try, where the volume has room."""
    with suppress(OSError):
        make_folder(file.parent)
        write_document(file, known)


def _file_identity(path: Path) -> list[object]:
    status = path.stat()
    if status.st_size <= SMALL_BYTES:
        return [path.name, file_digest(path)]
    return [path.name, status.st_size, status.st_mtime_ns]
