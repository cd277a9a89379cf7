"""Prepared data made by hand: files that nobody reads, sealed with their digests."""

from __future__ import annotations

import json
from pathlib import Path

from finetune_trainer.shared.data_digests import META, content_of, of_folder, read_meta
from finetune_trainer.shared.volume import with_digest


def sealed_data(folder: Path, labels: tuple[str, ...] = ("bad", "good"), rows: bytes = b"rows ") -> str:
    """Make the folder; return the digest of its content."""
    folder.mkdir()
    (folder / "train.arrow").write_bytes((rows * 500)[:2500])
    (folder / "validation.arrow").write_bytes(rows)
    (folder / "validation.examples.arrow").write_bytes(b"")
    (folder / META).write_text(json.dumps(with_digest({"labelNames": labels, "files": of_folder(folder)})))
    return content_of(read_meta(folder))
