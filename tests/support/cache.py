"""The user's cache folder: files that take minutes to make, kept by content, so that a second run costs seconds.

binaries/<hash>/   programs of the test cluster
images/            buildah's storage
nodes/             containerd's image store, from which each node of a test cluster gets a copy by hard links
clusters/          running clusters; nothing is left of one when it is down
"""

import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, flock
from pathlib import Path

from tests.support.commands import output


def cache_folder(*parts: str) -> Path:
    """Return a folder below the cache of this project; create it where it is missing."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base, "finetune-operator", *parts)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def content_hash(files: Iterable[Path], *parameters: str) -> str:
    """Return a short name for the content of these files and the parameters with which something is made from them."""
    digest = hashlib.sha256()
    for parameter in parameters:
        digest.update(parameter.encode() + b"\0")
    for file in sorted(files):
        digest.update(file.name.encode() + b"\0" + hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:16]


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Let only one process at a time change this folder; the lock goes with its holder, however that ends."""
    with open(folder / ".lock", "w") as lock:
        flock(lock, LOCK_EX)
        yield


def keep_newest(folder: Path, count: int) -> None:
    """Delete all but the most recently used entries."""
    entries = sorted((e for e in folder.iterdir() if e.is_dir()), key=lambda e: e.stat().st_mtime, reverse=True)
    for entry in entries[count:]:
        shutil.rmtree(entry, ignore_errors=True)


def size_bytes(folder: Path) -> int:
    """Return the bytes of a folder on the disk, hard links counted once."""
    return int(output("du", "-s", "--block-size=1", folder).split()[0])
