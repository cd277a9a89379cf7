"""Eviction of prepared data that no job can need any more: the least recently used first, and only where room is short.

An entry stays as long as the newest run of any job of the claim names it and has no finished model: that run may be
training, suspended, or about to be tried again. It stays, too, for a while after somebody has found it: a job that is
about to name it has not done so yet. All other entries can be made again by whoever wants them.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from finetune_trainer.prepare.lease import remove
from finetune_trainer.prepare.store import DAMAGED, hide, show_again
from finetune_trainer.shared.data_digests import META
from finetune_trainer.shared.volume import Layout, Run, names_in

RECENT_SECONDS = 3600.0
EVICTED = ".evicted-"
"""The part of a name that marks prepared data which is about to be removed; `lease` knows what a killed try has left."""


@dataclass(frozen=True)
class Entry:
    folder: Path
    used: float
    """The time when the entry was made, or found again, by the volume's clock."""

    @property
    def size(self) -> int:
        return sum(path.stat().st_size for path in self.folder.iterdir())


def touch(folder: Path) -> bool:
    """Note that an entry is used now; False where it is not there (any more)."""
    try:
        os.utime(folder / META)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # this volume or user sets no times: the entry counts as older than it is, and stays while a run names it
    return True


def make_room(layout: Layout, wanted: int) -> list[str]:
    """Evict until the volume has `wanted` free bytes, or nothing more can go; return messages that say what went."""
    messages = []
    if shutil.disk_usage(layout.output).free < wanted:
        for name in names_in(layout.all_prepared):
            if DAMAGED in name:
                remove(layout.all_prepared / name)
    for entry in candidates(layout):
        if shutil.disk_usage(layout.output).free >= wanted:
            break
        size = entry.size
        if evict(layout, entry):
            messages.append(
                f"The volume is short of room: prepared data {entry.folder.name[:12]} ({size >> 20} MiB, last used "
                f"{time.strftime('%Y-%m-%d', time.gmtime(entry.used))}) was removed; no unfinished job uses it."
            )
    return messages


def candidates(layout: Layout) -> list[Entry]:
    """Return the entries that may go, the least recently used first."""
    named, entries = in_use(layout), []
    for name in names_in(layout.all_prepared):
        if "." in name or name in named:
            continue
        used = _used(layout.all_prepared / name)
        if used is not None and time.time() - used > RECENT_SECONDS:
            entries.append(Entry(layout.all_prepared / name, used))
    return sorted(entries, key=lambda entry: entry.used)


def in_use(layout: Layout) -> set[str]:
    """Return the names of entries that a run needs which may go on."""
    return {name for run in _may_go_on(layout) if (name := _named_by(run)) is not None}


def _named_by(run: Run) -> str | None:
    """Return the entry that a run has named; None where that can't be told: such a run prepares again before it goes on."""
    try:  # not as `PreparedTask`: another release may have written it
        return PurePosixPath(json.loads(run.prepared.read_bytes())["data"]).name
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _may_go_on(layout: Layout) -> Iterator[Run]:
    """Yield the newest run of each job, unless the run has a model. Runs of earlier objects of the same name are over."""
    for job in names_in(layout.output):
        runs = replace(layout, job=job).runs
        folders = [path for path in runs.iterdir() if path.is_dir()] if runs.is_dir() else []
        prepared = [(run.prepared.stat().st_mtime, run) for run in map(Run, folders) if run.prepared.is_file()]
        newest = max(prepared, key=lambda entry: entry[0], default=None)
        if newest is not None and not any(attempt.model.is_dir() for attempt in newest[1].begun()):
            yield newest[1]


def _used(folder: Path) -> float | None:
    try:
        return (folder / META).stat().st_mtime
    except (FileNotFoundError, NotADirectoryError):
        return None


def evict(layout: Layout, entry: Entry) -> bool:
    """Hide an entry, see that nobody has begun to use it meanwhile, and remove it. Return whether it was removed."""
    folder = entry.folder
    gone = hide(folder, EVICTED)
    if gone is None:
        return False
    if (_used(gone) != entry.used or folder.name in in_use(layout)) and show_again(gone, folder):
        return False
    remove(gone)
    return True
