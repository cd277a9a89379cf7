"""HF_HOME of a script: the ids of model and dataset lead to the commits of this run.

Libraries find offline what `main` of a cache points at. The cache of the claim belongs to all its jobs, and another one may
resolve `main` anew while this one trains. So each run has names of its own, for the same bytes.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finetune_trainer.shared.volume import make_folder, replace_link, write_text

HUB, DATASETS = "hub", "datasets"
"""Folders of HF_HOME: of `huggingface_hub`, and of the `datasets` library."""


@dataclass(frozen=True)
class Pin:
    """A repository of the Hub as a run uses it."""

    kind: Literal["model", "dataset"]
    name: str
    revision: str | None
    commit: str
    loaded: Path | None = None
    """The folder in which the `datasets` library has it; None where it has not."""


def make(home: Path, cache: Path, pins: Sequence[Pin]) -> Path:
    """Let the ids lead to their commits. Returns the folder for HF_HOME: the cache itself, where a volume has no links."""
    with suppress(OSError):
        for pin in pins:
            _link(home, cache, pin)
            _point(home, pin)
        return home
    for pin in pins:
        _point(cache, pin)
    return cache


def _link(home: Path, cache: Path, pin: Pin) -> None:
    """Give what is in the cache names in `home`."""
    repository = make_folder(home / HUB / _folder_name(pin))
    for name in ("blobs", "snapshots"):
        replace_link(repository / name, cache / HUB / _folder_name(pin) / name)
    if pin.loaded is not None:
        link = home / DATASETS / pin.loaded.relative_to(cache / DATASETS)
        make_folder(link.parent)
        replace_link(link, pin.loaded)


def _point(home: Path, pin: Pin) -> None:
    """Let `main`, and the revision that the job names, be the commit."""
    for name in {"main", pin.revision or "main"} - {pin.commit}:
        reference = home / HUB / _folder_name(pin) / "refs" / name
        make_folder(reference.parent)
        write_text(reference, pin.commit)


def _folder_name(pin: Pin) -> str:
    from huggingface_hub.file_download import repo_folder_name

    return os.fspath(repo_folder_name(repo_id=pin.name, repo_type=pin.kind))
