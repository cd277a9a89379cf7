"""An API server in memory with the interface of the operator's client: one FineTuneJob and the simulated cluster behind it."""

from __future__ import annotations

import asyncio
import copy
from datetime import UTC, datetime
from typing import Any

from finetune_operator.api.resource import API_VERSION, KIND, FineTuneJob
from finetune_operator.controller.progress_reader import ProgressReading
from finetune_operator.kube.exceptions import NotFound
from finetune_operator.plan.types import Manifest, PodEvent
from tests.support.patience import PATIENCE_SECONDS
from tests.support.simulated_cluster import NAMESPACE, UID, SimulatedCluster, claim, stamp


class SimulatedApi:
    """An API server that answers the requests of one operator. Each object has its `resourceVersion`, as in a watch."""

    def __init__(self, spec: Manifest, claims: tuple[str, ...] = ()) -> None:
        self.cluster = SimulatedCluster(now=datetime.now(UTC))
        self.claims = claims
        self.requests: list[str] = []
        """Requests, in order."""
        self.version = 1
        self._written = asyncio.Event()
        metadata = {
            "name": self.cluster.name,
            "namespace": NAMESPACE,
            "uid": UID,
            "generation": 1,
            "creationTimestamp": stamp(self.cluster.now),
        }
        self.job: Manifest = self._stored(
            {"apiVersion": API_VERSION, "kind": KIND, "metadata": metadata, "spec": spec, "status": {}}
        )

    def pods(self) -> list[Manifest]:
        return [self._stored(item) for item in self.cluster.objects.values() if item["kind"] == "Pod"]

    async def until_phase(self, phase: str) -> None:
        """Wait until the job's status shows a phase."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while self.job["status"].get("phase") != phase:
                self._written.clear()
                await self._written.wait()

    # --- what the operator's client asks ---------------------------------------------------------------------------

    async def get(self, kind: str, namespace: str, name: str) -> Manifest:
        self.requests.append(f"get {kind}")
        if kind == "PersistentVolumeClaim" and name in self.claims:
            return self._stored(claim(name))
        raise NotFound(404, "NotFound", name)

    async def create(self, namespace: str, manifest: Manifest) -> Manifest:
        self.requests.append(f"create {manifest['kind']}")
        return manifest

    async def create_once(self, namespace: str, manifest: Manifest) -> Manifest:
        self.requests.append(f"create {manifest['kind']}")
        return self._stored(
            self.cluster.create({**manifest, "metadata": {"namespace": namespace, **manifest["metadata"]}})
        )

    async def replace_status(self, body: Manifest, status: Manifest) -> Manifest:
        self.requests.append(f"replace status {status['phase']}")
        self.job = self._stored({**body, "status": status})
        self._written.set()
        return self.job

    async def warnings(self, namespace: str, uid: str) -> tuple[PodEvent, ...]:
        return ()

    # --- what the operator's reader of progress asks of node 0 ------------------------------------------------------

    async def read(self, pod: Manifest, job: FineTuneJob) -> ProgressReading:
        self.requests.append("read progress")
        return ProgressReading(self.cluster.progress)

    def _stored(self, item: Manifest) -> Manifest:
        self.version += 1
        stored: dict[str, Any] = copy.deepcopy(item)
        stored["metadata"]["resourceVersion"] = str(self.version)
        return stored
