"""A kubelet for control planes without nodes: it patches the statuses of pods.

It also serves the one address that the operator reads besides the API server: `/progress` of node 0.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from benchmarks.api import PATCH, PODS, Api, Pods
from benchmarks.cluster import NAMESPACE
from finetune_trainer.contract.records import PodPhase
from finetune_trainer.contract.records import Progress as Answer

PORT = 8080


class Progress:
    """A server of `/progress` for node 0 of the job that was named last."""

    def __init__(self, address: str) -> None:
        self.address = address
        self._answer: Answer | None = None

    @classmethod
    @asynccontextmanager
    async def serve(cls) -> AsyncIterator[Progress]:
        """Listen on this machine's own address, at the port of a training pod."""
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect(("192.0.2.1", 9))  # sends nothing; chooses the address that the machine sends from
            progress = cls(probe.getsockname()[0])
        app = web.Application()
        app.router.add_get("/progress", progress._show)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        try:
            await web.TCPSite(runner, progress.address, PORT).start()
            yield progress
        finally:
            await runner.cleanup()

    def training(self, uid: str, attempt: int) -> None:
        """Answer from now on that this job's attempt has begun and trains."""
        now = datetime.now(UTC)
        self._answer = Answer(
            uid=uid, attempt=attempt, begun=now, phase=PodPhase.TRAINING, step=1, total_steps=100, loss=0.7, updated=now
        )

    async def _show(self, _: web.Request) -> web.Response:
        if self._answer is None:
            return web.Response(status=503)
        return web.Response(text=self._answer.to_json(), content_type="application/json")


async def run_pods(api: Api, pods: Pods, job: str, address: str) -> None:
    """Set all pods of a Job to running."""
    now = timestamp()
    state = {"running": {"startedAt": now}}
    status = {
        **_status(state, ready=True),
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "startTime": now,
    }
    await asyncio.gather(*(_patch(api, pod, status) for pod in pods.of(job)))


async def fail_pod(api: Api, pods: Pods, job: str, index: int) -> str:
    """End one pod of a Job with an error; return its uid."""
    pod = pods.of(job)[index]
    now = timestamp()
    state = {"terminated": {"exitCode": 1, "reason": "Error", "startedAt": now, "finishedAt": now}}
    await _patch(api, pod, {**_status(state, ready=False), "phase": "Failed"})
    uid: str = pod["metadata"]["uid"]
    return uid


def timestamp() -> str:
    """Return the present time as the API server writes it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _status(state: dict[str, Any], *, ready: bool) -> dict[str, Any]:
    container = {
        "name": "trainer",
        "image": "docker.io/finetune/trainer:dev",
        "imageID": "sha256:" + "0" * 64,
        "restartCount": 0,
        "ready": ready,
        "state": state,
    }
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": timestamp()}
    return {"conditions": [condition], "containerStatuses": [container]}


async def _patch(api: Api, pod: dict[str, Any], status: dict[str, Any]) -> None:
    path = f"{PODS.format(NAMESPACE)}/{pod['metadata']['name']}/status"
    await api.request("PATCH", path, {"status": status}, PATCH)
