"""Reading progress from a pod's port: a real server on a loopback address plays the pod."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web

from finetune_operator.controller import progress_reader
from finetune_operator.controller.cache import JobEntry, Key
from finetune_operator.controller.progress_reader import ProgressReader, ProgressReading, address_of, node_0
from finetune_operator.kube.client import Cluster
from finetune_operator.settings import ProgressAccess
from finetune_trainer.contract.records import PodPhase, Progress
from tests.support.simulated import World

ADDRESS = "127.8.8.8"
ANSWER = Progress(uid="u", attempt=1, phase=PodPhase.TRAINING, step=3)
JOB = World().job()
Answering = Callable[[web.Request], Awaitable[web.StreamResponse]]


def job_of(attempt: int = 1, role: str = "train") -> dict[str, Any]:
    owner = {"kind": "FineTuneJob", "name": "yelp", "uid": "u", "controller": True}
    name = f"yelp-{role}-{attempt}"
    return {"kind": "Job", "metadata": {"name": name, "namespace": "ns", "uid": name, "ownerReferences": [owner]}}


def pod(name: str, attempt: int = 1, index: int = 0, phase: str = "Running", role: str = "train") -> dict[str, Any]:
    annotations = {"batch.kubernetes.io/job-completion-index": str(index)}
    owner = {"kind": "Job", "name": f"yelp-{role}-{attempt}", "uid": f"yelp-{role}-{attempt}", "controller": True}
    metadata = {"name": name, "namespace": "ns", "uid": name, "annotations": annotations, "ownerReferences": [owner]}
    containers = [{"name": "trainer", "state": {"running": {}}}]
    status = {"phase": phase, "podIP": ADDRESS, "podIPs": [{"ip": ADDRESS}], "containerStatuses": containers}
    return {"kind": "Pod", "metadata": metadata, "spec": {"nodeName": "n"}, "status": status}


def state(*pods: dict[str, Any]) -> JobEntry:
    entry = JobEntry(Key("ns", "yelp"), body={"metadata": {"name": "yelp", "uid": "u"}})
    for role, attempt in (("train", 1), ("train", 2), ("train", 10), ("prepare", 1)):
        entry.put(job_of(attempt, role))
    for pod in pods:
        entry.put(pod)
    return entry


@asynccontextmanager
async def answering(answer: Answering, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[ProgressReader]:
    app = web.Application()
    app.router.add_get("/progress", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, ADDRESS, 0).start()
    monkeypatch.setattr(progress_reader, "PORT", runner.addresses[0][1])
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
        assert await reader.read(pod("p"), JOB) == ProgressReading(ANSWER)


@pytest.mark.parametrize("text", ["", "{}", "no JSON", '{"uid": "u", "surprise": 1}'])
async def test_an_answer_that_is_none(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(text=text)

    async with answering(answer, monkeypatch) as reader:
        assert await reader.read(pod("p"), JOB) == ProgressReading(bad=True)


async def test_a_pod_that_is_not_ready_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(status=503)

    async with answering(answer, monkeypatch) as reader:
        assert await reader.read(pod("p"), JOB) == ProgressReading()


async def test_a_pod_that_hangs_costs_two_seconds_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: web.Request) -> web.Response:
        await asyncio.sleep(86400)
        return web.Response()

    async with answering(answer, monkeypatch) as reader:
        assert await reader.read(pod("p"), JOB) == ProgressReading(bad=True)


async def test_a_pod_that_sends_without_end_does_not_fill_the_memory(monkeypatch: pytest.MonkeyPatch) -> None:
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
        assert await reader.read(pod("p"), JOB) == ProgressReading(bad=True)
    assert sent < 2**26


def test_node_0_of_the_newest_attempt() -> None:
    asked_pod = node_0(
        state(pod("a", attempt=1), pod("b", attempt=2), pod("c", attempt=2, index=1), pod("d", attempt=10))
    )
    assert asked_pod is not None
    assert asked_pod["metadata"]["name"] == "d"


def test_nobody_is_asked_while_the_newest_one_has_not_started() -> None:
    assert node_0(state(pod("a", attempt=1), pod("b", attempt=2, phase="Pending"))) is None
    assert node_0(state(pod("a", role="prepare"))) is None


def test_nobody_is_asked_who_is_gone() -> None:
    entry = state(pod("a"))
    entry.remove(pod("a"))
    assert node_0(entry) is None


def test_a_label_makes_nobody_node_0() -> None:
    forged = pod("forged", attempt=2)
    forged["metadata"]["labels"] = {
        "finetune.dev/job": "yelp",
        "finetune.dev/role": "train",
        "finetune.dev/attempt": "2",
    }
    for owners in ([], [{"kind": "Job", "name": "yelp-train-2", "uid": "another", "controller": True}], "nonsense"):
        forged["metadata"]["ownerReferences"] = owners
        asked_pod = node_0(state(pod("honest"), forged))
        assert asked_pod is not None
        assert asked_pod["metadata"]["name"] == "honest"


async def test_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    async def answer(request: web.Request) -> web.Response:
        asked.append(request.path_qs)
        raise web.HTTPFound(f"http://{request.host}/progress?elsewhere")

    async with answering(answer, monkeypatch) as reader:
        assert await reader.read(pod("p"), JOB) == ProgressReading(bad=True)
    assert asked == ["/progress"]


async def test_a_packed_answer_is_not_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def answer(_: web.Request) -> web.Response:
        packed = gzip.compress(b" " * 2**25 + ANSWER.to_json().encode())
        return web.Response(body=packed, headers={"Content-Encoding": "gzip"})

    async with answering(answer, monkeypatch) as reader:
        assert await reader.read(pod("p"), JOB) == ProgressReading(bad=True)


@pytest.mark.parametrize(
    ("address", "outside", "inside"),
    [
        ("10.1.2.3", True, True),
        ("fd00::7", True, True),
        ("127.0.0.1", True, False),
        ("::1", True, False),
        ("169.254.169.254", False, False),
        ("fe80::1", False, False),
        ("224.0.0.1", False, False),
        ("0.0.0.0", False, False),
        ("::ffff:169.254.169.254", False, False),
        ("kubernetes.default.svc", False, False),
        ("10.1.2.3:6443/x?", False, False),
        ("", False, False),
        (7, False, False),
    ],
)
def test_only_the_address_of_a_pod_is_asked(address: Any, outside: bool, inside: bool) -> None:
    asked_pod = pod("p")
    asked_pod["status"] |= {"podIP": address, "podIPs": [{"ip": address}]}
    assert (address_of(asked_pod, inside=False) is not None, address_of(asked_pod, inside=True) is not None) == (
        outside,
        inside,
    )


def test_an_address_counts_while_the_container_runs_that_kubelet_wrote_of() -> None:
    changes: tuple[dict[str, Any], ...] = (
        {"podIPs": []},
        {"podIPs": "10.0.0.1"},
        {"phase": "Pending"},
        {"containerStatuses": []},
    )
    for change in changes:
        asked_pod = pod("p")
        asked_pod["status"] |= change
        assert address_of(asked_pod, inside=False) is None
    nowhere = pod("p")
    nowhere["spec"] = {}
    assert address_of(nowhere, inside=True) is None


async def test_readings_of_one_tenant_do_not_take_all_the_room(monkeypatch: pytest.MonkeyPatch) -> None:
    at_once = most = 0

    async def answer(_: web.Request) -> web.Response:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.01)
        at_once -= 1
        return web.Response(text=ANSWER.to_json())

    async with answering(answer, monkeypatch) as reader:
        await asyncio.gather(*(reader.read(pod("p"), JOB) for _ in range(100)))
    assert most <= progress_reader.READINGS
