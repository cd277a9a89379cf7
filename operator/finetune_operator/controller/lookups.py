"""Look-ups of what a decision needs beyond the watch: references, nodes, events, progress. Decides nothing."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

import structlog

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.controller.cache import JobCache, JobEntry, Key, is_watched
from finetune_operator.controller.progress_reader import ProgressReader, node_0
from finetune_operator.controller.trimming import trimmed
from finetune_operator.kube.client import Cluster
from finetune_operator.kube.coalesced_get import Recent
from finetune_operator.kube.exceptions import NotFound, Refused
from finetune_operator.plan.desired.manifests import is_controlled_by
from finetune_operator.plan.types import Decision, Manifest, Ref

LEAST_AGE_SECONDS = 1.0
"""Time before which nothing is looked up again."""
PROGRESS_WAIT_SECONDS = 0.25
"""Time that a reconcile waits for a pod's answer; a later answer wakes the job again."""
PROGRESS_PAUSE_MAX_SECONDS = 60.0
log = structlog.get_logger(__name__)


class Lookups:
    """Look-ups that fetch into a job's entry what its last decision wants."""

    def __init__(
        self, cluster: Cluster, cache: JobCache, progress: ProgressReader, wake: Callable[[Key], None]
    ) -> None:
        self._cluster = cluster
        self._recent = Recent(cluster.get)
        self._cache = cache
        self._progress = progress
        self._wake = wake
        self._reading: dict[Key, asyncio.Task[None]] = {}
        self._nodes_readable = True
        """Whether nodes may be read; False once RBAC has refused them."""

    async def refresh(self, entry: JobEntry, job: FineTuneJob) -> None:
        """Fetch before a decision what the last one wanted, and look again at objects of others at our names."""
        wanted = entry.decision or Decision()
        for ref in [ref for ref in entry.references if ref.kind == "Node" and ref not in wanted.wants_references]:
            del entry.references[ref]  # an earlier look-up says nothing about the node now
        entry.events = {}  # for the next decision alone: later ones ask for events again
        await asyncio.gather(
            self.references(entry, tuple(ref for ref in wanted.wants_references if ref in entry.references)),
            *(self._events(entry, uid) for uid in wanted.wants_events),
            *(
                self._look_again(entry, item)
                for item in _unwatched_foreign(entry, job)
                if _due(entry, item["metadata"]["uid"])
            ),
            *([self._read_progress(entry, job)] if wanted.wants_progress else []),
        )

    async def references(self, entry: JobEntry, refs: tuple[Ref, ...]) -> None:
        await asyncio.gather(
            *(self._reference(entry, ref) for ref in refs if ref not in entry.references or _due(entry, ref))
        )

    def nodes(self, entry: JobEntry) -> dict[str, Manifest] | None:
        """Return the nodes that were looked up, by name; one that no longer exists is an object without status."""
        if not self._nodes_readable:
            return None
        nodes = {ref.name: node for ref, node in entry.references.items() if ref.kind == "Node"}
        return {name: node or {"kind": "Node", "metadata": {"name": name}} for name, node in nodes.items()}

    def missing(self, entry: JobEntry, refs: tuple[Ref, ...]) -> tuple[Ref, ...]:
        """Return the references that were never looked up."""
        return tuple(ref for ref in refs if ref not in entry.references)

    async def _reference(self, entry: JobEntry, ref: Ref) -> None:
        entry.looked_up[ref] = time.monotonic()
        if ref.kind == "Node" and not self._nodes_readable:
            entry.references[ref] = None
            return
        item: Manifest | None
        try:
            # Many jobs share claims and ConfigMaps. The state of a node is evidence, and must be the present one.
            get = self._cluster.get if ref.kind == "Node" else self._recent.get
            item = trimmed(await get(ref.kind, entry.key.namespace, ref.name))
        except NotFound:
            item = None  # known as well: the plan says what is missing
        except Refused as error:
            item = self._unreadable(ref, error)
        entry.references[ref] = item

    def _unreadable(self, ref: Ref, error: Refused) -> Manifest | None:
        """Return a stand-in for an object that RBAC hides. The object is taken to exist: where it does not, its users will not start."""
        match ref.kind:
            case "Node":
                log.warning("nodes can't be read: lost nodes show later, and only by their pods", error=error.message)
                self._nodes_readable = False
                return None
            case "StorageClass":
                return {"kind": ref.kind, "metadata": {"name": ref.name}}
        raise error

    async def _events(self, entry: JobEntry, uid: str) -> None:
        entry.events[uid] = await self._cluster.warnings(entry.key.namespace, uid)

    async def _look_again(self, entry: JobEntry, item: Manifest) -> None:
        """Look again at somebody else's object that prevents one of ours: no watch shows when it is gone."""
        metadata = item["metadata"]
        entry.looked_up[metadata["uid"]] = time.monotonic()
        try:
            present = await self._cluster.get(item["kind"], entry.key.namespace, metadata["name"])
        except NotFound:
            entry.remove(item)
            return
        if present["metadata"]["uid"] != metadata["uid"]:
            entry.remove(item)
        entry.put(present)

    async def _read_progress(self, entry: JobEntry, job: FineTuneJob) -> None:
        """Read the progress of a job without holding its worker up: an answer that takes long wakes the job when it comes."""
        pod = node_0(entry)
        if pod is None:
            return
        task = self._reading.get(entry.key)
        if task is None and _due(entry, "progress", _pause_seconds(entry.bad_readings)):
            entry.looked_up["progress"] = time.monotonic()
            task = asyncio.create_task(self._progress_task(entry, pod, job), name=f"progress of {entry.key}")
            self._reading[entry.key] = task
        if task is not None:
            await asyncio.wait({task}, timeout=PROGRESS_WAIT_SECONDS)

    async def _progress_task(self, entry: JobEntry, pod: Manifest, job: FineTuneJob) -> None:
        begun = time.monotonic()
        try:
            reading = await self._progress.read(pod, job)
        finally:
            del self._reading[entry.key]
        entry.bad_readings = entry.bad_readings + 1 if reading.bad else 0
        progress = reading.progress
        if progress is not None and progress != entry.progress:
            entry.progress = progress
            if time.monotonic() - begun > PROGRESS_WAIT_SECONDS:
                self._wake(entry.key)


def _due(entry: JobEntry, subject: object, age_seconds: float = LEAST_AGE_SECONDS) -> bool:
    return time.monotonic() - entry.looked_up.get(subject, float("-inf")) >= age_seconds


def _pause_seconds(bad_readings: int) -> float:
    """Return the pause before the next request to a pod that is slow or answers nonsense: 1, 2, 4, ... 60 s."""
    return min(LEAST_AGE_SECONDS * 2.0 ** min(bad_readings, 10), PROGRESS_PAUSE_MAX_SECONDS)


def _unwatched_foreign(entry: JobEntry, job: FineTuneJob) -> list[Manifest]:
    """List the objects at planned names that are not the job's and whose end no watch shows."""
    return [item for item in entry.objects.values() if not (is_watched(item) or is_controlled_by(item, job))]
