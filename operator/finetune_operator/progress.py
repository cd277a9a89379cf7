"""Reads `/progress` of a job's node 0. Knows the ways to a pod's port, nothing of what the answer means."""

from __future__ import annotations

import aiohttp
import structlog
from pydantic import ValidationError

from finetune_operator.api.resource import LABEL_ATTEMPT, LABEL_ROLE
from finetune_operator.cluster import Cluster
from finetune_operator.exceptions import ApiError
from finetune_operator.plan.types import Manifest
from finetune_operator.settings import ProgressAccess
from finetune_operator.store import JobState
from finetune_trainer.config import Progress

PORT = 8080
ANSWER_LIMIT_BYTES = 8 * 2**20
"""Result records of a thousand nodes of 4 KiB each fit."""
DIRECT_TIMEOUT = aiohttp.ClientTimeout(total=1.5, connect=0.7)
log = structlog.get_logger(__name__)


def node_0(state: JobState) -> Manifest | None:
    """The running pod of node 0 of the newest attempt."""
    pods = [item for uid, item in state.objects.items() if uid not in state.gone and _is_node_0(item)]
    if not pods:
        return None
    newest = max(pods, key=_attempt)
    status = newest.get("status") or {}
    return newest if status.get("phase") == "Running" and status.get("podIP") else None


class ProgressReader:
    """Reads from pods, straight or through the API server."""

    def __init__(self, cluster: Cluster, access: ProgressAccess) -> None:
        self._cluster = cluster
        self._direct = access is not ProgressAccess.PROXY
        self._proxy = access is ProgressAccess.PROXY or (access is ProgressAccess.AUTO and not cluster.inside)
        self._session: aiohttp.ClientSession | None = None

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()

    async def read(self, pod: Manifest) -> Progress | None:
        """What the pod answers; None where it does not (it is starting, ending, or out of reach)."""
        answer = await self._read_direct(pod["status"]["podIP"]) if self._direct else None
        if answer is not None:
            self._proxy = False  # pods are in reach: one that does not answer is not asked twice
        elif self._proxy:
            answer = await self._read_proxy(pod["metadata"]["namespace"], pod["metadata"]["name"])
        if answer is None:
            return None
        try:
            return Progress.model_validate_json(answer)
        except ValidationError as error:
            problem = error.errors(include_url=False, include_input=False)[0]
            log.warning(
                "progress is not understood", pod=pod["metadata"]["name"], problem=problem["msg"], field=problem["loc"]
            )
            return None

    async def _read_direct(self, address: str) -> bytes | None:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=DIRECT_TIMEOUT, trust_env=False)
        host = f"[{address}]" if ":" in address else address
        try:
            async with self._session.get(f"http://{host}:{PORT}/progress") as response:
                return await _limited(response) if response.status == 200 else None
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            log.debug("progress is out of reach", address=address, error=str(error) or type(error).__name__)
            return None

    async def _read_proxy(self, namespace: str, pod: str) -> bytes | None:
        try:
            return await self._cluster.pod_proxy(namespace, pod, PORT, "progress")
        except ApiError as error:
            log.debug("progress is out of reach through the API server", pod=pod, error=error.message)
            return None


async def _limited(response: aiohttp.ClientResponse) -> bytes | None:
    """The body; None where it is larger than any real answer, since the operator's memory is everybody's."""
    data = bytearray()
    async for chunk in response.content.iter_chunked(2**16):
        data += chunk
        if len(data) > ANSWER_LIMIT_BYTES:
            return None
    return bytes(data)


def _is_node_0(item: Manifest) -> bool:
    metadata = item["metadata"]
    if item["kind"] != "Pod" or metadata.get("labels", {}).get(LABEL_ROLE) != "train":
        return False
    index = metadata.get("annotations", {}).get("batch.kubernetes.io/job-completion-index")
    return index in (None, "0")


def _attempt(pod: Manifest) -> int:
    number = str(pod["metadata"]["labels"].get(LABEL_ATTEMPT, "0"))
    return int(number) if number.isdigit() else 0
