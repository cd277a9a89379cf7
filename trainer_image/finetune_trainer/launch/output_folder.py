"""Checkpoints that a user's own program writes below OUTPUT_DIR: which are finished, and how one comes back for the next attempt.

A program may overwrite, tear or delete what it has written, at any moment. So what is sealed is a copy elsewhere, and a folder of
OUTPUT_DIR is never taken for good by its name. These are only the file operations; `output_watch` says when they happen.
"""

from __future__ import annotations

import errno
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath

from finetune_trainer.contract.records import CheckpointRef
from finetune_trainer.contract.script import CHECKPOINT_NAME
from finetune_trainer.launch.checkpoints import move_aside
from finetune_trainer.shared.checkpoints import manifest
from finetune_trainer.shared.paths import to_local
from finetune_trainer.shared.volume import NOTHING, Run, exists, make_folder, names_in, sync_file, sync_folder

COUNTS_STEPS = frozenset({"checkpoint-", "step_"})
"""Kinds of names whose number is that of an optimizer step."""
_RESTORING = ".finetune-restoring"
"""Folder for a copy of a checkpoint that is not whole yet. No program and no model has a folder of this name."""
_COPY_BYTES = 64 << 20
_TRAINER_FIRST, _TRAINER_LAST = "training_args.bin", "trainer_state.json"
"""Files that the Trainer writes beside the weights, and when weights, optimizer and random states are written."""
_ACCELERATE_FIRST = "optimizer.bin"
"""File that `Accelerator.save_state` writes before the random states."""
_RANK_FILES = ("rng_state_{rank}.pth", "random_states_{rank}.pkl")
"""Files that each rank writes for itself, in checkpoints of the Trainer and of Accelerate."""
_SHARD, _SHARDS_LAST = ".distcp", ".metadata"
"""Suffix of a rank's file in a checkpoint of torch.distributed.checkpoint, and the file that is written beside them at the end."""
_UNFINISHED = re.compile(r"(^|/)([.]?tmp[^/]*|[.]nfs[^/]*|[^/]*[.](tmp|part|partial|incomplete))$")
"""Names that writers give to a file that they will rename, and NFS to one that is open and has no name any more."""


@dataclass(frozen=True)
class Written:
    """A folder that has the name of a checkpoint."""

    folder: Path
    form: str
    """Beginning of the name: `checkpoint-`."""
    number: int

    @property
    def counts_steps(self) -> bool:
        """Whether the number is that of an optimizer step."""
        return self.form in COUNTS_STEPS

    @property
    def kind(self) -> tuple[Path, str]:
        """The row of checkpoints that it belongs to."""
        return self.folder.parent, self.form


@dataclass(frozen=True)
class Look:
    """The files of a folder as they were at one moment: name -> size and time of the last change in nanoseconds."""

    files: dict[str, tuple[int, int]]


def written(run: Run, *, links: bool = False) -> Iterator[Written]:
    """Yield the folders in OUTPUT_DIR, and in a folder of it such as CHECKPOINT_DIR, that have the name of a checkpoint.

    `links`: links to folders, too.
    """
    for parent in _parents(run):
        for name in sorted(names_in(parent)):
            match = CHECKPOINT_NAME.match(name)
            if match is not None and (parent / name).is_dir() and (links or not (parent / name).is_symlink()):
                yield Written(parent / name, match["form"], int(match["number"]))


def _parents(run: Run) -> list[Path]:
    """List the folders in which checkpoints are looked for. A program may have many files there: none is asked for its status."""
    try:
        with os.scandir(run.output) as entries:
            inner = [entry.name for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError as error:
        if error.errno not in NOTHING:
            raise
        return []
    return [run.output, *(run.output / name for name in sorted(inner) if CHECKPOINT_NAME.match(name) is None)]


def look(folder: Path) -> Look:
    """Look at all files of a folder. Links are left out: what they lead to may lie anywhere."""
    files: dict[str, tuple[int, int]] = {}
    for path in sorted(folder.rglob("*")):
        if not path.is_file() or path.is_symlink():
            continue
        with suppress(FileNotFoundError):
            status = path.stat()
            files[path.relative_to(folder).as_posix()] = status.st_size, status.st_mtime_ns
    return Look(files)


class Completeness(Enum):
    """What the names of a checkpoint's files tell: the value is the time in seconds without a change after which it is finished."""

    WHOLE = 2.0
    """The last file of a known writer is there, of each rank."""
    UNKNOWN = 10.0
    """Nobody knows what its writer writes last."""
    MISSING = math.inf
    """A file that its writer writes later is not there yet."""


def completeness(seen: Look, world_size: int) -> Completeness:
    """Tell from the names of files whether a known writer has written its last one."""
    names = seen.files.keys()
    if not names or any(_UNFINISHED.search(name) for name in names):
        return Completeness.MISSING
    for pattern in _RANK_FILES:
        of_ranks = {pattern.format(rank=rank) for rank in range(world_size)}
        if names & of_ranks and not of_ranks <= names:
            return Completeness.MISSING
    if any(str(PurePosixPath(name).with_name(_SHARDS_LAST)) not in names for name in names if name.endswith(_SHARD)):
        return Completeness.MISSING
    if _TRAINER_FIRST in names:
        return Completeness.WHOLE if _TRAINER_LAST in names else Completeness.MISSING
    if _ACCELERATE_FIRST in names:
        return Completeness.WHOLE if _RANK_FILES[1].format(rank=0) in names else Completeness.MISSING
    return Completeness.UNKNOWN


def copy(folder: Path, names: list[str], target: Path) -> None:
    """Copy files of a checkpoint to another folder of the volume, on disk. Where the file system can, they share their blocks."""
    shutil.rmtree(target, ignore_errors=True)
    for name in names:
        make_folder((target / name).parent)
        _copy_file(folder / name, target / name)
        sync_file(target / name)
    for parent in {(target / name).parent for name in names}:
        sync_folder(parent)


def _copy_file(source: Path, target: Path) -> None:
    """Copy in the kernel: a file system that can shares the blocks, a server of files copies by itself."""
    with source.open("rb") as reading, target.open("wb") as writing:
        if _copied_in_kernel(reading.fileno(), writing.fileno()):
            return
        reading.seek(0)
        writing.seek(0)
        writing.truncate()
        shutil.copyfileobj(reading, writing, _COPY_BYTES)


def _copied_in_kernel(reading: int, writing: int) -> bool:
    """Return whether the kernel has copied the whole file. Some file systems copy nothing, and report no error."""
    copied = 0
    try:
        while count := os.copy_file_range(reading, writing, _COPY_BYTES):
            copied += count
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP):
            raise
        return False
    return copied == os.fstat(reading).st_size


def resume_path(run: Run, resume: CheckpointRef | None) -> Path | None:
    """Return the folder that a program resumes from: in OUTPUT_DIR under its own name, where a program wrote it there."""
    if resume is None:
        return None
    sealed = to_local(resume.path)
    content = manifest.read(sealed)
    return run.output / content.written_as if content is not None and content.written_as is not None else sealed


def restore(run: Run, resume: CheckpointRef | None) -> None:
    """Leave in OUTPUT_DIR the checkpoint to resume from as the newest one, as it was sealed.

    What the program wrote after it was not sealed, so nobody knows whether it is whole: it is moved aside. So a program that looks
    for its newest checkpoint by itself finds a good one.
    """
    for parent in _parents(run):  # of an attempt that was killed while it copied
        shutil.rmtree(parent / _RESTORING, ignore_errors=True)
    target = resume_path(run, resume)
    if resume is not None and target is not None and target != to_local(resume.path):
        _bring_back(run, to_local(resume.path), target)
    for found in list(written(run, links=True)):
        if found.folder != target and not _is_older(found, resume, target):
            move_aside(run, found.folder, "it was not sealed")


def _is_older(found: Written, resume: CheckpointRef | None, target: Path | None) -> bool:
    """Return whether a program takes the checkpoint that is resumed from for newer than this one."""
    if resume is None or target is None:
        return False
    match = CHECKPOINT_NAME.match(target.name)
    if match is not None and (match["form"] in COUNTS_STEPS) == found.counts_steps:
        return found.number < int(match["number"])
    with suppress(FileNotFoundError):
        return found.folder.stat().st_mtime_ns < target.stat().st_mtime_ns
    return True


def _bring_back(run: Run, sealed: Path, target: Path) -> None:
    """Put a copy of a sealed checkpoint to its old place, unless the same bytes are there."""
    content = manifest.verified(sealed)
    make_folder(target.parent, run.output)
    if not target.is_symlink() and _holds(target, content):
        return
    restoring = target.parent / _RESTORING
    copy(sealed, list(content.files), restoring)
    if exists(target):
        move_aside(run, target, "it was not what was sealed")
    restoring.rename(target)
    sync_folder(target.parent)


def _holds(folder: Path, content: manifest.Manifest) -> bool:
    """Return whether a folder has the files of a manifest and no others, byte for byte."""
    try:
        if look(folder).files.keys() != content.files.keys():
            return False
        return all(manifest.digest(folder / name).sha256 == expected.sha256 for name, expected in content.files.items())
    except OSError:
        return False
