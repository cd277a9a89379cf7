"""The volumes of one job as folders of this machine, with its good files, for the rows of `data`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.bad_input.row import BadInput, SaidBy
from tests.support.tiny import reviews, write_rows

NOTICE = "Notice"
"""Reason of the event about a job that goes on."""
GOOD_CSV = "review,stars\nthe soup was good,1\nthe bread was cold,0\n"


@dataclass
class Place:
    """Folders that a pod sees as /data, /models and /output."""

    data: Path
    models: Path
    claim: Path
    base: Path
    """A good model."""
    as_pods_user: bool = False
    """Whether only the pods' user meets the mistake (root may read everything)."""

    @property
    def paths(self) -> dict[str, str]:
        return {"/data": str(self.data), "/models": str(self.models), "/output": str(self.claim)}

    def local(self, pod_path: str) -> Path:
        """Return the file behind a pod's path."""
        _, volume, rest = pod_path.split("/", 2)
        return Path(self.paths[f"/{volume}"]) / rest

    def write(self, pod_path: str, content: str | bytes) -> Path:
        path = self.local(pod_path)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def make_good(self) -> None:
        """Write the files of the good job."""
        shutil.rmtree(self.data, ignore_errors=True)
        shutil.rmtree(self.models, ignore_errors=True)
        self.models.mkdir()
        (self.models / "base").symlink_to(self.base)
        write_rows(self.local("/data/train.csv"), reviews(16))
        write_rows(self.local("/data/validation.jsonl"), reviews(6, seed=1))

    def show_to_pods_user(self) -> None:
        """Hand the claim, with the files of earlier rows, to the pods' user: root would not meet the mistake."""
        self.as_pods_user = True
        for folder, _, _ in os.walk(self.claim):
            os.chmod(folder, 0o777)

    def own_model(self) -> Path:
        """Copy the model, to be spoilt."""
        return Path(shutil.copytree(self.base, self.models / "mine"))


Make = Callable[[Place], object]


@dataclass(frozen=True)
class Mistake:
    """A row, and the function that makes its files."""

    row: BadInput
    make: Make


def mistake(name: str, what: str, reason: str, message: str, make: Make, **spec: Any) -> Mistake:
    """Return a mistake; `__` in a keyword is a dot of the path in the spec."""
    patch = {path.replace("__", "."): value for path, value in spec.items()}
    return Mistake(BadInput(name, what, SaidBy.PREPARE, message, reason, spec=patch, setup=name), make)


def in_train(
    name: str, what: str, reason: str, message: str, content: str | bytes, kind: str = "csv", **spec: Any
) -> Mistake:
    """Return a mistake in the training file, of which this is the content."""
    path = f"/data/train.{kind}"
    files = {} if kind == "csv" else {"dataset__files__train": [path]}
    return mistake(name, what, reason, message, lambda place: place.write(path, content), **files, **spec)


def in_validation(name: str, what: str, reason: str, message: str, content: str) -> Mistake:
    """Return a mistake in the validation file, of json lines."""
    return mistake(name, what, reason, message, lambda place: place.write("/data/validation.jsonl", content))


def in_model(
    name: str, what: str, message: str, spoil: Callable[[Path], object], reason: str = "ModelNotFound"
) -> Mistake:
    """Return a mistake in the model's folder."""
    return mistake(name, what, reason, message, lambda place: spoil(place.own_model()), model__name="/models/mine")


def rows_of(mistakes: Sequence[Mistake]) -> tuple[BadInput, ...]:
    return tuple(mistake.row for mistake in mistakes)


def makers_of(mistakes: Sequence[Mistake]) -> dict[str, Make]:
    return {mistake.row.setup: mistake.make for mistake in mistakes}
