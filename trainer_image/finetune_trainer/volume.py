"""The job's volume: what lies where, and how a file gets there so that a crash leaves the old one or the new one.

Local paths throughout; `finetune_trainer.paths` maps pod paths to them. What a checkpoint's manifest says, and which
checkpoint an attempt resumes from, is decided in `launch`.
"""

from __future__ import annotations

import errno
import os
import re
import socket
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from finetune_trainer.config import Cause, Document, Failure, Reason, RunConfig
from finetune_trainer.paths import to_local

CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})

D = TypeVar("D", bound=Document)


class VolumeError(Exception):
    """The volume can't be used as it is; `failure` says why and what to set."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


# --- layout ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attempt:
    """One attempt's folder: it alone is written by that attempt."""

    folder: Path

    @property
    def number(self) -> int:
        return int(self.folder.name)

    @property
    def secret(self) -> Path:
        """Authenticates the nodes of the attempt to each other; mode 0600."""
        return self.folder / "secret"

    @property
    def address(self) -> Path:
        """`ip:port` of node 0, for nodes that can't resolve its name; mode 0600."""
        return self.folder / "address"

    @property
    def mark(self) -> Path:
        """Says that the attempt has begun."""
        return self.folder / "attempt.json"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def result(self, node: int) -> Path:
        return self.results / f"node-{node}.json"

    @property
    def staging(self) -> Path:
        """Where ranks write; nothing in it is ever read by a later attempt."""
        return self.folder / "staging"

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    def checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"checkpoint-{step}"

    @property
    def model(self) -> Path:
        """The sealed final model."""
        return self.folder / "model"


@dataclass(frozen=True)
class Run:
    """One uid's folder."""

    folder: Path

    @property
    def uid(self) -> str:
        return self.folder.name

    @property
    def config(self) -> Path:
        """RunConfig of the run, written by the first attempt that begins."""
        return self.folder / "run.json"

    @property
    def prepared(self) -> Path:
        return self.folder / "prepared.json"

    @property
    def attempts(self) -> Path:
        return self.folder / "attempts"

    @property
    def publish_record(self) -> Path:
        """How the newest try to publish ended."""
        return self.folder / "publish" / "record.json"

    @property
    def base_facts(self) -> Path:
        """What the base model's card says, for the next try to publish."""
        return self.folder / "publish" / "base.json"

    @property
    def broken(self) -> Path:
        """Checkpoints whose manifest does not hold, moved aside."""
        return self.folder / "broken"

    def attempt(self, number: int) -> Attempt:
        return Attempt(self.attempts / str(number))

    def begun(self) -> list[Attempt]:
        """Attempts that have begun, oldest first."""
        numbers = sorted(int(name) for name in names_in(self.attempts) if name.isdigit())
        return [attempt for attempt in map(self.attempt, numbers) if attempt.mark.exists()]


@dataclass(frozen=True)
class Layout:
    """What lies where below the mount point of the job's claim."""

    output: Path
    job: str
    uid: str

    @classmethod
    def of(cls, config: RunConfig) -> Layout:
        return cls(to_local(config.output), config.job, config.uid)

    @property
    def hub_cache(self) -> Path:
        """HF_HOME: shared by the jobs of a claim."""
        return self.output / ".finetune" / "hub"

    @property
    def job_folder(self) -> Path:
        return self.output / self.job

    @property
    def all_prepared(self) -> Path:
        """Prepared data: shared by the jobs of a claim."""
        return self.output / ".finetune" / "prepared"

    def prepared(self, key: str) -> Path:
        """Tokenised splits by content: made under another name, then renamed."""
        return self.all_prepared / key

    @property
    def model_link(self) -> Path:
        """For people: always the newest finished model of this job's name."""
        return self.job_folder / "model"

    @property
    def runs(self) -> Path:
        return self.job_folder / "runs"

    @property
    def run(self) -> Run:
        return Run(self.runs / self.uid)

    def other_runs(self) -> list[Run]:
        """Runs of earlier objects of the same name."""
        return [Run(self.runs / name) for name in sorted(names_in(self.runs)) if name != self.uid]


def names_in(folder: Path) -> list[str]:
    """Names in a folder; none if it is not there."""
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


# --- writing so that a crash harms nothing ---------------------------------------------------------------------------


def sync_folder(folder: Path) -> None:
    """Make names in a folder durable: files made, renamed or removed in it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_file(file: Path) -> None:
    """Make a file's content durable, whoever wrote it."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(folder: Path) -> Path:
    """Make a folder and those above it, durably; one that is there is left as it is."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)
    return folder


def write_text(file: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file as a whole, durably: readers see the old text or the new one, also after a crash."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            os.fchmod(stream.fileno(), mode)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


def write_document(file: Path, document: Document, mode: int = 0o644) -> None:
    """`write_text` of a document's JSON."""
    write_text(file, document.to_json() + "\n", mode)


def read_document(file: Path, kind: type[D]) -> D | None:
    """A document from the volume; None if the file is not there. A file that can't be parsed raises."""
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    return kind.model_validate_json(text)


def replace_link(link: Path, target: Path) -> None:
    """Let a relative symbolic link point at another folder, in one step."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent))
    os.rename(temporary, link)
    sync_folder(link.parent)


# --- can it be written to at all -------------------------------------------------------------------------------------


def probe(layout: Layout) -> None:
    """Write, fsync, rename and fsync the folder as training will; raise VolumeError with what to set."""
    folder = layout.output
    try:
        folder = make_folder(layout.job_folder)
        file = folder / f".probe-{socket.gethostname()}-{os.getpid()}"  # in its own pod every launch is process 1
        write_text(file, "probe\n")
        file.unlink()
    except OSError as error:
        raise VolumeError(explain(error, layout.output)) from error


def explain(error: OSError, output: Path) -> Failure:
    """What an error of the volume means for the user."""
    if error.errno in DISK_FULL:
        free = os.statvfs(output).f_bavail * os.statvfs(output).f_frsize
        return Failure(
            reason=Reason.VOLUME_FULL,
            cause=Cause.USER,
            message=f"The volume at {output} is full ({free} bytes free): {error}. Enlarge the claim or empty it.",
        )
    if error.errno in NOT_WRITABLE:
        return Failure(reason=Reason.VOLUME_NOT_WRITABLE, cause=Cause.USER, message=_not_writable(error, output))
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        message = f"There is no folder {output}: the volume is not mounted ({error})."
        return Failure(reason=Reason.VOLUME_NOT_WRITABLE, cause=Cause.USER, message=message)
    message = f"The volume at {output} failed: {error}."
    return Failure(reason=Reason.VOLUME_NOT_WRITABLE, cause=Cause.ERROR, message=message)


def concerns(error: OSError, output: Path) -> bool:
    """Whether an error is about the volume: one that names a file elsewhere is not."""
    return error.filename is None or Path(os.fsdecode(error.filename)).is_relative_to(output)


def _not_writable(error: OSError, output: Path) -> str:
    uid, gid = os.geteuid(), os.getegid()
    if error.errno == errno.EROFS:
        return f"The volume at {output} is mounted read-only: mount it writable, or choose another claim."
    at = Path(error.filename) if error.filename else output
    while not at.is_dir():
        at = at.parent
    status = at.stat()
    mode = stat.S_IMODE(status.st_mode)
    return (
        f"The pods' user (uid {uid}, gid {gid}) may not write to {at} on the volume: it belongs to uid "
        f"{status.st_uid}, gid {status.st_gid}, mode {mode:04o}. Storage that supports it hands the volume over where "
        f"`securityContext.fsGroup: {gid}` is set; NFS and host folders do not: run `chown {uid}:{gid}` (or "
        f"`chgrp {gid}` and `chmod g+rwx`) on the folder where it is stored."
    )
