"""Sealed checkpoints on the volume: which exist, which is good, which may be removed.

Nothing good is ever deleted: a checkpoint is removed only after newer ones are sealed, and only by the newest attempt.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from finetune_trainer.contract.records import CheckpointRef
from finetune_trainer.shared.checkpoints import manifest
from finetune_trainer.shared.checkpoints.attempt_file import (
    AttemptRecord,
    last_attempts,
    newest_attempt_record,
    read_attempt_record,
    successor,
    unreadable,
)
from finetune_trainer.shared.checkpoints.manifest import BrokenError, Manifest
from finetune_trainer.shared.paths import to_local, to_pod
from finetune_trainer.shared.volume import (
    CHECKPOINT,
    Attempt,
    Layout,
    Run,
    VolumeError,
    exists,
    is_number,
    make_folder,
    names_in,
    sync_folder,
    write_text,
)

PARTIAL = ".partial"
REMOVED = ".removed"


@dataclass(frozen=True)
class Sealed:
    """A folder with a manifest; `manifest.verified` tells whether its files agree with it."""

    folder: Path
    manifest: Manifest

    @property
    def ref(self) -> CheckpointRef:
        return self.manifest.ref(self.folder)

    @property
    def order(self) -> tuple[int, int]:
        return self.manifest.step, self.manifest.attempt


@dataclass(frozen=True)
class Choice:
    """Result of a search for a good checkpoint."""

    sealed: Sealed | None
    messages: tuple[str, ...] = ()
    passed_over: frozenset[Path] = frozenset()
    """Folders that still exist and are of no use, although their manifests do not say so."""


def checkpoint_folders(attempt: Attempt) -> list[Path]:
    """List the folders named as sealed checkpoints, whatever they hold."""
    return [attempt.checkpoints / name for name in sorted(names_in(attempt.checkpoints)) if CHECKPOINT.match(name)]


def sealed_by(attempt: Attempt) -> list[Sealed]:
    """Return the sealed checkpoints of one attempt, lowest step first."""
    pairs = [(folder, manifest.read(folder)) for folder in checkpoint_folders(attempt)]
    return sorted((Sealed(folder, content) for folder, content in pairs if content), key=lambda sealed: sealed.order)


def usable_folders(run: Run, before: int | None = None) -> list[Path]:
    """List the checkpoints that attempt `before` may read: those that the newest begun attempt knew, and its own.

    What a superseded attempt sealed after its successor had begun is in neither, so no attempt ever reads it.
    """
    record = newest_attempt_record(run, before)
    known = [to_local(ref.path) for ref in record.known] if record is not None else []
    own: list[Path] = []
    for attempt in last_attempts(run, before):
        try:
            own += checkpoint_folders(attempt)
        except OSError as error:
            raise unreadable(f"What attempt {attempt.number} has sealed", attempt.checkpoints, error) from error
    return list(dict.fromkeys([*(folder for folder in known if exists(folder)), *own]))


def choose(folders: Sequence[Path], run: Run) -> Choice:
    """Return the checkpoint of the highest step whose every byte agrees with its manifest, and whose numbers are finite.

    A damaged one is moved aside, and so is one that can't be read where an older one can. Raise VolumeError where none can:
    an unreadable checkpoint may be good, and a training that begins again would throw it away.
    """
    messages: list[str] = []
    unreadable_folders: list[tuple[Path, OSError]] = []
    passed_over: set[Path] = set()
    for folder in sorted(folders, key=step_of, reverse=True):
        try:
            content = manifest.verified(folder)
            not_finite = manifest.not_finite(folder, content)
        except BrokenError as error:
            messages.append(_out_of_the_way(run, folder, str(error)))
            passed_over.add(folder)
            continue
        except OSError as error:
            unreadable_folders.append((folder, error))
            continue
        if not_finite is None:
            messages += (_out_of_the_way(run, path, f"it can't be read: {error}") for path, error in unreadable_folders)
            passed_over.update(path for path, _ in unreadable_folders)
            left = frozenset(path for path in passed_over if exists(path))
            return Choice(Sealed(folder, content), tuple(messages), left)
        messages.append(f"{folder.name} holds numbers that are not finite ({not_finite}): nothing goes on from it")
        if content.finite is None:
            passed_over.add(folder)
    if unreadable_folders:
        folder, refused = unreadable_folders[0]
        raise unreadable(f"There is no checkpoint but {folder.name}, which", folder, refused)
    return Choice(None, tuple(messages), frozenset(path for path in passed_over if exists(path)))


def step_of(folder: Path) -> tuple[int, int]:
    """Return step and attempt of a checkpoint's folder, which is the order of age."""
    match = CHECKPOINT.match(folder.name)
    attempt = folder.parent.parent.name
    return int(match[1]) if match else -1, int(attempt) if is_number(attempt) else 0


def _out_of_the_way(run: Run, folder: Path, why: str) -> str:
    """Move a damaged folder aside, where that is possible; return the message on it."""
    try:
        where = f"has been moved to {to_pod(move_aside(run, folder, why))}"
    except OSError as error:
        where = f"can't be moved aside ({error.strerror or error}): it is passed over"
    return f"{folder.name} was damaged ({why}) and {where}"


def move_aside(run: Run, folder: Path, why: str) -> Path:
    """Move a damaged folder to where no later search looks; its content is not changed."""
    make_folder(run.broken, run.broken)
    attempt = folder.parent.parent.name
    name = f"attempt-{attempt}-{folder.name}" if CHECKPOINT.match(folder.name) and is_number(attempt) else folder.name
    target, number = run.broken / name, 1
    while exists(target):
        number += 1
        target = run.broken / f"{name}.{number}"
    os.rename(folder, target)
    sync_folder(folder.parent)
    sync_folder(run.broken)
    with suppress(OSError):  # the folder is moved; a reason that does not fit on the volume is in the log
        write_text(target.with_name(f"{target.name}.txt"), why + "\n")
    return target


# --- rotation --------------------------------------------------------------------------------------------------------


def surplus(sealed: Sequence[Sealed], limit: int | None, keep: Collection[Path]) -> list[Sealed]:
    """List the checkpoints beyond `save_total_limit`, oldest first; never the newest, the best, or one of `keep`.

    One whose numbers are not finite does not count: it is removed together with the next one that is sealed.
    """
    if limit is None:
        return []
    ordered = sorted(sealed, key=lambda checkpoint: checkpoint.order)
    sound = [checkpoint for checkpoint in ordered if checkpoint.manifest.finite is not False]
    best = [checkpoint for checkpoint in sound if checkpoint.manifest.best][-1:]
    kept = {checkpoint.folder for checkpoint in sound[-max(limit, 1) :] + best + ordered[-1:]} | set(keep)
    return [checkpoint for checkpoint in ordered if checkpoint.folder not in kept]


def needed_by_others(layout: Layout) -> set[Path]:
    """Return the checkpoints that runs of other objects on this volume resume from."""
    needed = set()
    for run in layout.other_runs():
        for attempt in run.begun():
            with suppress(VolumeError):  # a run that resumes from here began after this one was over
                record = read_attempt_record(attempt)
                if record is not None and record.resume is not None:
                    needed.add(to_local(record.resume.path))
    return needed


def rotate(layout: Layout, record: AttemptRecord, limit: int | None) -> list[Path]:
    """Delete surplus checkpoints of this run, and return them. Only node 0 of the newest begun attempt may call it."""
    run = layout.run
    own = sealed_by(run.attempt(record.attempt))
    known = [to_local(ref.path) for ref in record.known]
    lineage = own + [Sealed(folder, content) for folder in known if (content := manifest.read(folder))]
    removed = []
    for old in surplus(lineage, limit, needed_by_others(layout)):
        if successor(run, record.attempt) is not None:
            break
        if _remove(run, record.attempt, old.folder):
            removed.append(old.folder)
    return removed


def _remove(run: Run, attempt: int, folder: Path) -> bool:
    """Remove a checkpoint in two steps, so that an attempt that begins meanwhile finds it unchanged."""
    doomed = folder.with_name(folder.name + REMOVED)
    os.rename(folder, doomed)
    if successor(run, attempt) is not None:
        os.rename(doomed, folder)
        return False
    sync_folder(folder.parent)
    shutil.rmtree(doomed)
    return True


def sweep(run: Run, attempt: int) -> None:
    """Remove the unfinished files of earlier attempts, which nobody reads once the record of `attempt` is written."""
    for old in (earlier for earlier in run.numbered() if earlier.number < attempt):
        leftovers: list[Path] = []
        with suppress(OSError):  # what can't be listed stays
            leftovers = [
                old.checkpoints / name for name in names_in(old.checkpoints) if name.endswith((PARTIAL, REMOVED))
            ]
        for folder in (old.staging, old.model.with_name(old.model.name + PARTIAL), *leftovers):
            shutil.rmtree(folder, ignore_errors=True)
