"""A work queue: each key once at a time, wake-ups merged, delays, backoff, groups in turn. Knows nothing of the work itself."""

from __future__ import annotations

import asyncio
import contextvars
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

BACKOFF_FIRST_SECONDS = 2.0
BACKOFF_MOST_SECONDS = 60.0


def backoff_seconds(times: int) -> float:
    """Return the delay after the n-th failure in a row: 2 s, 4 s, ... 60 s, a little less by chance so that delays differ."""
    longest: float = min(BACKOFF_FIRST_SECONDS * 2 ** min(times - 1, 10), BACKOFF_MOST_SECONDS)
    return longest * random.uniform(0.9, 1.0)


@dataclass(frozen=True)
class QueueObserver(Generic[K]):
    """Callbacks for metrics and for the end of work."""

    latency: Callable[[float], None] = lambda seconds: None
    """Called with the seconds from a wake-up (or from the end of a delay) to the start of the work."""
    failed: Callable[[K, Exception], None] = lambda key, error: None
    """Called when the work raised; it is tried again."""
    broken_off: Callable[[], None] = lambda: None
    """Called when work is broken off: tasks that it has started must end too."""


class WorkQueue(Generic[K]):
    """A queue that calls `work(key)` for each key that was woken, at most once at a time per key and `concurrency` times in all.

    A key that is woken while it is worked on is worked on once more afterwards. `work` returns the seconds after which to
    work on the key again if nothing wakes it before, or None. Where it raises, it is called again after 2 s, 4 s, ... 60 s.
    Keys of one `group` are worked on at most `share` times at once, which is half of `concurrency`, and groups take turns:
    one with many keys, or with slow work, does not hold the others up.
    """

    def __init__(
        self,
        work: Callable[[K], Awaitable[float | None]],
        concurrency: int,
        observer: QueueObserver[K] | None = None,
        group: Callable[[K], Hashable] = lambda key: key,
    ) -> None:
        self.share = max(1, concurrency // 2)
        self._work = work
        self._observer = observer or QueueObserver()
        self._concurrency = concurrency
        self._group = group
        self._ready: dict[Hashable, deque[K]] = {}
        """Keys that may be worked on, oldest first, by group; the group whose turn is next comes first."""
        self._woken: dict[K, float] = {}
        """Keys that wait for work, with the time of their first wake-up."""
        self._working: dict[K, asyncio.Task[float | None]] = {}
        self._busy: Counter[Hashable] = Counter()
        """Number of keys of a group that are worked on."""
        self._timers: dict[K, asyncio.TimerHandle] = {}
        self._failures: dict[K, int] = {}
        self._begun = False
        self._paused = False
        self._stopping = False

    def __len__(self) -> int:
        """Count the keys that wait for work."""
        return len(self._woken)

    @property
    def alive(self) -> bool:
        """Whether work that is woken now will be done, if only after a pause."""
        return self._begun and not self._stopping

    def gives_way(self, key: K) -> bool:
        """Return whether work on this key that has two parts leaves its place to others after the first part.

        This is so where more keys of its group wait than may be worked on at once: when a hundred jobs are applied together,
        each gets its pods before the status of any is written (benchmark `crowd`).
        """
        return len(self._ready.get(self._group(key), ())) >= self.share

    def start(self) -> None:
        self._begun = True
        self._fill()

    def pause(self) -> None:
        """Begin no more work, and break off what has begun: it is done after `resume`, with everything that is woken meanwhile."""
        self._paused = True
        for task in self._working.values():
            task.cancel()
        self._observer.broken_off()

    async def resume(self) -> None:
        """Go on after `pause`."""
        await asyncio.gather(*self._working.values(), return_exceptions=True)
        self._paused = False
        self._fill()

    async def stop(self, grace_seconds: float) -> None:
        """Begin no more work, and give what has begun some time to end."""
        self._stopping = True
        for timer in self._timers.values():
            timer.cancel()
        tasks = list(self._working.values())
        if tasks:
            await asyncio.wait(tasks, timeout=grace_seconds)
        for task in tasks:
            task.cancel()
        self._observer.broken_off()
        await asyncio.gather(*tasks, return_exceptions=True)

    def wake(self, key: K) -> None:
        """Work on the key as soon as there is room."""
        if self._stopping or key in self._woken:
            return
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._woken[key] = asyncio.get_running_loop().time()
        if key not in self._working:
            self._enqueue(key)

    def wake_after(self, key: K, seconds: float) -> None:
        """Work on the key after a delay, unless it is woken before. This replaces an earlier delay."""
        if self._stopping or key in self._woken:
            return
        if timer := self._timers.pop(key, None):
            timer.cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self.wake, key)

    def _enqueue(self, key: K) -> None:
        self._ready.setdefault(self._group(key), deque()).append(key)
        self._fill()

    def _fill(self) -> None:
        """Begin as much work as there is room for."""
        while self._begun and not (self._paused or self._stopping) and len(self._working) < self._concurrency:
            group = next((group for group in self._ready if self._busy[group] < self.share), None)
            if group is None:
                return
            waiting = self._ready.pop(group)
            key = waiting.popleft()
            if waiting:
                self._ready[group] = waiting  # behind the other groups
            self._begin(key, group)

    def _begin(self, key: K, group: Hashable) -> None:
        self._busy[group] += 1
        # The code that woke the key, or made room for it, must not pass on the context of its log.
        task = asyncio.create_task(self._step(key), name=f"work on {key}", context=contextvars.Context())
        self._working[key] = task
        task.add_done_callback(lambda task: self._ended(key, group, task))

    async def _step(self, key: K) -> float | None:
        self._observer.latency(asyncio.get_running_loop().time() - self._woken.pop(key))
        return await self._work(key)

    def _ended(self, key: K, group: Hashable, task: asyncio.Task[float | None]) -> None:
        del self._working[key]
        self._busy[group] -= 1
        if not self._busy[group]:
            del self._busy[group]
        error = None if task.cancelled() else task.exception()
        if task.cancelled():  # paused, or ending
            self._woken.setdefault(key, asyncio.get_running_loop().time())
        elif error is not None:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            self.wake_after(key, backoff_seconds(failures))
        else:
            self._failures.pop(key, None)
            if (delay := task.result()) is not None:
                self.wake_after(key, delay)
        if key in self._woken:
            self._enqueue(key)
        else:
            self._fill()
        if isinstance(error, Exception):  # whatever happened to one key, the others go on
            self._observer.failed(key, error)
