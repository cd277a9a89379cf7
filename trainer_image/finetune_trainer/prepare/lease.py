"""Who makes a piece of prepared data: a lease on the volume, so that jobs that need the same do the work once.

Volumes are shared by nodes, and locks across nodes (flock on NFS) are not to be relied on. So a lease is a file
`<key>.lease-<n>` that is made exclusively, which every file system keeps, and that its holder renews. Whoever has seen it
unchanged for a while, by a clock of its own, makes the next number: of two that try, one succeeds, and nobody ever
removes a lease that it has not seen to be dead. What a lease protects is only the work: should two do it after all (one
was asleep), each writes under a name of its own, and the rename at the end takes the first.

`SoftFileLease` of the package filelock (4.2) does not stand here because it takes over by exchanging two names, which NFS,
SMB, 9p and many FUSE file systems refuse: there it waits for a dead holder without end. Measured with leases of 3 s, from
the signal to the takeover:

    file system     holder        filelock           this module
    ext4            killed        0.03 s             0.01 s
    ext4            stopped       3.03 s             3.02 s
    FUSE (bindfs)   killed        not within 15 s    0.02 s
    FUSE (bindfs)   stopped       not within 15 s    3.04 s

`SoftFileLease` also renews by the time of the file, which some volumes of object storage do not keep, cannot hold the name of
the job, which a waiting job shows, and notices a loss only with its next heartbeats, not when it is asked.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path

from finetune_trainer.shared.volume import make_folder, names_in

RENEW_SECONDS = 5.0
EXPIRY_SECONDS = 30.0
"""The time without a sign of its holder after which a lease is over."""
POLL_SECONDS = 1.0
FORGOTTEN_SECONDS = 600.0
"""The time after which leftovers of other keys are removed, if nobody has touched them, by the volume's clock."""
REMIND_SECONDS = 60.0
LEFT = re.compile(r"^(?P<key>[^.]+)\.(?P<kind>lease|partial|evicted|damaged)-(?P<name>.+)$")
BOOT_ID, PID_NAMESPACE = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")


@dataclass(frozen=True)
class Holder:
    """The holder of a lease, as its file names it."""

    job: str
    host: str = field(default_factory=socket.gethostname)
    pid: int = field(default_factory=os.getpid)
    started: str | None = field(default_factory=lambda: _started(os.getpid()))
    machine: str | None = field(default_factory=lambda: _machine())
    """The boot and the container, within which a process id means the same. None where that can't be told."""
    token: str = field(default_factory=lambda: uuid.uuid4().hex)

    def text(self, renewed: int) -> str:
        """Write the lease's text, always of one length."""
        return json.dumps({**asdict(self), "renewed": f"{renewed:010}"}) + "\n"

    def is_gone(self) -> bool:
        """Tell whether this machine knows that the process has ended."""
        return self.machine is not None and self.machine == _machine() and _started(self.pid) != self.started


class Lease:
    """A lease that is held, and that a thread renews beside the work."""

    def __init__(self, target: Path, number: int, descriptor: int, holder: Holder) -> None:
        self._target, self._number, self._descriptor, self._holder = target, number, descriptor, holder
        self._renewed = 0
        self._over = threading.Event()
        self._write()
        self._thread = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._thread.start()

    @property
    def partial(self) -> Path:
        """The folder in which its holder may write: nobody else ever does."""
        return self._target.with_name(f"{self._target.name}.partial-{self._number}-{self._holder.token[:8]}")

    def is_lost(self) -> bool:
        """Tell whether somebody took this holder for dead."""
        numbers = _numbers(self._target)
        return self._number not in numbers or numbers[-1] != self._number

    def release(self) -> None:
        """Give the lease back, so that the next job can take it."""
        self._over.set()
        self._thread.join()
        if not self.is_lost():
            _lease_file(self._target, self._number).unlink(missing_ok=True)
        os.close(self._descriptor)

    def remove_leftovers(self) -> None:
        """Remove what dead tries have left: of this key all they wrote, and whatever nobody has touched for long.

        A living try of another key renews its lease; of this key there is none but this one.
        """
        now = os.fstat(self._descriptor).st_mtime
        by_key: dict[str, list[Path]] = {}
        for name in names_in(self._target.parent):
            match = LEFT.match(name)
            if match is not None:
                by_key.setdefault(match["key"], []).append(self._target.with_name(name))
        mine = by_key.pop(self._target.name, [])
        dead = [path for path in mine if ".partial-" in path.name and path != self.partial]
        gone = (path for path in mine if ".evicted-" in path.name or ".damaged-" in path.name)
        dead += [path for path in gone if now - _touched(path) > FORGOTTEN_SECONDS]
        for paths in by_key.values():
            if all(now - touched > FORGOTTEN_SECONDS for touched in map(_touched, paths)):
                dead += paths
        for path in dead:
            remove(path)

    def _renew(self) -> None:
        while not self._over.wait(RENEW_SECONDS):
            with suppress(OSError):  # the volume may be away for a moment; if it is for long, the lease is lost
                self._write()

    def _write(self) -> None:
        # Through the descriptor: what a successor made under the same name is another file.
        self._renewed += 1
        os.pwrite(self._descriptor, self._holder.text(self._renewed).encode(), 0)
        os.fsync(self._descriptor)


def _tell_nobody(_: str) -> None:
    """Tell nobody."""


@contextmanager
def held(
    target: Path,
    job: str,
    *,
    done: Callable[[], bool],
    content: str = "data",
    waiting: Callable[[str], None] = _tell_nobody,
    waited: Callable[[str], None] = _tell_nobody,
) -> Iterator[Lease | None]:
    """Hold the lease for making `target`, once nobody else has it; yield None where `target` is done meanwhile.

    `content` is what messages call it.
    """
    make_folder(target.parent)
    watch = _Watch()
    lease = None
    began = reminded = time.monotonic()
    while not done():
        lease = _taken(target, job, watch)
        if lease is not None:
            break
        now = time.monotonic()
        if watch.last_told is None or now - reminded > REMIND_SECONDS:
            watch.last_told, reminded = watch.text, now
            waiting(
                f"{_name(watch.text)} is preparing the same {content}: waiting for it ({now - began:.0f} s so far)."
            )
        time.sleep(POLL_SECONDS)
    if watch.last_told is not None:
        waited(
            f"Waited {time.monotonic() - began:.0f} s for {_name(watch.last_told)}, which prepared the same {content}."
        )
    if lease is None:
        yield None
        return
    try:
        if done():
            yield None
            return
        lease.remove_leftovers()
        yield lease
    finally:
        lease.release()


class _Watch:
    """A watch on whether a lease changes, by this process's own clock: those of nodes differ."""

    def __init__(self) -> None:
        self.text = ""
        self.last_told: str | None = None
        self._seen: tuple[int, str] | None = None
        self._since = 0.0

    def is_dead(self, number: int, text: str) -> bool:
        self.text = text
        if self._seen != (number, text):
            self._seen, self._since = (number, text), time.monotonic()
        holder = _holder(text)
        if holder is not None and holder.is_gone():
            return True
        return time.monotonic() - self._since > EXPIRY_SECONDS


def _taken(target: Path, job: str, watch: _Watch) -> Lease | None:
    """Make the next lease, where there is none or the last one is over."""
    numbers = _numbers(target)
    if numbers:
        try:
            text = _lease_file(target, numbers[-1]).read_text(encoding="utf-8", errors="replace")
        except FileNotFoundError:
            return None  # released this moment
        if not watch.is_dead(numbers[-1], text):
            return None
    number = numbers[-1] + 1 if numbers else 1
    lease_file = _lease_file(target, number)
    try:
        descriptor = os.open(lease_file, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o644)
    except FileExistsError:
        return None
    if _numbers(target)[-1:] != [number]:  # others have come and gone meanwhile, the last of them is alive
        os.close(descriptor)
        lease_file.unlink(missing_ok=True)
        return None
    try:
        lease = Lease(target, number, descriptor, Holder(job))
    except OSError:  # the volume is full
        os.close(descriptor)
        lease_file.unlink(missing_ok=True)
        raise
    for old in numbers:
        _lease_file(target, old).unlink(missing_ok=True)
    return lease


def remove(path: Path) -> None:
    """Remove a file or a folder that may be gone already."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _lease_file(target: Path, number: int) -> Path:
    return target.with_name(f"{target.name}.lease-{number}")


def _numbers(target: Path) -> list[int]:
    """List the leases of a key, the newest last."""
    start = f"{target.name}.lease-"
    numbers = (name.removeprefix(start) for name in names_in(target.parent) if name.startswith(start))
    return sorted(int(number) for number in numbers if number.isdecimal())


def _holder(text: str) -> Holder | None:
    """Parse a lease; None for one that is just being written, or by another release."""
    try:
        fields = json.loads(text)
        fields.pop("renewed", None)
        return Holder(**fields)
    except (ValueError, TypeError, AttributeError):
        return None


def _name(text: str) -> str:
    holder = _holder(text)
    return f"job {holder.job} ({holder.host})" if holder is not None else "another job"


def _touched(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _machine() -> str | None:
    try:
        return f"{BOOT_ID.read_text().strip()} {os.readlink(PID_NAMESPACE)}"
    except OSError:
        return None


def _started(pid: int) -> str | None:
    """Return the start of a process of this machine, in ticks of its kernel; None where the process has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]
