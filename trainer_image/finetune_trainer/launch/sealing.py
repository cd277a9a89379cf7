"""The way of files that ranks have written to their sealed folder on the volume.

It has two steps, so that a crash between any two lines leaves older checkpoints untouched. Every node *places* its ranks'
files under `<name>.partial`, with digests and on disk. When all nodes have, node 0 *seals*: the manifest last, then one
rename. These are only the file operations; `checkpoint_coordinator` says when they happen.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

from finetune_trainer.contract.launch_protocol import FileDigest, FileName
from finetune_trainer.launch.checkpoints import PARTIAL, REMOVED
from finetune_trainer.shared.checkpoints import finite, manifest
from finetune_trainer.shared.checkpoints.attempt_file import successor
from finetune_trainer.shared.checkpoints.manifest import Manifest
from finetune_trainer.shared.volume import Run, make_folder, sync_file, sync_folder


class SupersededError(Exception):
    """A newer attempt has begun: this one may change nothing any more."""

    def __init__(self, attempt: int) -> None:
        super().__init__(f"attempt {attempt} has begun")
        self.attempt = attempt


def assert_newest(run: Run, attempt: int) -> None:
    """Raise SupersededError if a newer attempt has begun."""
    newer = successor(run, attempt)
    if newer is not None:
        raise SupersededError(newer)


def partial(final: Path) -> Path:
    """Return the folder in which files are gathered before it is sealed."""
    return final.with_name(final.name + PARTIAL)


def place(staged: Path, final: Path, names: Iterable[FileName]) -> dict[FileName, FileDigest]:
    """Bring files from staging to `<final>.partial`, on disk; return their digests, and which numbers are not finite.

    A second call goes on where the first one failed.
    """
    target = make_folder(partial(final))
    digests: dict[FileName, FileDigest] = {}
    for name in names:
        placed = not (staged / name).exists() and (target / name).exists()
        file = target / name if placed else staged / name
        digests[name] = manifest.digest(file).model_copy(update={"not_finite": finite.not_finite(file)})
        if placed:
            continue
        make_folder((target / name).parent)
        _move(staged / name, target / name)
    for folder in {(target / name).parent for name in digests}:
        sync_folder(folder)
    return digests


def _move(source: Path, target: Path) -> None:
    """Rename a file where staging lies on the volume, and copy it where not; the content is on disk before the name."""
    try:
        sync_file(source)
        os.rename(source, target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        shutil.copyfile(source, target)
        sync_file(target)
        source.unlink()


def seal(run: Run, final: Path, sealed: Manifest) -> None:
    """Make `<final>.partial`, which holds all files of the manifest, into `final`."""
    folder = partial(final)
    missing = [name for name in sealed.files if not (folder / name).is_file()]
    if missing:
        raise FileNotFoundError(errno.ENOENT, "not placed", str(folder / missing[0]))
    manifest.write(folder, sealed)
    assert_newest(run, sealed.attempt)
    os.rename(folder, final)
    sync_folder(final.parent)


def seal_again(run: Run, final: Path, sealed: Manifest) -> None:
    """Seal `<final>.partial` in the place of `final`, which comes back where that fails.

    Between the two renames neither has the name: a crash there costs the newest checkpoint, and the one before is used.
    """
    old = final.with_name(final.name + REMOVED)
    discard(old)
    os.rename(final, old)
    try:
        seal(run, final, sealed)
    except BaseException:
        os.rename(old, final)
        raise
    discard(old)


def discard(*folders: Path) -> None:
    """Free the space of files that were given up."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def merged(parts: Iterable[Mapping[FileName, FileDigest]]) -> dict[FileName, FileDigest]:
    """Return the files of all nodes together. Raise ValueError for a file that two nodes claim to have written."""
    files: dict[FileName, FileDigest] = {}
    for part in parts:
        twice = files.keys() & part.keys()
        if twice:
            raise ValueError(f"{min(twice)} was listed by two nodes")
        files |= part
    return files
