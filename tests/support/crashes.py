"""SIGKILL before every single file operation of a piece of work, in forked processes."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune_trainer.shared.volume import Layout
from tests.support.checkpoints import layout

OPERATIONS = ("open", "mkdir", "rename", "fsync", "unlink", "rmdir", "write")


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


def every_moment(folder: Path, set_up: Callable[[Layout], None], work: Callable[[Layout], object]) -> list[Layout]:
    """Yield the volume after a SIGKILL before the first, second, ... file operation of `work`."""
    volumes = []
    for operation in range(1, 500):
        place = layout(folder / str(operation))
        set_up(place)
        volumes.append(place)
        if not killed_at(operation, lambda place=place: work(place)):  # type: ignore[misc]
            return volumes
        assert os.listdir(place.output), "nothing there"
    raise AssertionError("the work never ended")
