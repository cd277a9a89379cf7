"""The data of a script: files that are there, or are brought to the claim under their own names. No row of them is looked at."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import DatasetSource
from finetune_trainer.data.data_errors import names
from finetune_trainer.prepare import file_sources, local_files, shared_folder, store
from finetune_trainer.prepare.file_sources import FileSource
from finetune_trainer.prepare.fingerprint import sha256
from finetune_trainer.prepare.hub import HubReader
from finetune_trainer.prepare.hub_home import Pin
from finetune_trainer.prepare.notes import Notes
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.volume import Layout

CONTENT = "folder of files"
FILES = "files"
"""The folder of the files themselves, beside what is noted of them."""


@dataclass(frozen=True)
class ScriptData:
    folder: Path
    """The folder of the first training file, or of the repository."""
    commit: str | None = None
    pin: Pin | None = None
    """The dataset on the Hub that the script may load by its id."""


def find(dataset: DatasetSource, hub: HubReader, layout: Layout, notes: Notes) -> ScriptData:
    """Find the data, and bring to the claim what lies elsewhere. Raises ExpectedError."""
    if dataset.name is not None:
        return _of_hub(dataset, dataset.name, hub, layout, notes)
    paths = [path for split in dataset.files.values() for path in split]
    fetched = [path for path in paths if file_sources.is_address(path)]
    if not fetched:
        return ScriptData(_of_volumes(paths))
    if len(fetched) < len(paths):
        beside = next(path for path in paths if path not in fetched)
        raise ExpectedError(
            Reason.FILE_NOT_FOUND,
            f"{beside} lies on a volume, and other files of spec.dataset at addresses: DATA_DIR is one folder. Leave out the "
            "files on volumes, which the script can read where they are.",
        )
    return _fetched(fetched, hub, layout, notes)


def is_there(folder: Path, layout: Layout, notes: Notes) -> bool:
    """Tell whether the data that an earlier try has found is still there; of what was fetched, every byte."""
    if folder.is_relative_to(layout.files("")):
        return shared_folder.is_sound(folder.parent, notes, CONTENT)
    return folder.is_dir()


def _of_volumes(paths: list[str]) -> Path:
    first, *_ = [path for pattern in paths for path in local_files.readable(pattern)]
    return first if first.is_dir() else first.parent


def _of_hub(dataset: DatasetSource, name: str, hub: HubReader, layout: Layout, notes: Notes) -> ScriptData:
    commit = hub.dataset_commit(dataset)
    folder = hub.dataset_folder(dataset, commit, layout.hub_cache)
    loaded = None
    try:
        loaded = hub.dataset_cache(dataset, commit)
    except ExpectedError as error:
        if error.reason not in (Reason.DATA_INVALID, Reason.DATASET_NOT_FOUND) or dataset.config is not None:
            raise
        notes.say(f"load_dataset({name!r}) will not work in the script, which finds the files in DATA_DIR: {error}")
    return ScriptData(folder, commit, Pin("dataset", name, dataset.revision, commit, loaded))


def _fetched(addresses: list[str], hub: HubReader, layout: Layout, notes: Notes) -> ScriptData:
    """Fetch files into one folder of the claim, which is named after their content."""
    sources = list(file_sources.find(addresses, hub, layout.hub_cache, streaming=False, any_kind=True))
    by_name: dict[str, FileSource] = {}
    for source in sources:
        own = PurePosixPath(source.name).name
        if own in by_name and by_name[own].identity != source.identity:
            raise ExpectedError(
                Reason.FILE_NOT_FOUND,
                f"{by_name[own].name} and {source.name} have one name, and the script finds its files in one folder: rename one of "
                "them.",
            )
        by_name[own] = source
    folder = layout.files(sha256({name: source.identity for name, source in by_name.items()})[:32])

    def make(partial: Path, make_room: Callable[[int], bool]) -> None:
        with store.building(partial):
            (partial / FILES).mkdir()
            for name, source in by_name.items():
                _place(source, partial / FILES / name)
            store.seal(partial, folder, {})

    shared_folder.made(folder, layout, notes, make, CONTENT)
    notes.messages.append(f"Files of the script in DATA_DIR: {names(list(by_name))}.")
    commits = {source.commit for source in sources}
    return ScriptData(folder / FILES, commits.pop() if len(commits) == 1 else None)


def _place(source: FileSource, target: Path) -> None:
    """Give a fetched file another name; copy it where the volume has no second names."""
    path = source.content().path
    assert path is not None, "it was fetched"
    fetched = os.path.realpath(path)
    try:
        os.link(fetched, target)
    except OSError:
        shutil.copyfile(fetched, target)
