"""Mapping of paths as the training pods see them to folders of this machine, and back.

In a pod the two are the same. Where pods are local processes, `FINETUNE_PATHS` maps mount points to folders; a path
under no mount is taken as it is. No other module may read that variable.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path, PurePosixPath

from finetune_trainer.contract.frozen_document import PodPath
from finetune_trainer.contract.run_config import Env


class Paths:
    """One mapping of mount points to folders; the longest prefix wins."""

    def __init__(self, mounts: Mapping[str, str]) -> None:
        longest_first = sorted(mounts.items(), key=lambda item: len(PurePosixPath(item[0]).parts), reverse=True)
        self._mounts = [(PurePosixPath(mount), Path(os.path.abspath(folder))) for mount, folder in longest_first]

    @classmethod
    def from_text(cls, text: str | None) -> Paths:
        """Parse the value of `FINETUNE_PATHS`; absent or empty maps nothing."""
        return cls(json.loads(text) if text else {})

    def to_local(self, path: PodPath) -> Path:
        """Return the folder or file of this machine behind a pod's path."""
        pure = PurePosixPath(os.path.normpath(path))
        for mount, folder in self._mounts:
            if pure.is_relative_to(mount):
                return folder / pure.relative_to(mount)
        return Path(pure)

    def to_pod(self, path: Path) -> PodPath:
        """Return the pod's path of a local one: what records, status and manifests hold."""
        local = Path(os.path.abspath(path))
        fitting = [(mount, folder) for mount, folder in self._mounts if local.is_relative_to(folder)]
        if not fitting:
            return str(local)
        mount, folder = max(fitting, key=lambda pair: len(pair[1].parts))
        return str(mount / local.relative_to(folder))


@cache
def _of_text(text: str | None) -> Paths:
    return Paths.from_text(text)


def current() -> Paths:
    """Return the mapping of this process."""
    return _of_text(os.environ.get(Env.PATHS))


def to_local(path: PodPath) -> Path:
    """Return the folder or file of this machine behind a pod's path."""
    return current().to_local(path)


def to_pod(path: Path) -> PodPath:
    """Return the pod's path of a local one."""
    return current().to_pod(path)
