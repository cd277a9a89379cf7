"""The work queue: single flight, merged wake-ups, delays, backoff."""

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Iterator

import pytest

from finetune_operator.controller.workqueue import QueueObserver, WorkQueue, backoff_seconds
from tests.support.virtual_time import virtual_time

Work = Callable[[str], Awaitable[float | None]]


@pytest.fixture(autouse=True)
def nobody_waits_for_real() -> Iterator[None]:
    with virtual_time():
        yield


async def until(condition: Callable[[], bool], seconds: float = 2.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for is the queue's own doing
            await asyncio.sleep(0.002)


def group(key: str) -> str:
    """Return the first letter of a key."""
    return key[0]


async def started(work: Work, concurrency: int = 4, observer: QueueObserver[str] | None = None) -> WorkQueue[str]:
    queue = WorkQueue(work, concurrency, observer)
    queue.start()
    return queue


async def test_a_key_is_never_worked_on_twice_at_a_time() -> None:
    working: list[str] = []
    most = 0

    async def work(key: str) -> None:
        nonlocal most
        working.append(key)
        most = max(most, working.count(key))
        await asyncio.sleep(0.01)
        working.remove(key)

    queue = await started(work)
    for _ in range(20):
        queue.wake("a")
        await asyncio.sleep(0.002)
    await until(lambda: not working and not len(queue))
    await queue.stop(1)
    assert most == 1


async def test_wake_ups_before_the_work_begins_are_merged() -> None:
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    queue = WorkQueue(work, 1)
    for _ in range(5):
        queue.wake("a")
    queue.wake("b")
    queue.start()
    await until(lambda: "b" in done)
    await queue.stop(1)
    assert done == ["a", "b"]


async def test_a_wake_up_during_the_work_is_not_lost() -> None:
    done: list[str] = []
    gate = asyncio.Event()

    async def work(key: str) -> None:
        done.append(key)
        await gate.wait()

    queue = await started(work)
    queue.wake("a")
    await until(lambda: len(done) == 1)
    queue.wake("a")
    queue.wake("a")
    gate.set()
    await until(lambda: len(done) == 2)
    await asyncio.sleep(0.02)
    await queue.stop(1)
    assert done == ["a", "a"]


async def test_at_most_so_many_keys_at_a_time() -> None:
    working: set[str] = set()
    most = 0

    async def work(key: str) -> None:
        nonlocal most
        working.add(key)
        most = max(most, len(working))
        await asyncio.sleep(0.005)
        working.discard(key)

    queue = await started(work, concurrency=3)
    for i in range(12):
        queue.wake(str(i))
    await until(lambda: not working and not len(queue))
    await queue.stop(1)
    assert most == 3


async def test_the_delay_that_work_returns() -> None:
    times: list[float] = []

    async def work(_: str) -> float | None:
        times.append(asyncio.get_running_loop().time())
        return 0.05 if len(times) == 1 else None

    queue = await started(work)
    queue.wake("a")
    await until(lambda: len(times) == 2)
    await asyncio.sleep(0.1)
    await queue.stop(1)
    assert len(times) == 2
    assert times[1] - times[0] == pytest.approx(0.05, abs=0.001)


async def test_a_wake_up_comes_before_the_delay_and_replaces_it() -> None:
    count = 0

    async def work(_: str) -> float | None:
        nonlocal count
        count += 1
        return 0.05 if count == 1 else None

    queue = await started(work)
    queue.wake("a")
    await until(lambda: count == 1)
    queue.wake("a")
    await until(lambda: count == 2, seconds=0.04)
    await asyncio.sleep(0.1)
    await queue.stop(1)
    assert count == 2


async def test_work_that_raises_is_tried_again_and_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune_operator.controller.workqueue.backoff_seconds", lambda times: 0.01 * times)
    failures: list[tuple[str, str]] = []
    calls: list[str] = []

    async def work(key: str) -> None:
        calls.append(key)
        if key == "bad" and calls.count("bad") < 3:
            raise ValueError("boom")

    observer = QueueObserver[str](failed=lambda key, error: failures.append((key, str(error))))
    queue = await started(work, concurrency=1, observer=observer)
    queue.wake("bad")
    queue.wake("good")
    await until(lambda: calls.count("bad") == 3)
    assert queue.alive
    await queue.stop(1)
    assert failures == [("bad", "boom")] * 2
    assert calls.index("good") == 1


def test_backoff_grows_to_a_minute() -> None:
    assert [round(backoff_seconds(times) * 1.06) for times in (1, 2, 3)] == [2, 4, 8]
    assert 54 <= backoff_seconds(30) <= 60


async def test_latency_is_from_the_first_wake_up() -> None:
    latencies: list[float] = []

    async def work(_: str) -> None:
        return None

    queue = WorkQueue(work, 1, QueueObserver[str](latency=latencies.append))
    queue.wake("a")
    await asyncio.sleep(0.05)
    queue.wake("a")
    queue.start()
    await until(lambda: bool(latencies))
    await queue.stop(1)
    assert latencies[0] == pytest.approx(0.05, abs=0.001)


async def test_stop_lets_begun_work_end_and_begins_no_more() -> None:
    done: list[str] = []

    async def work(key: str) -> None:
        await asyncio.sleep(0.05)
        done.append(key)

    queue = await started(work, concurrency=1)
    queue.wake("begun")
    queue.wake("waiting")
    await asyncio.sleep(0.01)
    await queue.stop(1)
    queue.wake("late")
    assert done == ["begun"]
    assert not queue.alive


async def test_a_pause_breaks_work_off_and_begins_no_more_until_it_is_over() -> None:
    begun: list[str] = []
    done: list[str] = []
    gate = asyncio.Event()

    async def work(key: str) -> None:
        begun.append(key)
        await gate.wait()
        done.append(key)

    ends: list[str] = []
    queue = await started(work, concurrency=1, observer=QueueObserver[str](broken_off=lambda: ends.append("end")))
    queue.wake("begun")
    await until(lambda: begun == ["begun"])
    queue.wake("waiting")
    queue.pause()
    assert ends == ["end"], "what was begun beside the work ends too"
    queue.wake("meanwhile")
    gate.set()
    await asyncio.sleep(0.02)
    assert done == []
    assert len(queue) == 3
    assert queue.alive, "it is not for want of workers that nothing is done"

    await queue.resume()
    await until(lambda: len(done) == 3)
    assert sorted(done) == ["begun", "meanwhile", "waiting"]
    assert begun.count("begun") == 2
    await queue.stop(1)


async def test_key_woken_in_work_is_done_once_after_pause() -> None:
    """A key that was woken again while it was worked on is worked on once more, after a pause."""
    begun = 0
    gate = asyncio.Event()

    async def work(_: str) -> None:
        nonlocal begun
        begun += 1
        await gate.wait()

    queue = await started(work)
    queue.wake("a")
    await until(lambda: begun == 1)
    queue.wake("a")
    queue.pause()
    gate.set()
    await queue.resume()
    await until(lambda: not len(queue))
    await asyncio.sleep(0.02)
    assert begun == 2
    await queue.stop(1)


async def test_a_group_has_half_of_the_room_and_the_rest_is_free_for_others() -> None:
    held: set[str] = set()
    gate = asyncio.Event()
    done: list[str] = []

    async def work(key: str) -> None:
        if key[0] == "s":  # a slow tenant
            held.add(key)
            await gate.wait()
        done.append(key)

    queue = WorkQueue(work, 6, group=group)
    for i in range(1000):
        queue.wake(f"slow-{i}")
    for i in range(20):
        queue.wake(f"quick-{i}")
    queue.start()
    await until(lambda: len(done) == 20)
    assert all(key.startswith("quick") for key in done)
    assert held == {"slow-0", "slow-1", "slow-2"}
    assert queue.gives_way("slow-999")
    assert not queue.gives_way("quick-0")
    gate.set()
    await until(lambda: len(done) == 1020)
    await queue.stop(1)


async def test_groups_take_turns_however_many_keys_one_has() -> None:
    done: list[str] = []

    async def work(key: str) -> None:
        done.append(key)

    queue = WorkQueue(work, 1, group=group)
    for key in ("a1", "a2", "a3", "a4", "b1", "b2", "c1"):
        queue.wake(key)
    queue.start()
    await until(lambda: len(done) == 7)
    await queue.stop(1)
    assert done == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


async def test_work_begun_by_a_wake_up_from_other_work_does_not_inherit_its_log() -> None:
    job = contextvars.ContextVar[str]("job", default="none")
    seen: list[str] = []

    async def work(key: str) -> None:
        seen.append(job.get())
        if key == "a":
            job.set("a")
            queue.wake("b")

    queue = await started(work)
    queue.wake("a")
    await until(lambda: len(seen) == 2)
    await queue.stop(1)
    assert seen == ["none", "none"]
