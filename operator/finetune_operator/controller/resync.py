"""A loop that reads all objects before the first decision, and later finds the changes that the watch has missed.

At the start each kind is listed once, so that no job has to ask for its own objects. Later the names and versions that the
watch showed are compared, now and then, with a list of metadata: an object that was deleted during a gap shows nowhere, and a
dead connection shows nothing at all. Namespaces are independent: one that is missing or forbidden is reported, and read
once that is possible.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import structlog

from finetune_operator.api.resource import KIND, LABEL_JOB
from finetune_operator.controller.cache import JobCache, Key, is_later
from finetune_operator.kube.client import Cluster
from finetune_operator.kube.exceptions import ApiError, NotFound, Refused
from finetune_operator.plan.conditions import TERMINAL
from finetune_operator.plan.types import Manifest

WATCHED_SELECTORS = {KIND: None, "Job": LABEL_JOB, "Pod": LABEL_JOB}
"""Label selectors by kind, in the order of reading: a pod counts when its Job is known, a Job when its FineTuneJob is."""
UNWATCHED = ("ConfigMap", "Service", "PersistentVolumeClaim")
JOBS_ROUNDS = 4
"""Comparisons of FineTuneJobs for each one of pods and Jobs: nothing else shows a new FineTuneJob."""
WATCH_LAG_SECONDS = 1.0
"""Time in which the watch may still show a change; after a relist it shows its objects one by one."""
RETRY_SECONDS = 5.0
WHOLE_CLUSTER = "*"
log = structlog.get_logger(__name__)

Scope = str | None
"""A namespace; None is the whole cluster."""
Versions = Mapping[str, str]
"""resourceVersions by uid."""


class Resync:
    """A loop for each namespace, beside the watch."""

    def __init__(
        self,
        cluster: Cluster,
        cache: JobCache,
        wake: Callable[[Key], None],
        namespaces: tuple[str, ...],
        interval_seconds: float,
        served: Callable[[str, bool], None] = lambda namespace, served: None,
    ) -> None:
        """`served` is called with each namespace (`*`: the whole cluster) and whether it can be read."""
        self._cluster = cluster
        self._cache = cache
        self._wake = wake
        self._interval_seconds = interval_seconds
        self._served = served
        self._scopes: dict[Scope, asyncio.Event] = {scope: asyncio.Event() for scope in namespaces or (None,)}
        """Events by namespace, each set when there is a reason to look soon."""
        self._complete: set[Scope] = set()
        self._unserved: dict[Scope, str] = {}
        """Namespaces that can't be read, with the reason that was logged."""
        self._passed_over: dict[tuple[Scope, str], Versions] = {}
        """Objects that were read and do not belong in the cache: they are not missing."""

    def is_complete(self, namespace: str) -> bool:
        """Return whether the cache holds all objects of this namespace: without them nothing can be decided."""
        return not self._complete.isdisjoint((namespace, None))

    def look_soon(self, namespace: str | None = None) -> None:
        """Look soon, because the watch has begun again, in one namespace or in all."""
        for scope, event in self._scopes.items():
            if namespace is None or scope in (namespace, None):
                event.set()

    async def run(self) -> None:
        await asyncio.gather(*(self._run(scope) for scope in self._scopes))

    async def _run(self, scope: Scope) -> None:
        number = 0
        while True:
            if not await self._round(scope, everything=number % JOBS_ROUNDS == 0):
                number = 0
                await asyncio.sleep(RETRY_SECONDS)
                continue
            number += 1
            try:
                async with asyncio.timeout(self._interval_seconds / JOBS_ROUNDS):
                    await self._scopes[scope].wait()
                await asyncio.sleep(WATCH_LAG_SECONDS)
                number = 0
            except TimeoutError:
                pass  # it is time for the regular comparison
            self._scopes[scope].clear()

    async def _round(self, scope: Scope, *, everything: bool) -> bool:
        """Look at a namespace once; return False where it can't be read."""
        try:
            await self._require_namespace(scope)
            if scope not in self._complete:
                await self.read_all(scope)
            else:
                for kind in WATCHED_SELECTORS if everything else (KIND,):
                    await self.compare(scope, kind)
        except NotFound:
            self._report(scope, "it does not exist")
        except Refused as error:
            if error.status == 403:
                self._report(scope, f"it does not exist, or the operator has no rights in it ({error.message})")
            else:  # 410: the list took too long
                log.warning("resync failed, it is tried again", scope=scope or "all", error=str(error))
        except ApiError as error:
            log.warning("resync failed, it is tried again", scope=scope or "all", error=str(error))
        else:
            self._report(scope, None)
            return True
        return False

    async def _require_namespace(self, scope: Scope) -> None:
        """Raise NotFound where there is no such namespace: a list of its objects would only be empty."""
        if scope is None:
            return
        try:
            await self._cluster.get("Namespace", "", scope)
        except Refused:
            log.debug("the namespace itself can't be read", scope=scope)

    def _report(self, scope: Scope, problem: str | None) -> None:
        name = WHOLE_CLUSTER if scope is None else scope
        self._served(name, problem is None)
        if problem is None:
            if self._unserved.pop(scope, None) is not None:
                log.info("the namespace is served", scope=name)
            return
        self._complete.discard(scope)
        if self._unserved.get(scope) != problem:
            log.warning(
                "a namespace can't be served, the others are: create it, bind the operator's role in it, or take it out "
                "of watchNamespaces; it is tried again",
                scope=name,
                problem=problem,
                every_seconds=RETRY_SECONDS,
            )
            self._unserved[scope] = problem

    # --- reading -------------------------------------------------------------------------------------------------

    async def read_all(self, scope: Scope) -> None:
        """Read all objects, with one list of each kind however many jobs there are, then wake the jobs."""
        for kind in WATCHED_SELECTORS:
            await self._read(scope, kind)
        for kind in UNWATCHED:
            async for items in self._cluster.pages(kind, scope, LABEL_JOB):
                for item in items:
                    self._put_unwatched(item)
        self._complete.add(scope)
        for entry in self._cache:
            if self.is_complete(entry.key.namespace):
                self._wake(entry.key)

    async def compare(self, scope: Scope, kind: str) -> None:
        """Find the changes of one kind that the watch has missed, and wake their jobs."""
        known = self._known(scope, kind)
        listed = await self._cluster.versions(kind, scope, WATCHED_SELECTORS[kind])
        if self._count_missed(scope, kind, listed):
            await asyncio.sleep(WATCH_LAG_SECONDS)
            if missed := self._count_missed(scope, kind, listed):
                log.warning("the watch did not show what has changed", kind=kind, objects=missed)
                await self._read(scope, kind)
                return
        self._drop(kind, known, listed)

    async def _read(self, scope: Scope, kind: str) -> None:
        known = self._known(scope, kind)
        listed: dict[str, str] = {}
        async for items in self._cluster.pages(kind, scope, WATCHED_SELECTORS[kind]):
            for item in items:
                listed[item["metadata"]["uid"]] = item["metadata"]["resourceVersion"]
                if (key := self._cache.observe(item, deleted=False)) is not None:
                    self._wake(key)
        self._drop(kind, known, listed)
        now_known = self._known(scope, kind)
        self._passed_over[scope, kind] = {uid: version for uid, version in listed.items() if uid not in now_known}

    def _count_missed(self, scope: Scope, kind: str, listed: Versions) -> int:
        """Count the listed objects that the cache does not know as they are now."""
        known, passed_over = self._known(scope, kind), self._passed_over.get((scope, kind), {})
        gone = {uid for entry in self._cache for uid in entry.gone}
        return sum(
            is_later(version, known[uid]["metadata"]["resourceVersion"])
            if uid in known
            else uid not in gone and passed_over.get(uid) != version
            for uid, version in listed.items()
        )

    def _drop(self, kind: str, known: Mapping[str, Manifest], listed: Versions) -> None:
        """Remove objects from the cache that were known before the list began and are not listed."""
        for uid, item in known.items():
            if uid not in listed and (key := self._cache.observe(item, deleted=True)) is not None:
                log.warning("deleted while the watch did not look", kind=kind, name=item["metadata"]["name"])
                self._wake(key)

    def _known(self, scope: Scope, kind: str) -> dict[str, Manifest]:
        entries = [entry for entry in self._cache if scope in (None, entry.key.namespace)]
        if kind == KIND:
            return {entry.body["metadata"]["uid"]: entry.body for entry in entries if entry.body is not None}
        return {
            uid: item
            for entry in entries
            for uid, item in entry.objects.items()
            if item["kind"] == kind and uid not in entry.gone and LABEL_JOB in item["metadata"].get("labels", {})
        }

    def _put_unwatched(self, item: Manifest) -> None:
        """Keep an unwatched object of a job that may still need it. Objects of other jobs are not kept: nothing would show
        their deletion.
        """
        metadata = item["metadata"]
        entry = self._cache.get(Key(metadata["namespace"], metadata["labels"][LABEL_JOB]))
        body = entry.body if entry is not None else None
        if entry is not None and body is not None and (body.get("status") or {}).get("phase") not in TERMINAL:
            entry.put(item)
