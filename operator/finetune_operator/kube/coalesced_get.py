"""A `get` that many jobs share: all calls of one second for an object share a request. Knows nothing of the objects."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any

from finetune_operator.plan.types import Manifest

Name = tuple[str, str, str]
"""Kind, namespace, name."""
AGE_SECONDS = 1.0


class Recent:
    """A shared `get` of objects. An object that was missing or could not be read is requested again for the next caller."""

    def __init__(self, get: Callable[[str, str, str], Coroutine[Any, Any, Manifest]]) -> None:
        self._get = get
        self._requests: dict[Name, tuple[float, asyncio.Task[Manifest]]] = {}
        """Requests of the last second, oldest first."""

    async def get(self, kind: str, namespace: str, name: str) -> Manifest:
        """Return the object as it was at most a second ago; raise what `get` raises."""
        key, now = (kind, namespace, name), time.monotonic()
        for old in [old for old, (requested_at, _) in self._requests.items() if now - requested_at >= AGE_SECONDS]:
            del self._requests[old]
        task = self._requests[key][1] if key in self._requests else None
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            self._requests.pop(key, None)
            task = asyncio.create_task(self._get(*key), name=f"look up {kind} {namespace}/{name}")
            self._requests[key] = now, task
        return await asyncio.shield(task)  # a caller that stops waiting does not stop the request for the others
