"""Finds what the watch has missed: compares, now and then, the names that it showed with a list of what is there.

After a gap in the watch an object that was deleted meanwhile shows nowhere. The list is of metadata only, three
requests for all jobs together.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from finetune_operator.api.resource import KIND, LABEL_JOB
from finetune_operator.cluster import Cluster
from finetune_operator.exceptions import ApiError
from finetune_operator.plan.types import Manifest
from finetune_operator.store import Key, Store

WATCHED_SELECTORS = {KIND: None, "Job": LABEL_JOB, "Pod": LABEL_JOB}
SETTLE_SECONDS = 1.0
"""After a relist was noticed: its objects come one by one."""
RETRY_SECONDS = 5.0
log = structlog.get_logger(__name__)


class Resync:
    """A loop of its own beside the watch."""

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        wake: Callable[[Key], None],
        namespaces: tuple[str, ...],
        interval_seconds: float,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._wake = wake
        self._namespaces: tuple[str | None, ...] = namespaces or (None,)
        self._interval_seconds = interval_seconds
        self._relisted = asyncio.Event()

    def relisted(self) -> None:
        """The watch has begun anew: look soon."""
        self._relisted.set()

    async def run(self) -> None:
        while True:
            try:
                async with asyncio.timeout(self._interval_seconds):
                    await self._relisted.wait()
                await asyncio.sleep(SETTLE_SECONDS)
            except TimeoutError:
                pass  # the regular round
            self._relisted.clear()
            try:
                await self.compare()
            except ApiError as error:
                log.warning("resync failed, it is tried again", error=str(error))
                await asyncio.sleep(RETRY_SECONDS)
                self._relisted.set()

    async def compare(self) -> None:
        """Take out of the store what exists no longer, and wake its jobs."""
        for kind, selector in WATCHED_SELECTORS.items():
            known = self._known(kind)
            there: set[str] = set()
            for namespace in self._namespaces:
                there |= await self._cluster.uids(kind, namespace, selector)
            for uid, item in known.items():
                if uid not in there and (key := self._store.observe(item, deleted=True)) is not None:
                    log.warning("deleted while the watch did not look", kind=kind, name=item["metadata"]["name"])
                    self._wake(key)

    def _known(self, kind: str) -> dict[str, Manifest]:
        if kind == KIND:
            return {state.body["metadata"]["uid"]: state.body for state in self._store if state.body is not None}
        return {
            uid: item
            for state in self._store
            for uid, item in state.objects.items()
            if item["kind"] == kind and uid not in state.gone and LABEL_JOB in item["metadata"].get("labels", {})
        }
