"""The benchmarks' own client of the API server: plain JSON over HTTPS, and the time at which each pod was first seen.

It is not the operator's client: a baseline must not get faster or slower with the operator.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import aiohttp
import yaml

Manifest = dict[str, Any]
JOBS = "apis/batch/v1/namespaces/{}/jobs"
PODS = "api/v1/namespaces/{}/pods"
SERVICES = "api/v1/namespaces/{}/services"
CONFIG_MAPS = "api/v1/namespaces/{}/configmaps"
FINETUNE_JOBS = "apis/finetune.dev/v1alpha1/namespaces/{}/finetunejobs"
PATCH = {"Content-Type": "application/merge-patch+json"}
JOB_NAME = "batch.kubernetes.io/job-name"


class Api:
    """An API server, with the credentials of a kubeconfig (token or client certificate)."""

    def __init__(self, session: aiohttp.ClientSession, server: str) -> None:
        self._session, self._server = session, server

    @classmethod
    @asynccontextmanager
    async def connect(cls, kubeconfig: Path) -> AsyncIterator[Api]:
        """Use the kubeconfig's first cluster and user."""
        cluster, user = _read(kubeconfig)
        context = ssl.create_default_context(cafile=_file(cluster, "certificate-authority"))
        if certificate := _file(user, "client-certificate"):
            context.load_cert_chain(certificate, _file(user, "client-key"))
        headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        connector = aiohttp.TCPConnector(ssl=context, keepalive_timeout=300)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)
        async with aiohttp.ClientSession(connector=connector, headers=headers, timeout=timeout) as session:
            yield cls(session, cluster["server"])

    async def request(
        self, method: str, path: str, body: Manifest | None = None, headers: dict[str, str] | None = None
    ) -> Manifest:
        """Send one request and return its answer; raise RuntimeError where that is an error."""
        async with self._session.request(method, f"{self._server}/{path}", json=body, headers=headers) as response:
            answer: Manifest = await response.json()
        if response.status >= 300:
            raise RuntimeError(f"{method} {path}: {response.status} {answer.get('message')}")
        return answer

    async def text(self, path: str) -> str:
        """Return the body of a GET that is not JSON; it is empty where there is nothing yet."""
        async with self._session.get(f"{self._server}/{path}") as response:
            return await response.text() if response.status == 200 else ""

    async def create(self, path: str, manifest: Manifest) -> Manifest:
        """Create an object with a POST."""
        return await self.request("POST", path, manifest)

    async def delete(self, path: str) -> None:
        """Delete an object; the objects that it owns follow."""
        await self.request("DELETE", path, {"propagationPolicy": "Background"})

    async def watch(self, path: str) -> AsyncIterator[tuple[str, Manifest]]:
        """Yield (type, object) of everything that exists, and then of every change."""
        async with self._session.get(f"{self._server}/{path}", params={"watch": "1"}) as response:
            buffer = b""
            async for chunk in response.content.iter_any():
                *lines, buffer = (buffer + chunk).split(b"\n")
                for line in lines:
                    event = json.loads(line)
                    yield event["type"], event["object"]


class Pods:
    """The pods of a namespace as a watch shows them. All times are `time.monotonic()`."""

    def __init__(self) -> None:
        self.present: dict[str, Manifest] = {}
        self.first_seen: dict[str, float] = {}
        self.bound: dict[str, float] = {}
        self.ran: dict[str, list[float]] = defaultdict(list)
        """Job -> when each of its pods was first seen to run."""
        self._running: set[str] = set()
        self.failed: dict[str, float] = {}
        self._changed = asyncio.Condition()

    @classmethod
    @asynccontextmanager
    async def follow(cls, api: Api, namespace: str) -> AsyncIterator[Pods]:
        """Watch until the block ends."""
        pods = cls()
        task = asyncio.create_task(pods._follow(api, PODS.format(namespace)))
        try:
            yield pods
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _follow(self, api: Api, path: str) -> None:
        async for kind, pod in api.watch(path):
            now, uid = time.monotonic(), pod["metadata"]["uid"]
            if kind == "DELETED":
                self.present.pop(uid, None)
            else:
                self.present[uid] = pod
                self.first_seen.setdefault(uid, now)
                if pod["spec"].get("nodeName"):
                    self.bound.setdefault(uid, now)
                phase = pod["status"].get("phase")
                if phase == "Running" and uid not in self._running:
                    self._running.add(uid)
                    self.ran[pod["metadata"]["labels"].get(JOB_NAME)].append(now)
                elif phase == "Failed":
                    self.failed.setdefault(uid, now)
            async with self._changed:
                self._changed.notify_all()

    def of(self, job: str) -> list[Manifest]:
        """Return the pods of a Job, by index."""
        pods = [pod for pod in self.present.values() if pod["metadata"]["labels"].get(JOB_NAME) == job]
        return sorted(pods, key=lambda pod: pod["metadata"]["name"])

    async def scheduled(self, job: str) -> float:
        """Return when the last of the Job's pods, all of which were created, was seen to have a node."""
        uids = [pod["metadata"]["uid"] for pod in self.of(job)]
        await self.until(lambda: all(uid in self.bound for uid in uids))
        return max(self.bound[uid] for uid in uids)

    async def until(self, condition: Callable[[], object], seconds: float = 30) -> None:
        """Wait until the condition holds; raise TimeoutError where that takes longer."""
        async with asyncio.timeout(seconds), self._changed:
            await self._changed.wait_for(lambda: bool(condition()))

    async def created(self, job: str, count: int = 2) -> float:
        """Return when the last of the Job's pods was first seen."""
        await self.until(lambda: len(self.of(job)) >= count)
        return max(self.first_seen[pod["metadata"]["uid"]] for pod in self.of(job))


def _read(kubeconfig: Path) -> tuple[Manifest, Manifest]:
    config = yaml.safe_load(kubeconfig.read_text())
    return config["clusters"][0]["cluster"], config["users"][0]["user"]


def _file(section: Manifest, key: str) -> str | None:
    """Return the path of a credential, which a kubeconfig holds as a path or as base64."""
    if data := section.get(f"{key}-data"):
        with NamedTemporaryFile(delete=False) as file:
            file.write(base64.b64decode(data))
        return file.name
    path = section.get(key)
    return str(path) if path else None
