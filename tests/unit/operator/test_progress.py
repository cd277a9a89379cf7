"""Reading progress from a pod's port: a real server on a loopback address plays the pod."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from finetune_operator import progress
from finetune_operator.cluster import Cluster
from finetune_operator.progress import ProgressReader, node_0
from finetune_operator.settings import ProgressAccess
from finetune_operator.store import JobState, Key
from finetune_trainer.config import PodPhase, Progress

ADDRESS = "127.8.8.8"
ANSWER = Progress(uid="u", attempt=1, phase=PodPhase.TRAINING, step=3)
Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


def pod(name: str, attempt: int = 1, index: int = 0, phase: str = "Running", role: str = "train") -> dict[str, Any]:
    labels = {"finetune.dev/job": "yelp", "finetune.dev/role": role, "finetune.dev/attempt": str(attempt)}
    annotations = {"batch.kubernetes.io/job-completion-index": str(index)}
    metadata = {"name": name, "namespace": "ns", "uid": name, "labels": labels, "annotations": annotations}
    return {"kind": "Pod", "metadata": metadata, "status": {"phase": phase, "podIP": ADDRESS}}


def state(*pods: dict[str, Any]) -> JobState:
    found = JobState(Key("ns", "yelp"))
    for one in pods:
        found.put(one)
    return found


@asynccontextmanager
async def answering(answer: Answering, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProgressReader]:
    app = web.Application()
    app.router.add_get("/progress", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, ADDRESS, 0).start()
    monkeypatch.setattr(progress, "PORT", runner.addresses[0][1])
    reader = ProgressReader(Cluster(), ProgressAccess.DIRECT)
    try:
        yield reader
    finally:
        await reader.close()
        await runner.cleanup()


async def test_what_node_0_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=ANSWER.to_json())

    async with answering(answer, monkeypatch) as reader:
        assert await reader.read(pod("p")) == ANSWER


@pytest.mark.parametrize("text", ["", "{}", "no JSON", '{"uid": "u", "surprise": 1}'])
async def test_an_answer_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text)

    async with answering(answer, monkeypatch) as reader:
        assert await reader.read(pod("p")) is None


async def test_a_pod_that_is_not_ready_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=503)

    async with answering(answer, monkeypatch) as reader:
        assert await reader.read(pod("p")) is None


async def test_a_pod_that_hangs_costs_two_seconds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(86400)
        return web.Response()

    async with answering(answer, monkeypatch) as reader:
        assert await reader.read(pod("p")) is None


async def test_a_pod_that_sends_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "ANSWER_LIMIT_BYTES", 2**18)
    sent = 0

    async def answer(request: web.Request) -> web.StreamResponse:
        nonlocal sent
        response = web.StreamResponse()
        await response.prepare(request)
        while sent < 2**26:
            await response.write(b"x" * 2**16)
            sent += 2**16
        return response

    async with answering(answer, monkeypatch) as reader:
        assert await reader.read(pod("p")) is None
    assert sent < 2**26


def test_node_0_of_the_newest_attempt() -> None:
    found = node_0(state(pod("a", attempt=1), pod("b", attempt=2), pod("c", attempt=2, index=1), pod("d", attempt=10)))
    assert found is not None
    assert found["metadata"]["name"] == "d"


def test_nobody_is_asked_while_the_newest_one_has_not_started() -> None:
    assert node_0(state(pod("a", attempt=1), pod("b", attempt=2, phase="Pending"))) is None
    assert node_0(state(pod("a", role="prepare"))) is None


def test_nobody_is_asked_who_is_gone() -> None:
    found = state(pod("a"))
    found.remove(pod("a"))
    assert node_0(found) is None
