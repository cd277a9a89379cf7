"""A file at an address: what is known of it beforehand, how it is fetched once, and how it is read over the network.

`web` and `s3` know their protocols. A failure that may pass (a server that is down, a connection that is cut) is tried again
here, and the part that was fetched before is kept.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Protocol, TypeVar

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.contract.text import log_line
from finetune_trainer.prepare.content import Content
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.retry import Backoff, until_done
from finetune_trainer.shared.volume import make_folder, sync_folder

T = TypeVar("T")
BACKOFF = Backoff(first_seconds=1.0, most_seconds=15.0, tries=6)
FAR_BYTES = 4 << 20
"""The bytes of one request where a file is read over the network."""
PARTIAL = ".partial"


class Remote(Protocol):
    """A file at an address, as it was when it was looked up."""

    @property
    def name(self) -> str:
        """The address without its secrets."""
        ...

    @property
    def size(self) -> int | None: ...

    @property
    def version(self) -> str | None:
        """The value that changes with the content (an ETag), if the server tells any."""
        ...

    def chunks(self, start: int) -> Iterator[bytes]:
        """Yield the bytes from `start` on. Raise BeginAgain where the server cannot begin there."""
        ...

    def read(self, start: int, length: int) -> bytes:
        """Read a part of the file."""
        ...


class BeginAgain(Exception):
    """The server cannot go on from what was fetched so far."""


def unavailable(name: str, message: str) -> ExpectedError:
    """Make the error for a file that may be readable later."""
    return ExpectedError(Reason.HUB_UNAVAILABLE, f"{name} cannot be read now: {message}.", cause=Cause.ERROR)


def changed(name: str) -> ExpectedError:
    """Make the error for a file that is not what it was when it was looked up."""
    return unavailable(name, "it was changed while it was read; the next try reads it as it is then")


def patiently(request: Callable[[], T], progress: Callable[[], object] = lambda: None) -> T:
    """Make a request, again where trying again may help; while there is progress it has not failed."""
    return until_done(request, BACKOFF, _seconds_to_wait, tell=tell_of_pause, progress=progress)


def _seconds_to_wait(error: Exception) -> float | None:
    return 0.0 if isinstance(error, ExpectedError) and error.cause is Cause.ERROR else None


def tell_of_pause(error: Exception, pause_seconds: float) -> None:
    """Log why a request is made again, and when."""
    log_line("prepare", f"{error} Again in {pause_seconds:.0f} s.")


def fetched(remote: Remote, cache: Path) -> Content:
    """Fetch the whole file to this machine, or find it as an earlier try has left it.

    A file without a version may have changed since, so it is fetched anew.
    """
    identity = json.dumps([remote.name, remote.version, remote.size])
    folder = make_folder(cache / hashlib.sha256(identity.encode()).hexdigest()[:32])
    file = folder / PurePosixPath(remote.name).name
    if remote.version is None or not file.exists():
        with _partial(file) as (partial, path):
            patiently(lambda: _copy(remote, partial), partial.tell)
            partial.flush()
            os.fsync(partial.fileno())
            path.rename(file)
        sync_folder(folder)
    return Content(remote.name, lambda: file.open("rb"), file)


def far(remote: Remote) -> Content:
    """Return the content of the file, to be read over the network."""
    return Content(remote.name, lambda: io.BufferedReader(_Far(remote), FAR_BYTES), far=True)


def _copy(remote: Remote, file: BinaryIO) -> None:
    start = file.seek(0, os.SEEK_END)
    if remote.version is None:  # the part that was fetched may be of another content
        start = file.seek(0)
        file.truncate()
    if start != remote.size:
        try:
            for chunk in remote.chunks(start):
                file.write(chunk)
        except BeginAgain:
            file.seek(0)
            file.truncate()
            for chunk in remote.chunks(0):
                file.write(chunk)
    if remote.size is not None and file.tell() != remote.size:
        fetched_bytes = file.tell()
        if fetched_bytes > remote.size:
            file.seek(0)
            file.truncate()
        raise unavailable(remote.name, f"the connection ended after {fetched_bytes} of {remote.size} bytes")


@contextmanager
def _partial(file: Path) -> Iterator[tuple[BinaryIO, Path]]:
    """Open the part that an earlier try has fetched, to go on from; one that another process is writing is left alone."""
    path = file.with_name(file.name + PARTIAL)
    with open(os.open(path, os.O_RDWR | os.O_CREAT, 0o644), "rb+") as shared:
        if _locked(shared) and path.exists() and os.path.samestat(os.fstat(shared.fileno()), path.stat()):
            yield shared, path
            return
    descriptor, name = tempfile.mkstemp(suffix=PARTIAL, dir=file.parent)
    with open(descriptor, "rb+") as own:
        try:
            yield own, Path(name)
        finally:
            Path(name).unlink(missing_ok=True)


def _locked(file: BinaryIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # taken, or a volume that has no locks
        return False
    return True


class _Far(io.RawIOBase):
    """A file that is read over the network in parts, from any position."""

    def __init__(self, remote: Remote) -> None:
        if remote.size is None:
            raise ExpectedError(
                Reason.DATA_INVALID,
                f"{remote.name}: the server does not say how long it is, so it cannot be read in parts. Leave "
                "spec.dataset.streaming out.",
            )
        self._remote, self._size, self._at = remote, remote.size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        self._at = offset + {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._size - self._at)
        if length <= 0:
            return 0
        part = patiently(lambda: self._remote.read(self._at, length))
        buffer[: len(part)] = part
        self._at += len(part)
        return len(part)
