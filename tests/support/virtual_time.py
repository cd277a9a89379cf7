"""Time that passes only while nobody has anything to do: asyncio code that waits is tested at once, on any machine.

For code without input and output: a socket would never be given the time to answer.
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
        """Where the loop would sleep until its next timer, the clock moves on to it."""

        def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
            ready = super().select(0 if timeout is not None else None)
            if not ready and timeout is not None and timeout > 0:
                clock.now += timeout
            return ready

    with patch.object(time, "monotonic", clock), patch.object(selectors, "DefaultSelector", Selector):
        yield
