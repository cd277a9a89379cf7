"""SIGKILL before every single file operation of a piece of work, in forked processes; or a death that is played."""

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

from finetune_trainer.shared.volume import Layout
from tests.support.checkpoints import layout

OPERATIONS = ("open", "mkdir", "rename", "fsync", "unlink", "rmdir", "write", "copy_file_range")


def killed_at(operation: int, work: Callable[[], object]) -> bool:
    """Run `work` in a forked process that SIGKILLs itself before its n-th file operation; return whether it got so far."""
    child = os.fork()
    if child == 0:
        counted = 0

        def counting(real: Callable[..., Any]) -> Callable[..., Any]:
            def call(*args: Any, **kwargs: Any) -> Any:
                nonlocal counted
                counted += 1
                if counted == operation:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args, **kwargs)

            return call

        for name in OPERATIONS:
            setattr(os, name, counting(getattr(os, name)))
        try:
            work()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


class _Dead(BaseException):
    """The end of a process that is played."""


def dead_at(operation: int, work: Callable[[], object]) -> bool:
    """Run `work` in this process, whose n-th file operation and all later ones end it; return whether it got so far.

    It takes a tenth of the time of `killed_at`, for work that runs in one thread and catches no BaseException.
    """
    counted = 0

    def counting(real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal counted
            counted += 1
            if counted >= operation:
                raise _Dead
            return real(*args, **kwargs)

        return call

    with ExitStack() as stack:
        for name in OPERATIONS:
            stack.enter_context(patch.object(os, name, counting(getattr(os, name))))
        try:
            work()
        except _Dead:
            return True
    return False


def every_moment(
    folder: Path,
    set_up: Callable[[Layout], None],
    work: Callable[[Layout], object],
    killed: Callable[[int, Callable[[], object]], bool] = killed_at,
) -> list[Layout]:
    """Yield the volume after a SIGKILL before the first, second, ... file operation of `work`."""
    volumes = []
    for operation in range(1, 500):
        place = layout(folder / str(operation))
        set_up(place)
        volumes.append(place)
        if not killed(operation, lambda place=place: work(place)):  # type: ignore[misc]
            return volumes
        assert os.listdir(place.output), "nothing there"
    raise AssertionError("the work never ended")
