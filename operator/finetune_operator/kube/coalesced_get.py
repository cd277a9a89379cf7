"""Look-ups that many jobs make at the same time: all of one second share a request. Knows nothing of what is looked up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from finetune_operator.plan.types import Manifest

Name = tuple[str, str, str]
"""Kind, namespace, name."""
AGE_SECONDS = 1.0


class Recent:
    """A shared `get` of objects. An object that was missing or could not be read is requested again for the next caller."""

    def __init__(self, get: Callable[[str, str, str], Awaitable[Manifest]]) -> None:
        self._get = get
        self._asked: dict[Name, tuple[float, asyncio.Task[Manifest]]] = {}
        """Requests of the last second, oldest first."""

    async def get(self, kind: str, namespace: str, name: str) -> Manifest:
        """Return the object as it was at most a second ago; raise what `get` raises."""
        key, now = (kind, namespace, name), time.monotonic()
        self._forget(now)
        task = self._asked[key][1] if key in self._asked else None
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            self._asked.pop(key, None)
            task = asyncio.create_task(self._ask(key), name=f"look up {kind} {namespace}/{name}")
            self._asked[key] = now, task
        return await asyncio.shield(task)  # a caller that stops waiting does not stop the request for the others

    async def _ask(self, key: Name) -> Manifest:
        return await self._get(*key)

    def _forget(self, now: float) -> None:
        for key in [key for key, (asked, _) in self._asked.items() if now - asked >= AGE_SECONDS]:
            del self._asked[key]
