"""Writes to a volume that may be full or away for a while: which errors are the volume's, and how long they are waited for."""

from __future__ import annotations

import errno
import os
import re
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from finetune_trainer.contract.records import Cause
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.rank_failures import DISK_FULL
from finetune_trainer.shared.volume import DISK_FULL as FULL
from finetune_trainer.shared.volume import explain, passes

T = TypeVar("T")
OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""The number of the system's error in a message of safetensors, which is written in Rust."""
TRIED_BYTES = 1 << 20
PATIENCE_SECONDS = 600.0
"""Time for the final model, which holds everything that was learnt since the last checkpoint."""
PAUSE_SECONDS = 5.0


@dataclass
class Save:
    """State of this rank's part in the newest checkpoint."""

    trouble: OSError | None = None
    size_bytes: int | None = None
    """Estimated size of the checkpoint, where the volume is full."""

    def begin(self) -> None:
        """Begin another checkpoint."""
        self.trouble = self.size_bytes = None

    def refused(self) -> bool:
        """Return whether the volume refused a part of the checkpoint."""
        return self.trouble is not None

    def is_full(self) -> bool:
        """Return whether the volume had no room."""
        return self.trouble is not None and self.trouble.errno in FULL

    @property
    def problem(self) -> str | None:
        """Problem as `launch` gets it; None where all is well."""
        if self.trouble is None:
            return None
        word = "volume_full" if self.is_full() else "volume"
        return f"{word}: {self.trouble}"


def volume_trouble(error: BaseException, folder: Path) -> OSError | None:
    """Return the volume's error, where an error of writing below `folder` is the volume's and may pass; else None."""
    if passes(error):
        assert isinstance(error, OSError)
        return error
    match = OS_ERROR.search(str(error))
    if match is not None:
        known = OSError(int(match[1]), os.strerror(int(match[1])), str(folder))
        return known if passes(known) else None
    if DISK_FULL.search(str(error)) is None:
        return None
    # torch says only that it could not write.
    return _try_to_write(folder) or OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def _try_to_write(folder: Path) -> OSError | None:
    """Write a file of some size; return the error of the volume."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(bytes(TRIED_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error if passes(error) else None
    return None


def until_written(write: Callable[[], T], folder: Path, tell: Callable[[str], Any]) -> T:
    """Return what `write` returns; try again while the volume is full or away. Raise ExpectedError where that lasts too long."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            return write()
        except Exception as error:
            trouble = volume_trouble(error, folder)
            if trouble is None:
                raise
            if time.monotonic() >= until:
                failure = explain(trouble, folder, worked=True)
                raise ExpectedError(failure.reason, failure.message, cause=Cause.VOLUME) from error
        tell(f"What was trained can't be written to the volume now ({trouble}): trying again.")
        time.sleep(PAUSE_SECONDS)
