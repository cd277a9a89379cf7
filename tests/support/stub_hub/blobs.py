"""A file on the Hub: its content, the digests that the protocol names it by, and whether it is stored as LFS."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

LFS_SUFFIXES = (".bin", ".safetensors", ".model", ".parquet", ".onnx", ".h5", ".pt", ".zip", ".arrow", ".gz")
LFS_BYTES = 10_000_000


def is_lfs(path: str, size: int) -> bool:
    """Return whether the Hub keeps a file outside git; it never does so with an empty file."""
    return size > 0 and (path.endswith(LFS_SUFFIXES) or size > LFS_BYTES)


@dataclass(frozen=True)
class Blob:
    path: str
    source: bytes | Path

    @cached_property
    def content(self) -> bytes:
        return self.source if isinstance(self.source, bytes) else self.source.read_bytes()

    @property
    def size(self) -> int:
        return len(self.source) if isinstance(self.source, bytes) else self.source.stat().st_size

    @property
    def lfs(self) -> bool:
        return is_lfs(self.path, self.size)

    @cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @cached_property
    def git_oid(self) -> str:
        """Git's name of the blob."""
        return hashlib.sha1(b"blob %d\0" % self.size + self.content, usedforsecurity=False).hexdigest()

    @property
    def etag(self) -> str:
        """ETag of the Hub, which the client compares in order not to upload or download again."""
        return self.sha256 if self.lfs else self.git_oid
