"""Damage that volumes and people do to a file: each function takes an existing file of some hundred bytes."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def flip(file: Path, place: float = 0.5) -> None:
    """Flip one bit, between the first byte (0.0) and the last one (1.0). The file keeps its time."""
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[min(len(content) - 1, int(place * len(content)))] ^= 1
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def tear(file: Path) -> None:
    """Lose the second half, which never reached the disk."""
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def empty(file: Path) -> None:
    file.write_bytes(b"")


def zero(file: Path) -> None:
    """Zero the content, as after a power cut: the length stays, the content is lost."""
    file.write_bytes(bytes(file.stat().st_size))


def replace_by_folder(file: Path) -> None:
    file.unlink()
    (file / "in it").mkdir(parents=True)


DAMAGE: dict[str, Callable[[Path], None]] = {
    "flipped": flip,
    "first bit": lambda file: flip(file, 0.0),
    "last bit": lambda file: flip(file, 1.0),
    "torn": tear,
    "emptied": empty,
    "zeros": zero,
    "a folder": replace_by_folder,
    "gone": Path.unlink,
}
