"""The time that a rank took to start, part by part: one line in its log when training begins."""

from __future__ import annotations

import time

import psutil


class StartupTimer:
    """A timer that begins with the process; every part begins where the one before ended."""

    def __init__(self) -> None:
        self._began = self._last = psutil.Process().create_time()
        self._parts: list[str] = []

    def done(self, part: str) -> None:
        """End a part."""
        now = time.time()
        self._parts.append(f"{part} {now - self._last:.2f} s")
        self._last = now

    @property
    def newest(self) -> str:
        """The part that ended last."""
        return self._parts[-1]

    def __str__(self) -> str:
        return f"started in {self._last - self._began:.2f} s: {', '.join(self._parts)}"
