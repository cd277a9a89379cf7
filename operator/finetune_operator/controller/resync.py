"""Reads what there is before the first decision, and finds later what the watch has missed.

At the start everything is listed once, so that no job has to ask for its own. From then on the names and versions that
the watch showed are compared, now and then, with a list of metadata: after a gap an object that was deleted meanwhile
shows nowhere, and a connection that went deaf shows nothing at all. Namespaces stand each for itself: one that is missing
or forbidden is told, and read when it comes.
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
"""In this order: a pod counts when its Job is known, a Job when its FineTuneJob is."""
UNWATCHED = ("ConfigMap", "Service", "PersistentVolumeClaim")
JOBS_ROUNDS = 4
"""FineTuneJobs are compared so often in the time in which pods and Jobs are once: nothing else tells of a new one."""
SETTLE_SECONDS = 1.0
"""What the watch has not shown by then it has missed; and after a relist its objects come one by one."""
RETRY_SECONDS = 5.0
WHOLE_CLUSTER = "*"
log = structlog.get_logger(__name__)

Scope = str | None
"""A namespace, or the whole cluster."""
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
        """`served` is told of each namespace (`*`: the whole cluster) whether it can be read."""
        self._cluster = cluster
        self._cache = cache
        self._wake = wake
        self._interval_seconds = interval_seconds
        self._served = served
        self._scopes: dict[Scope, asyncio.Event] = {scope: asyncio.Event() for scope in namespaces or (None,)}
        """Set when there is a reason to look soon."""
        self._complete: set[Scope] = set()
        self._unserved: dict[Scope, str] = {}
        """Why, as it was logged."""
        self._passed_over: dict[tuple[Scope, str], Versions] = {}
        """Objects that were read and are none of the store's: they are not missing."""

    def is_complete(self, namespace: str) -> bool:
        """Whether all that there is in this namespace is in the store: without it nothing can be decided."""
        return not self._complete.isdisjoint((namespace, None))

    def look_soon(self, namespace: str | None = None) -> None:
        """The watch has begun anew, in one namespace or in all."""
        for scope, reason in self._scopes.items():
            if namespace is None or scope in (namespace, None):
                reason.set()

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
                await asyncio.sleep(SETTLE_SECONDS)
                number = 0
            except TimeoutError:
                pass  # the regular round
            self._scopes[scope].clear()

    async def _round(self, scope: Scope, *, everything: bool) -> bool:
        """One look at a namespace; False where there is none to be had."""
        try:
            await self._find(scope)
            if scope not in self._complete:
                await self.read_all(scope)
            else:
                for kind in WATCHED_SELECTORS if everything else (KIND,):
                    await self.compare(scope, kind)
        except NotFound:
            self._tell(scope, "it does not exist")
        except Refused as error:
            if error.status == 403:
                self._tell(scope, f"it does not exist, or the operator has no rights in it ({error.message})")
            else:  # 410: the list took too long
                log.warning("resync failed, it is tried again", scope=scope or "all", error=str(error))
        except ApiError as error:
            log.warning("resync failed, it is tried again", scope=scope or "all", error=str(error))
        else:
            self._tell(scope, None)
            return True
        return False

    async def _find(self, scope: Scope) -> None:
        """Raises NotFound where there is no such namespace: a list of what is in it would only be empty."""
        if scope is None:
            return
        try:
            await self._cluster.get("Namespace", "", scope)
        except Refused:
            log.debug("the namespace itself can't be read", scope=scope)

    def _tell(self, scope: Scope, problem: str | None) -> None:
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
        """Take over all that there is, with one list of each kind however many jobs there are; then let it be decided about."""
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
        """Find what the watch has missed of one kind, and wake its jobs."""
        known = self._known(scope, kind)
        there = await self._cluster.versions(kind, scope, WATCHED_SELECTORS[kind])
        if self._lacks(scope, kind, there):
            await asyncio.sleep(SETTLE_SECONDS)
            if missed := self._lacks(scope, kind, there):
                log.warning("the watch did not show what has changed", kind=kind, objects=missed)
                await self._read(scope, kind)
                return
        self._drop(kind, known, there)

    async def _read(self, scope: Scope, kind: str) -> None:
        known = self._known(scope, kind)
        there: dict[str, str] = {}
        async for items in self._cluster.pages(kind, scope, WATCHED_SELECTORS[kind]):
            for item in items:
                there[item["metadata"]["uid"]] = item["metadata"]["resourceVersion"]
                if (key := self._cache.observe(item, deleted=False)) is not None:
                    self._wake(key)
        self._drop(kind, known, there)
        now_known = self._known(scope, kind)
        self._passed_over[scope, kind] = {uid: version for uid, version in there.items() if uid not in now_known}

    def _lacks(self, scope: Scope, kind: str, there: Versions) -> int:
        """How many of the objects that are there the store does not know as they are now."""
        known, passed_over = self._known(scope, kind), self._passed_over.get((scope, kind), {})
        gone = {uid for entry in self._cache for uid in entry.gone}
        return sum(
            is_later(version, known[uid]["metadata"]["resourceVersion"])
            if uid in known
            else uid not in gone and passed_over.get(uid) != version
            for uid, version in there.items()
        )

    def _drop(self, kind: str, known: Mapping[str, Manifest], there: Versions) -> None:
        """What was known before `there` was listed and is not in it exists no longer."""
        for uid, item in known.items():
            if uid not in there and (key := self._cache.observe(item, deleted=True)) is not None:
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
        """Of a job that may still ask for it: nothing would tell when that of another goes."""
        metadata = item["metadata"]
        entry = self._cache.get(Key(metadata["namespace"], metadata["labels"][LABEL_JOB]))
        body = entry.body if entry is not None else None
        if entry is not None and body is not None and (body.get("status") or {}).get("phase") not in TERMINAL:
            entry.put(item)
