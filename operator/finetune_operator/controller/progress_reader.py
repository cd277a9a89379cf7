"""A reader of `/progress` of a job's node 0. Knows the ways to a pod's port, nothing of what the answer means.

The reader asks the pod itself and nobody else: the address that kubelet wrote, one port, no redirect. It reads no more of an
answer than an honest one has.
"""

from __future__ import annotations

import asyncio
import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime

import aiohttp
import structlog
from pydantic import ValidationError

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.controller.cache import JobEntry
from finetune_operator.kube.client import Cluster, read_bounded
from finetune_operator.kube.exceptions import ApiError
from finetune_operator.plan import untrusted
from finetune_operator.plan.desired.merge import TRAINER
from finetune_operator.plan.observed import bounds, owners
from finetune_operator.plan.observed.bounds import ANSWER_MAX_BYTES
from finetune_operator.plan.types import Manifest
from finetune_operator.settings import ProgressAccess
from finetune_trainer.contract.records import Progress
from finetune_trainer.contract.run_config import PORT
from finetune_trainer.contract.text import printable

DIRECT_TIMEOUT = aiohttp.ClientTimeout(total=1.5, connect=0.7)
READINGS = 32
"""Requests at the same time, of all jobs."""
log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class ProgressReading:
    """Result of asking a pod."""

    progress: Progress | None = None
    bad: bool = False
    """Whether the answer was slow or can't be read: such a pod is asked less often."""


def node_0(entry: JobEntry) -> Manifest | None:
    """Return the pod of node 0 of the newest attempt, if its container runs."""
    jobs = entry.jobs()
    pods = [
        (work.number, item)
        for uid, item in entry.objects.items()
        if item["kind"] == "Pod"
        and uid not in entry.gone
        and (work := owners.pod_work(item, jobs)) is not None
        and work.role == "train"
        and owners.index(item, work.role, 1) == 0
    ]
    if not pods:
        return None
    _, newest = max(pods, key=lambda pair: pair[0])
    return newest if _runs(newest) else None


def address_of(pod: Manifest, *, inside: bool) -> str | None:
    """Return the pod's own address, as kubelet wrote it; None where there is none that may be asked.

    `inside` the cluster a pod is on a node, and its address is never that of this machine.
    """
    status = untrusted.mapping(pod.get("status"))
    written = [entry.get("ip") for entry in untrusted.mappings(status.get("podIPs"))]
    if status.get("podIP") not in written or not _runs(pod):
        return None
    if inside and not untrusted.word(untrusted.mapping(pod.get("spec")).get("nodeName")):
        return None
    try:
        address = ipaddress.ip_address(untrusted.word(status["podIP"]))
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return None
    if address.is_multicast or address.is_unspecified or address.is_link_local:
        return None
    return None if inside and address.is_loopback else str(address)


class ProgressReader:
    """A reader of progress from pods, directly or through the API server."""

    def __init__(self, cluster: Cluster, access: ProgressAccess) -> None:
        self._cluster = cluster
        self._direct = access is not ProgressAccess.PROXY
        self._proxy = access is ProgressAccess.PROXY or (access is ProgressAccess.AUTO and not cluster.inside)
        self._session: aiohttp.ClientSession | None = None
        self._readings = asyncio.Semaphore(READINGS)

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(self, pod: Manifest, job: FineTuneJob) -> ProgressReading:
        """Return what the pod answers, as far as it can be trusted; nothing where it does not answer (it starts, ends, or is
        out of reach).
        """
        address = address_of(pod, inside=self._cluster.inside)
        if address is None:
            return ProgressReading()
        async with self._readings:
            answer, bad = await self._read_direct(address) if self._direct else (None, False)
            if answer is not None:
                self._proxy = False  # pods are in reach, so one that does not answer is not asked twice
            elif self._proxy:
                answer, bad = await self._read_proxy(pod["metadata"]["namespace"], pod["metadata"]["name"])
        if answer is None:
            return ProgressReading(bad=bad)
        try:
            return ProgressReading(bounds.progress(Progress.model_validate_json(answer), job, datetime.now(UTC)))
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            log.warning(
                "progress is not understood",
                pod=pod["metadata"]["name"],
                problem=printable(problem["msg"], 200),
                field=printable(".".join(map(str, problem["loc"])), 200),
            )
            return ProgressReading(bad=True)

    async def _read_direct(self, address: str) -> tuple[bytes | None, bool]:
        if self._session is None:
            # Answers are not decompressed: an endless answer is short when it is compressed.
            self._session = aiohttp.ClientSession(timeout=DIRECT_TIMEOUT, trust_env=False, auto_decompress=False)
        host = f"[{address}]" if ":" in address else address
        url, headers = f"http://{host}:{PORT}/progress", {"Accept-Encoding": "identity"}
        try:
            async with self._session.get(url, headers=headers, allow_redirects=False) as response:
                if response.status != 200:
                    return None, 300 <= response.status < 400
                answer = await read_bounded(response, ANSWER_MAX_BYTES)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.debug(
                "progress is out of reach", address=address, error=printable(str(error), 200) or type(error).__name__
            )
            return None, not isinstance(error, aiohttp.ClientConnectorError)
        if answer is None:
            log.warning("progress is too long: it is not read", address=address, most_bytes=ANSWER_MAX_BYTES)
        return answer, answer is None

    async def _read_proxy(self, namespace: str, pod: str) -> tuple[bytes | None, bool]:
        try:
            return await self._cluster.pod_proxy(namespace, pod, PORT, "progress", ANSWER_MAX_BYTES), False
        except ApiError as error:
            log.debug("progress is out of reach through the API server", pod=pod, error=printable(error.message, 200))
            return None, error.status == 0 or 300 <= error.status < 400


def _runs(pod: Manifest) -> bool:
    status = untrusted.mapping(pod.get("status"))
    trainer = next(
        (
            container
            for container in untrusted.mappings(status.get("containerStatuses"))
            if container.get("name") == TRAINER
        ),
        {},
    )
    return status.get("phase") == "Running" and untrusted.mapping(trainer.get("state")).get("running") is not None
