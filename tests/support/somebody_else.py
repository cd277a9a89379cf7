"""Work done by a user who is not root, whom no permission would hinder."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
USER = 10001
"""User id of the pods."""


def as_somebody_else(folder: Path, work: Callable[[], T], *, may_write: bool = True) -> T:
    """Run `work` in a forked process of the pods' user, who owns `folder` if he may write there; return its result.

    `folder` must lie below folders that everybody may enter, which pytest's own are not. Where the tests do not run as root, the
    present user does the work.
    """
    owner = USER if may_write else 0
    if os.getuid() == 0:
        folder.chmod(0o755)
        for parent, _, files in os.walk(folder):
            for path in (Path(parent), *(Path(parent) / name for name in files)):
                os.chown(path, owner, owner, follow_symlinks=False)
    else:
        folders = [Path(parent) for parent, _, _ in os.walk(folder)]
        for path in folders if not may_write else ():
            path.chmod(0o555)
        try:
            return work()
        finally:
            for path in folders:
                path.chmod(0o755)
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([])
            os.setgid(USER)
            os.setuid(USER)
            result = work()
            with os.fdopen(writing, "wb") as stream:
                pickle.dump(result, stream)
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as stream:
        content = stream.read()
    os.waitpid(child, 0)
    assert content, "the work raised"
    outcome: T = pickle.loads(content)  # noqa: S301 - of our own child
    return outcome
