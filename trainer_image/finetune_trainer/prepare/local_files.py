"""Files on mounted volumes: which ones a path or a pattern means, and why one cannot be used."""

from __future__ import annotations

import glob
import os
from pathlib import Path

from finetune_trainer.contract.frozen_document import PodPath
from finetune_trainer.contract.records import Reason
from finetune_trainer.data import access
from finetune_trainer.data.data_errors import names
from finetune_trainer.prepare.content import Content, local
from finetune_trainer.prepare.formats import READERS, unknown_kind
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.paths import to_local, to_pod


def find(pod_path: PodPath) -> list[Content]:
    """Return the files that a path means: itself, or all that fit a pattern, by name."""
    return [existing(path) for path in _meant(pod_path)]


def readable(pod_path: PodPath) -> list[Path]:
    """Return the local files and folders that a path means, whatever they hold."""
    return [_readable(path) for path in _meant(pod_path)]


def _meant(pod_path: PodPath) -> list[PodPath]:
    if not glob.has_magic(pod_path) or to_local(pod_path).exists():
        return [pod_path]
    matches = sorted(glob.glob(str(to_local(pod_path)), recursive=True))
    if not matches:
        raise ExpectedError(Reason.FILE_NOT_FOUND, _nothing_fits(pod_path))
    return [to_pod(Path(match)) for match in matches]


def _readable(pod_path: PodPath) -> Path:
    path = to_local(pod_path)
    refusal = access.refusal(path, pod_path)
    if refusal:
        raise ExpectedError(Reason.FILE_NOT_FOUND, refusal)
    if not path.exists():
        raise ExpectedError(Reason.FILE_NOT_FOUND, f"{pod_path} does not exist. {_neighbours(path, pod_path)}")
    return path


def existing(pod_path: PodPath) -> Content:
    """Return the local file. Raise ExpectedError with what is wrong where it cannot be used."""
    path = _readable(pod_path)
    if path.is_dir():
        raise ExpectedError(Reason.FILE_NOT_FOUND, f"{pod_path} is a folder; {_files_in(path)}")
    if problem := unknown_kind(pod_path):
        raise ExpectedError(Reason.DATA_INVALID, f"{pod_path}: {problem}.")
    if not path.is_file():
        raise ExpectedError(Reason.FILE_NOT_FOUND, f"{pod_path} is no regular file.")
    if path.stat().st_size == 0:
        raise ExpectedError(Reason.DATA_INVALID, f"{pod_path} is empty.")
    return local(path, pod_path)


def _files_in(folder: Path) -> str:
    readable = sorted(entry.name for entry in folder.iterdir() if unknown_kind(entry.name) is None)
    return f"name the files in it: {names(readable)}." if readable else f"it holds no {names(list(READERS))}."


def _nothing_fits(pattern: PodPath) -> str:
    fixed = os.path.dirname(pattern)
    while glob.has_magic(fixed):
        fixed = os.path.dirname(fixed)
    folder = to_local(fixed)
    if refusal := access.refusal(folder, fixed):
        return f"No file fits {pattern}: {refusal}"
    return f"No file fits {pattern}. {_neighbours(folder / '*', os.path.join(fixed, '*'))}"


def _neighbours(path: Path, pod_path: PodPath) -> str:
    folder, pod_folder = path.parent, os.path.dirname(pod_path)
    if not folder.is_dir():
        return f"The folder {pod_folder} does not exist either: is the volume mounted (spec.volumes)?"
    if access.refusal(folder, pod_folder):
        return f"What else {pod_folder} holds may not be read."
    siblings = sorted(entry.name for entry in folder.iterdir())
    return f"{pod_folder} holds {names(siblings) if siblings else 'nothing'}."
