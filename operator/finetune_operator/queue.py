"""Which job is worked on when: one worker a key, wake-ups merged, delays, backoff. Knows not what the work is."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

BACKOFF_FIRST_SECONDS = 2.0
BACKOFF_MOST_SECONDS = 60.0


def backoff_seconds(times: int) -> float:
    """Delay after something failed for the n-th time in a row: 2 s, 4 s, ... 60 s, less by chance to spread them."""
    longest: float = min(BACKOFF_FIRST_SECONDS * 2 ** min(times - 1, 10), BACKOFF_MOST_SECONDS)
    return longest * random.uniform(0.9, 1.0)


@dataclass(frozen=True)
class QueueObserver(Generic[K]):
    """Who wants to measure."""

    latency: Callable[[float], None] = lambda seconds: None
    """Seconds from a wake-up (or from when a delay was over) to the begin of the work."""
    failed: Callable[[K, Exception], None] = lambda key, error: None
    """The work raised; it is tried again."""


class WorkQueue(Generic[K]):
    """Calls `work(key)` for each key that was woken, at most once at a time per key and `concurrency` times in all.

    A key woken while it is worked on is worked on once more afterwards. `work` returns the seconds after which to work
    on the key again if nothing wakes it before, or None. Where it raises, it is called again after 2 s, 4 s, ... 60 s.
    """

    def __init__(
        self, work: Callable[[K], Awaitable[float | None]], concurrency: int, observer: QueueObserver[K] | None = None
    ) -> None:
        self._work = work
        self._observer = observer or QueueObserver()
        self._concurrency = concurrency
        self._ready: asyncio.Queue[K] = asyncio.Queue()
        self._woken: dict[K, float] = {}
        """Keys that wait for a worker, by the time of their first wake-up."""
        self._working: set[K] = set()
        self._idle = asyncio.Event()
        self._idle.set()
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._workers: list[asyncio.Task[None]] = []
        self._paused = False
        self._stopping = False

    def __len__(self) -> int:
        """Keys that wait for a worker."""
        return len(self._woken)

    @property
    def alive(self) -> bool:
        """Whether work that is woken now will be done, if only after a pause."""
        return self._paused or (bool(self._workers) and not any(worker.done() for worker in self._workers))

    def start(self) -> None:
        self._workers = [asyncio.create_task(self._run(), name=f"worker-{i}") for i in range(self._concurrency)]

    def pause(self) -> None:
        """Begin no more work, and break off what is begun: it is done after `resume`, with all that is woken meanwhile."""
        self._paused = True
        for worker in self._workers:
            worker.cancel()

    async def resume(self) -> None:
        """Go on after `pause`."""
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._paused = False
        if not self._stopping:
            self.start()

    async def stop(self, grace_seconds: float) -> None:
        """Begin no more work; let what is begun end, for a while."""
        self._stopping = True
        for timer in self._timers.values():
            timer.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), grace_seconds)
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)

    def wake(self, key: K) -> None:
        """Work on the key as soon as there is a worker."""
        if self._stopping or key in self._woken:
            return
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._woken[key] = asyncio.get_running_loop().time()
        if key not in self._working:
            self._ready.put_nowait(key)

    def wake_after(self, key: K, seconds: float) -> None:
        """Work on the key then, unless it is woken before. Replaces an earlier delay."""
        if self._stopping or key in self._woken:
            return
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self.wake, key)

    async def _run(self) -> None:
        while True:
            key = await self._ready.get()
            await self._step(key)

    async def _step(self, key: K) -> None:
        woken = self._woken.pop(key)
        if self._stopping:
            return
        self._observer.latency(asyncio.get_running_loop().time() - woken)
        self._working.add(key)
        self._idle.clear()
        try:
            delay = await self._work(key)
        except asyncio.CancelledError:
            self._woken.setdefault(key, asyncio.get_running_loop().time())
            self._ready.put_nowait(key)
            raise
        except Exception as error:  # noqa: BLE001 - the outermost loop: whatever happened to one job, the others go on
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            delay = backoff_seconds(failures)
            self._observer.failed(key, error)
        else:
            self._failures.pop(key, None)
        finally:
            self._working.discard(key)
            if not self._working:
                self._idle.set()
        if key in self._woken:
            self._ready.put_nowait(key)
        elif delay is not None:
            self.wake_after(key, delay)
