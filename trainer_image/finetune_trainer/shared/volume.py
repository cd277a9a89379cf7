"""The job's volume: its layout, and how a file is written so that a crash leaves the old one or the new one.

Local paths throughout; `finetune_trainer.shared.paths` maps pod paths to them. `launch` decides what a
checkpoint's manifest says, and which checkpoint an attempt resumes from.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import socket
import stat
import tempfile
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from finetune_trainer.contract.frozen_document import Document
from finetune_trainer.contract.records import Cause, Failure, Reason
from finetune_trainer.contract.run_config import RunConfig
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.paths import to_local

CHECKPOINT = re.compile(r"^checkpoint-(\d+)$")
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
NOT_WRITABLE = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})
LINKS_BROKEN = frozenset(
    getattr(errno, name)
    for name in (
        *("EIO", "ESTALE", "ENODEV", "ENXIO", "EREMOTEIO", "EUCLEAN", "ENOLINK", "EBUSY"),
        *("ENOTCONN", "ESHUTDOWN", "ETIMEDOUT", "ECONNRESET", "ECONNABORTED", "ECONNREFUSED"),
        *("EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETUNREACH", "EAGAIN"),
    )
    if hasattr(errno, name)
)
"""Errors of a file system while its server, its disk or its daemon is away."""
OF_DISKS_ALONE = frozenset(
    getattr(errno, name) for name in ("EIO", "ESTALE", "EREMOTEIO", "EUCLEAN") if hasattr(errno, name)
)
"""Errors among them that no socket ever raises."""
PASSING = DISK_FULL | LINKS_BROKEN | {errno.EROFS}
"""Errors that are mended from outside, or by themselves, while a training waits."""
NOTHING = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
"""Errors that say that no file has the name, or that none can have it."""
NOT_A_FILE = frozenset({errno.EISDIR, errno.ENOTDIR, errno.ELOOP})
"""Errors that say that something other than a file has the name, so that there is no file to read."""

D = TypeVar("D", bound=Document)


class VolumeError(ExpectedError):
    """Error of a volume that can't be used as it is: `launch` waits for one that may come back."""


# --- layout ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Attempt:
    """Folder of an attempt, the only one below which the attempt seals."""

    folder: Path

    @property
    def number(self) -> int:
        return int(self.folder.name)

    @property
    def secret(self) -> Path:
        """The secret by which the nodes of the attempt know each other; mode 0600."""
        return self.folder / "secret"

    @property
    def address(self) -> Path:
        """`ip:port` of node 0, for nodes that can't resolve its name; mode 0600."""
        return self.folder / "address"

    @property
    def record_file(self) -> Path:
        """The file of the `AttemptRecord`, which says that the attempt has begun."""
        return self.folder / "attempt.json"

    @property
    def record_copy(self) -> Path:
        """The record once more: it says what later attempts may read, so a single torn file must not lose it."""
        return self.folder / "attempt.copy.json"

    @property
    def results(self) -> Path:
        return self.folder / "results"

    def result(self, node: int) -> Path:
        return self.results / f"node-{node}.json"

    @property
    def staging(self) -> Path:
        """The folder in which ranks write; nothing in it is ever read by a later attempt."""
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


def is_number(name: str) -> bool:
    """Tell whether the name of a folder is the number of an attempt. `isdigit` alone is true of digits that `int` refuses."""
    return name.isascii() and name.isdigit()


@dataclass(frozen=True)
class Run:
    """Folder of a run, named by its uid."""

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
        """The record of how the newest try to publish ended."""
        return self.folder / "publish" / "record.json"

    @property
    def base_facts(self) -> Path:
        """Facts from the base model's card, for the next try to publish."""
        return self.folder / "publish" / "base.json"

    @property
    def output(self) -> Path:
        """OUTPUT_DIR of the user's own program: the same folder in every attempt."""
        return self.folder / "output"

    @property
    def output_checkpoints(self) -> Path:
        """CHECKPOINT_DIR of the user's own program."""
        return self.output / "checkpoints"

    @property
    def broken(self) -> Path:
        """Checkpoints whose manifest does not hold, moved aside."""
        return self.folder / "broken"

    @property
    def hub_home(self) -> Path:
        """HF_HOME of a script: the ids that it loads lead to the commits of this run, whatever other jobs of the claim have fetched."""
        return self.folder / "hub"

    def attempt(self, number: int) -> Attempt:
        return Attempt(self.attempts / str(number))

    def numbered(self) -> list[Attempt]:
        """List the attempts that have a folder, oldest first, whether they have begun or not."""
        return [
            self.attempt(number) for number in sorted(int(name) for name in names_in(self.attempts) if is_number(name))
        ]

    def begun(self) -> list[Attempt]:
        """List the attempts that have left a record, oldest first. Whether the record can be read, `launch` finds out."""
        return [attempt for attempt in self.numbered() if exists(attempt.record_file) or exists(attempt.record_copy)]


@dataclass(frozen=True)
class Layout:
    """Paths below the mount point of the job's claim."""

    output: Path
    job: str
    uid: str

    @classmethod
    def of(cls, config: RunConfig) -> Layout:
        return cls(to_local(config.output), config.job, config.uid)

    @property
    def hub_cache(self) -> Path:
        """The folder for HF_HOME: shared by the jobs of a claim."""
        return self.output / ".finetune" / "hub"

    @property
    def job_folder(self) -> Path:
        return self.output / self.job

    @property
    def all_prepared(self) -> Path:
        """Prepared data: shared by the jobs of a claim."""
        return self.output / ".finetune" / "prepared"

    def prepared(self, key: str) -> Path:
        """Return the folder of tokenised splits by content: made under another name, then renamed."""
        return self.all_prepared / key

    def packages(self, key: str) -> Path:
        """Return the folder of the packages that scripts require, by what they were installed from: shared by the jobs of a claim."""
        return self.output / ".finetune" / "packages" / key

    def files(self, key: str) -> Path:
        """Return the folder of the files of a script that were fetched, by content: shared by the jobs of a claim."""
        return self.output / ".finetune" / "files" / key

    @property
    def model_link(self) -> Path:
        """The link for people to the newest finished model of this job's name."""
        return self.job_folder / "model"

    @property
    def runs(self) -> Path:
        return self.job_folder / "runs"

    @property
    def run(self) -> Run:
        return Run(self.runs / self.uid)

    def other_runs(self) -> list[Run]:
        """List the runs of earlier objects of the same name."""
        return [Run(self.runs / name) for name in sorted(names_in(self.runs)) if name != self.uid]


def exists(path: Path) -> bool:
    """Tell whether anything has this name, whatever it is and whether or not it can be read."""
    try:
        os.lstat(path)
    except OSError as error:
        return error.errno not in NOTHING
    return True


def names_in(folder: Path) -> list[str]:
    """List the names in a folder; none if there is no such folder."""
    try:
        return os.listdir(folder)
    except OSError as error:
        if error.errno in NOTHING:
            return []
        raise


def has_worked(layout: Layout) -> bool:
    """Tell whether the run was prepared on the volume before, so that a volume that fails now was usable once. In doubt it was."""
    return exists(layout.run.prepared)


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


def make_folder(folder: Path, own: Path | None = None) -> Path:
    """Make a folder and its parents, durably; a folder that exists is left as it is.

    At or below `own`, where all names are ours, a file in the place of a folder is moved aside unchanged.
    """
    ours = [path for path in (folder, *folder.parents) if own is not None and path.is_relative_to(own)]
    missing = [path for path in (folder, *folder.parents) if not (path.is_dir() if path in ours else path.exists())]
    for path in reversed(missing):
        if path in ours and exists(path):
            os.rename(path, aside(path))
        path.mkdir(exist_ok=True)
        sync_folder(path.parent)
    return folder


def aside(path: Path) -> Path:
    """Return an unused name beside a path: for a file or folder that should not have the path."""
    return path.with_name(f"{path.name}.aside-{uuid.uuid4().hex[:8]}")


def write_text(file: Path, text: str, mode: int = 0o644) -> None:
    """Replace a file as a whole, durably: readers see the old text or the new one, also after a crash."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{file.name}.", dir=file.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            # The temporary file begins as one that nobody else may read. A volume may have no modes.
            with suppress(OSError):
                os.fchmod(stream.fileno(), mode)
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        _replace(temporary, file)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    sync_folder(file.parent)


def _replace(temporary: str, file: Path) -> None:
    """Give a file its name. A folder of that name, which this package never makes, is moved aside unchanged."""
    try:
        os.rename(temporary, file)
    except IsADirectoryError:
        os.rename(file, aside(file))
        os.rename(temporary, file)


def write_document(file: Path, document: Document, mode: int = 0o644) -> None:
    """Write a document's JSON, as `write_text` does."""
    write_text(file, document.to_json() + "\n", mode)


def read_document(file: Path, kind: type[D]) -> D | None:
    """Read a document from the volume; None if the file is not there. Raise ValueError for one that can't be parsed."""
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    return kind.model_validate_json(content)


# --- documents that tell when they have changed ----------------------------------------------------------------------

DIGEST = "contentDigest"
"""Key, beside its own, of a JSON object that carries the digest of all its other keys."""


def with_digest(value: dict[str, Any]) -> dict[str, Any]:
    """Add the digest of a JSON object to it."""
    return {**value, DIGEST: _digest(value)}


def parse_with_digest(text: str | bytes) -> dict[str, Any]:
    """Parse the JSON object that `with_digest` made, without the digest. Raise ValueError for one that has changed."""
    value = json.loads(text)
    if not isinstance(value, dict) or DIGEST not in value:
        raise ValueError("it holds no digest")
    content = {name: field for name, field in value.items() if name != DIGEST}
    if value[DIGEST] != _digest(content):
        raise ValueError("its content has changed since it was written")
    return content


def _digest(value: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def write_checked(file: Path, document: Document) -> None:
    """Write a document that carries its own digest."""
    write_text(file, json.dumps(with_digest(json.loads(document.to_json())), ensure_ascii=False) + "\n")


def read_checked(file: Path, kind: type[D], *, digest_required: bool = True) -> D | None:
    """Read what `write_checked` wrote; None if the file is not there. Raise ValueError where it is not what was written.

    An older release wrote some documents without a digest: they are accepted where none is required.
    """
    try:
        content = file.read_bytes()
    except FileNotFoundError:
        return None
    value = json.loads(content)
    if not digest_required and isinstance(value, dict) and DIGEST not in value:
        return kind.model_validate_json(content)
    return kind.model_validate(parse_with_digest(content))


def replace_link(link: Path, target: Path) -> None:
    """Let a relative symbolic link point at another folder, in one step."""
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(os.path.relpath(target, link.parent))
    try:
        os.rename(temporary, link)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(link.parent)


# --- checking that the volume can be written to, and can do all that sealing needs -----------------------------------


def probe(layout: Layout, *, worked: bool = False) -> tuple[str, ...]:
    """Try on the volume all that training will do there; raise VolumeError with the way out.

    `worked`: whether this run has written there before, so that the fault came later. Returns messages for the user about
    operations that fail and that training can do without.
    """
    # In its own pod every launch is process 1.
    own = layout.job_folder / f".probe-{socket.gethostname()}-{os.getpid()}"
    shutil.rmtree(own, ignore_errors=True)
    try:
        make_folder(own / "new.partial")
        file = own / "new.partial" / "file"
        file.write_text("old\n")
        sync_file(file)
    except OSError as error:
        shutil.rmtree(own, ignore_errors=True)
        known = error.errno in PASSING | NOT_WRITABLE or isinstance(error, FileNotFoundError | NotADirectoryError)
        failure = explain(error, layout.output, worked=worked) if known else _unsuitable("sync", error, layout.output)
        raise VolumeError.of(failure) from error
    try:
        _seal_in(own, layout.output, worked=worked)
        return _try_optional(own)
    finally:
        shutil.rmtree(own, ignore_errors=True)


def _seal_in(own: Path, output: Path, *, worked: bool) -> None:
    """Do what sealing a checkpoint does, step by step."""

    def replace() -> None:
        write_text(own / "new.partial" / "file", "new\n", mode=0o600)

    def rename_folder() -> None:
        os.rename(own / "new.partial", own / "new")
        sync_folder(own)

    def read() -> None:
        if (own / "new" / "file").read_text() != "new\n":
            raise OSError(errno.ENOTSUP, "it holds something else than what was written")

    def make_once() -> None:
        os.close(os.open(own / "lease", os.O_CREAT | os.O_EXCL | os.O_WRONLY))

    steps: dict[str, Callable[[], None]] = {
        "replace a file by renaming another": replace,
        "rename a folder with files in it": rename_folder,
        "read a file in a renamed folder": read,
        "make a file that must be new": make_once,
    }
    for operation, step in steps.items():
        try:
            step()
        except OSError as error:
            known = error.errno in PASSING
            failure = explain(error, output, worked=worked) if known else _unsuitable(operation, error, output)
            raise VolumeError.of(failure) from error


def _unsuitable(operation: str, error: OSError, output: Path) -> Failure:
    message = f"The volume at {output} can't {operation} ({error}): checkpoints could not be sealed there."
    return Failure(reason=Reason.VOLUME_UNSUITABLE, cause=Cause.USER, message=message)


def _try_optional(own: Path) -> tuple[str, ...]:
    """Try the operations that training can do without."""
    problems = []
    try:
        for _ in range(2):
            replace_link(own / "link", own / "new")
    except OSError as error:
        problems.append(
            f"The volume makes no symbolic links ({error}): the folder `model` of the job will not lead to its newest model; "
            "`status.model.path` names it."
        )
    try:
        os.utime(own / "new" / "file")
    except OSError as error:
        problems.append(
            f"The volume sets no times of files ({error}): where it runs short of room, the prepared data that was made first "
            "goes first, however lately it was used."
        )
    return tuple(problems)


def explain(error: OSError, output: Path, *, worked: bool = False) -> Failure:
    """Say what an error of the volume means for the user.

    Where the run has `worked` on the volume before, an error that passes is nobody's mistake: it is waited for. Else the volume
    is set up wrong.
    """
    waited_for = Cause.VOLUME if worked else Cause.USER
    if error.errno in DISK_FULL:
        message = f"The volume at {output} is full{_free(output)}: {error}. Enlarge the claim or empty it."
        return Failure(reason=Reason.VOLUME_FULL, cause=waited_for, message=message)
    if error.errno in NOT_WRITABLE:
        cause = waited_for if error.errno == errno.EROFS else Cause.USER
        return Failure(
            reason=Reason.VOLUME_NOT_WRITABLE, cause=cause, message=_not_writable(error, output, worked=worked)
        )
    if error.errno in LINKS_BROKEN:
        message = f"The volume at {output} fails: {error}."
        return Failure(reason=Reason.VOLUME_FAILED, cause=Cause.VOLUME, message=message)
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        message = f"There is no folder {output}: the volume is not mounted ({error})."
        return Failure(reason=Reason.VOLUME_NOT_WRITABLE, cause=Cause.USER, message=message)
    message = f"The volume at {output} failed: {error}."
    return Failure(reason=Reason.VOLUME_FAILED, cause=Cause.ERROR, message=message)


def passes(error: BaseException) -> bool:
    """Tell whether an error of the volume may be over when the same is tried again later."""
    return isinstance(error, OSError) and error.errno in PASSING


def concerns(error: OSError, output: Path) -> bool:
    """Tell whether an error is about the volume: one that names a file elsewhere is not. A relative name is one of this process."""
    if not isinstance(error.filename, str | bytes):  # nothing, or the number of an open file
        return True
    return Path(os.path.abspath(os.fsdecode(error.filename))).is_relative_to(output)


def is_of_volume(error: OSError, output: Path) -> bool:
    """Tell whether an error in the middle of other work came from the volume.

    Sockets raise some of these errors, too: such an error must name a file.
    """
    if error.errno in DISK_FULL | NOT_WRITABLE | OF_DISKS_ALONE:
        return concerns(error, output)
    return error.errno in LINKS_BROKEN and error.filename is not None and concerns(error, output)


def _free(output: Path) -> str:
    with suppress(OSError):
        space = os.statvfs(output)
        return f" ({space.f_bavail * space.f_frsize} bytes free)"
    return ""


def _not_writable(error: OSError, output: Path, *, worked: bool) -> str:
    uid, gid = os.geteuid(), os.getegid()
    if error.errno == errno.EROFS:
        if worked:
            return f"The volume at {output} has become read-only: find out why, and mount it writable again."
        return f"The volume at {output} is mounted read-only: mount it writable, or choose another claim."
    folder = Path(error.filename) if error.filename else output
    while not folder.is_dir():
        folder = folder.parent
    status = folder.stat()
    mode = stat.S_IMODE(status.st_mode)
    return (
        f"The pods' user (uid {uid}, gid {gid}) may not write to {folder} on the volume: it belongs to uid "
        f"{status.st_uid}, gid {status.st_gid}, mode {mode:04o}. Storage that supports it hands the volume over where "
        f"`securityContext.fsGroup: {gid}` is set; NFS and host folders do not: run `chown {uid}:{gid}` (or "
        f"`chgrp {gid}` and `chmod g+rwx`) on the folder where it is stored."
    )
