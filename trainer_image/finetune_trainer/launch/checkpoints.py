"""Sealed checkpoints on the volume: which there are, which one is good, which ones may go.

Nothing good is ever deleted: a checkpoint goes only after newer ones are sealed, and only by the newest attempt.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from finetune_trainer.config import CheckpointRef
from finetune_trainer.launch import manifest
from finetune_trainer.launch.manifest import Manifest
from finetune_trainer.launch.marks import Mark, newest_mark, read_mark, successor
from finetune_trainer.paths import to_local, to_pod
from finetune_trainer.volume import CHECKPOINT, Attempt, Layout, Run, make_folder, names_in, sync_folder, write_text

PARTIAL = ".partial"
REMOVED = ".removed"


@dataclass(frozen=True)
class Sealed:
    """A folder that has a manifest; whether it holds is known after `manifest.problem`."""

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
    """What a search for a good checkpoint found."""

    sealed: Sealed | None
    messages: tuple[str, ...] = ()


def checkpoint_folders(attempt: Attempt) -> list[Path]:
    """Folders named as sealed checkpoints, whatever is in them."""
    return [attempt.checkpoints / name for name in sorted(names_in(attempt.checkpoints)) if CHECKPOINT.match(name)]


def sealed_by(attempt: Attempt) -> list[Sealed]:
    """The sealed checkpoints of one attempt, lowest step first."""
    pairs = [(folder, manifest.read(folder)) for folder in checkpoint_folders(attempt)]
    return sorted((Sealed(folder, found) for folder, found in pairs if found), key=lambda sealed: sealed.order)


def usable_folders(run: Run, before: int) -> list[Path]:
    """Checkpoints that attempt `before` may read: those that the newest begun attempt knew of, and its own.

    What a superseded attempt sealed after its successor had begun is in neither, so no attempt ever reads it.
    """
    mark = newest_mark(run, before)
    if mark is None:
        return []
    known = [to_local(ref.path) for ref in mark.known]
    return [folder for folder in known if folder.is_dir()] + checkpoint_folders(run.attempt(mark.attempt))


def choose(folders: Sequence[Path], run: Run) -> Choice:
    """The highest step whose manifest holds, every byte read. Broken ones on the way are moved aside."""
    messages: list[str] = []
    for folder in sorted(folders, key=step_of, reverse=True):
        problem = manifest.problem(folder)
        found = manifest.read(folder)
        if problem is None and found is not None:
            return Choice(Sealed(folder, found), tuple(messages))
        aside = move_aside(run, folder, problem or "unreadable")
        messages.append(f"{folder.name} was damaged ({problem}) and has been moved to {to_pod(aside)}")
    return Choice(None, tuple(messages))


def step_of(folder: Path) -> tuple[int, int]:
    """Step and attempt of a checkpoint's folder: the order of age."""
    match = CHECKPOINT.match(folder.name)
    attempt = folder.parent.parent.name
    return int(match[1]) if match else -1, int(attempt) if attempt.isdigit() else 0


def move_aside(run: Run, folder: Path, why: str) -> Path:
    """Take a folder whose manifest does not hold out of the way of every later search; nothing in it is changed."""
    make_folder(run.broken)
    name = f"attempt-{folder.parent.parent.name}-{folder.name}" if CHECKPOINT.match(folder.name) else folder.name
    aside, number = run.broken / name, 1
    while aside.exists():
        number += 1
        aside = run.broken / f"{name}.{number}"
    os.rename(folder, aside)
    sync_folder(folder.parent)
    sync_folder(run.broken)
    write_text(aside.with_name(f"{aside.name}.txt"), why + "\n")
    return aside


# --- rotation --------------------------------------------------------------------------------------------------------


def surplus(sealed: Sequence[Sealed], limit: int | None, keep: Collection[Path]) -> list[Sealed]:
    """Checkpoints that `save_total_limit` leaves no room for, oldest first; never the newest, the best, `keep`."""
    if limit is None:
        return []
    ordered = sorted(sealed, key=lambda one: one.order)
    best = [one for one in ordered if one.manifest.best][-1:]
    stays = {one.folder for one in ordered[-max(limit, 1) :] + best} | set(keep)
    return [one for one in ordered if one.folder not in stays]


def needed_by_others(layout: Layout) -> set[Path]:
    """Checkpoints that runs of other objects on this volume go on from."""
    needed = set()
    for run in layout.other_runs():
        for attempt in run.begun():
            mark = read_mark(attempt)
            if mark is not None and mark.resume is not None:
                needed.add(to_local(mark.resume.path))
    return needed


def rotate(layout: Layout, mark: Mark, limit: int | None) -> list[Path]:
    """Delete what is surplus in this run; returns what went. Only node 0 of the newest begun attempt may call it."""
    run = layout.run
    own = sealed_by(run.attempt(mark.attempt))
    known = [to_local(ref.path) for ref in mark.known]
    lineage = own + [Sealed(folder, found) for folder in known if (found := manifest.read(folder))]
    gone = []
    for old in surplus(lineage, limit, needed_by_others(layout)):
        if successor(run, mark.attempt) is not None:
            break
        if _remove(run, mark.attempt, old.folder):
            gone.append(old.folder)
    return gone


def _remove(run: Run, attempt: int, folder: Path) -> bool:
    """Remove a checkpoint in two steps, so that an attempt that begins meanwhile finds it as it was."""
    doomed = folder.with_name(folder.name + REMOVED)
    os.rename(folder, doomed)
    if successor(run, attempt) is not None:
        os.rename(doomed, folder)
        return False
    sync_folder(folder.parent)
    shutil.rmtree(doomed)
    return True


def sweep(run: Run, attempt: int) -> None:
    """Remove what earlier attempts left half done: none of it is ever read. After the mark of `attempt` is written."""
    for number in (int(name) for name in names_in(run.attempts) if name.isdigit()):
        if number >= attempt:
            continue
        old = run.attempt(number)
        leftovers = [old.checkpoints / name for name in names_in(old.checkpoints) if name.endswith((PARTIAL, REMOVED))]
        for folder in (old.staging, old.model.with_name(old.model.name + PARTIAL), *leftovers):
            shutil.rmtree(folder, ignore_errors=True)
