"""Files of this machine that a command names: in the job they lie on a volume, below one folder as they do here."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from finetune_operator.cli.init.argument_words import Argument

MOUNT_PATH = "/data"
_PATH_MAX = 1024
_NAMES_A_FILE = re.compile(r"(^|_)(files?|paths?|dir|folder|csv|json|jsonl|config)$")
_SPLIT_OPTIONS = {"train": "train_file", "validation": "validation_file", "test": "test_file"}
KINDS_OF_FILES = frozenset(
    ("csv", "json", "parquet", "text", "arrow", "pandas", "imagefolder", "audiofolder", "webdataset")
)
"""Names by which `load_dataset` reads files."""
_SUFFIX = re.compile(r"[.][A-Za-z][A-Za-z0-9]{1,6}$")
_IS_WRITTEN = re.compile(
    r"(^|_)(output|out|log|logs|logging|save|saved|cache|tmp|temp|results?|checkpoints?|runs?|project)(_|$)"
)
_HUB_OR_FOLDER = frozenset(("model_name_or_path", "model_name", "dataset_name", "tokenizer_name", "config_name"))
"""Options whose value is a folder where there is one of that name, else a name on the Hub."""
_OF_THE_MACHINE = ("/dev", "/proc", "/sys", "/run", "/bin", "/usr", "/etc")


@dataclass(frozen=True)
class LocalFiles:
    """Files and folders of this machine, and the one folder that all lie below."""

    root: Path = Path()
    paths: Mapping[str, Path] = field(default_factory=dict)
    """Value as it was written -> absolute path."""
    splits: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Split -> its files, as they were written; empty where no file is one to train on."""

    def in_pod(self, value: str) -> str | None:
        """Return the path that a file has in the pods; None for a value that is none of these files."""
        if value not in self.paths:
            return None
        relative = os.path.relpath(self.paths[value], self.root)
        return MOUNT_PATH if relative == "." else f"{MOUNT_PATH}/{relative}"

    def in_arguments(self, value: str) -> str | None:
        """Return how an argument names a file: below DATA_DIR, which is the folder of the first training file on every machine."""
        if value not in self.paths or not self.splits:
            return self.in_pod(value)
        folder = self.paths[self.splits["train"][0]].parent
        return f"$(DATA_DIR)/{os.path.relpath(self.paths[value], folder)}"

    def dataset(self) -> dict[str, list[str]]:
        """Return `dataset.files`."""
        return {split: [self.in_pod(value) or value for value in values] for split, values in self.splits.items()}

    def relative(self) -> list[str]:
        """Return the files as they lie below the folder."""
        return sorted({os.path.relpath(path, self.root) for path in self.paths.values()})


def find(arguments: Sequence[Argument], folder: Path) -> LocalFiles:
    """Return the files in `folder`, or at absolute paths, that arguments name."""
    paths: dict[str, Path] = {}
    for argument in arguments:
        for value in argument.values:
            path = None if is_written(argument.name) else _existing(value, folder)
            if path is not None and _means_a_file(argument, value, path):
                paths[value] = path
    if not paths:
        return LocalFiles()
    folders = {path if path.is_dir() else path.parent for path in paths.values()}
    return LocalFiles(Path(os.path.commonpath(folders)), paths, _splits(arguments, paths))


def _splits(arguments: Sequence[Argument], paths: Mapping[str, Path]) -> dict[str, tuple[str, ...]]:
    """Return the files of each split, where all of them are files of this machine, and none is a dataset on the Hub."""
    values = {argument.name: argument.values for argument in arguments}
    splits = {split: values[option] for split, option in _SPLIT_OPTIONS.items() if values.get(option)}
    every = [value for files in splits.values() for value in files]
    is_local = "train" in splits and all(value in paths and is_file(paths[value]) for value in every)
    return splits if is_local and not _is_on_hub(values.get("dataset_name", ()), paths) else {}


def _is_on_hub(names: Sequence[str], paths: Mapping[str, Path]) -> bool:
    return any(name not in paths and name not in KINDS_OF_FILES for name in names)


def is_file(path: Path) -> bool:
    """Return whether a file is there; no name is too long or too strange to ask for."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_folder(path: Path) -> bool:
    """Return whether a folder is there."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_written(option: str) -> bool:
    """Return whether an option names a place to write to, by its name."""
    return _IS_WRITTEN.search(option) is not None


def is_missing(argument: Argument, value: str) -> bool:
    """Return whether an argument that is no file here looks like the name of one."""
    return (
        bool(_NAMES_A_FILE.search(argument.name))
        and not is_written(argument.name)
        and argument.name not in _HUB_OR_FOLDER
        and "://" not in value
        and ("/" in value or bool(_SUFFIX.search(value)))
    )


def _existing(value: str, folder: Path) -> Path | None:
    """Return the absolute path of a file or folder that exists, unless it is one that every machine has."""
    if not value.strip("./") or "://" in value or len(value) > _PATH_MAX:
        return None
    path = Path(os.path.normpath(folder / value))
    is_here = is_file(path) or is_folder(path)
    of_the_machine = any(path.is_relative_to(other) for other in _OF_THE_MACHINE)
    return path if is_here and not of_the_machine else None


def _means_a_file(argument: Argument, value: str, path: Path) -> bool:
    """Return whether a value that happens to be the name of a file is meant to be one."""
    if argument.name in _HUB_OR_FOLDER:
        return path.is_dir()
    return "/" in value or bool(_NAMES_A_FILE.search(argument.name)) or (path.is_file() and bool(path.suffix))
