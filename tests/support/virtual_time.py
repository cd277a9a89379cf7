"""A clock that moves only while no task can run: asyncio code that waits is tested without waiting, on any machine.

It is for code without input and output: a socket would never get the time to answer.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest.mock import patch


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@contextmanager
def virtual_time() -> Iterator[None]:
    """Give event loops that are made meanwhile, and `time.monotonic`, such a clock."""
    clock = _Clock()

    class Selector(selectors.DefaultSelector):
        """A selector that moves the clock to the loop's next timer, in place of sleeping."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            ready = super().select(0 if timeout is not None else None)
            if not ready and timeout is not None and timeout > 0:
                clock.now += timeout
            return ready

    with patch.object(time, "monotonic", clock), patch.object(selectors, "DefaultSelector", Selector):
        yield
