"""One step of one job: read, decide, act, write the status. The decision itself is made by `plan.decide`.

A step may be cut off at any point: an object that was made is found again by its name, a status that was not written is
decided again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime

import structlog
from pydantic import ValidationError

from finetune_operator.api.resource import KIND, FineTuneJob
from finetune_operator.api.status import Phase
from finetune_operator.controller.accelerator_usage import account_for
from finetune_operator.controller.cache import JobCache, JobEntry, Key
from finetune_operator.controller.executor import PATIENCE_SECONDS, Actor
from finetune_operator.controller.lookups import Lookups
from finetune_operator.controller.metrics import OperatorMetrics
from finetune_operator.controller.other_operators import OtherOperators
from finetune_operator.controller.reconcile_condition import troubled_status
from finetune_operator.kube.client import Cluster
from finetune_operator.kube.event_manifest import event
from finetune_operator.kube.exceptions import ApiError, Conflict, NotFound, Undecided
from finetune_operator.kube.pods_first import makes_pods
from finetune_operator.plan.desired.accelerators import accelerators as accelerators_of
from finetune_operator.plan.status.unparsable_spec import unreadable_status
from finetune_operator.plan.types import Decision, EventNote, Manifest, Observed, PlanSettings

ROUNDS = 8
"""Decisions within one reconcile: each look-up, conflict or foreign object costs one."""
AFTER_ACTION_SECONDS = 0.5
"""Time after which the result of an action is looked at, if the watch does not wake the job before."""
LEAST_DELAY_SECONDS = 0.005
FINAL_PHASES = frozenset({Phase.SUCCEEDED.value, Phase.FAILED.value})
log = structlog.get_logger(__name__)

Decide = Callable[[Observed], Decision]


class Reconciler:
    """A reconciler of one job per call. The queue calls it for many jobs, never twice at the same time for one."""

    def __init__(
        self,
        cluster: Cluster,
        cache: JobCache,
        lookups: Lookups,
        others: OtherOperators,
        settings: PlanSettings,
        decide: Decide,
        metrics: OperatorMetrics,
        wake: Callable[[Key], None],
        gives_way: Callable[[Key], bool] = lambda key: False,
        is_complete: Callable[[str], bool] = lambda namespace: True,
    ) -> None:
        """`wake` is called for answers that nobody waits for any more.

        `gives_way`: whether a job that has its pods leaves the worker to others before its status is written.

        `is_complete`: whether the cache holds all objects of a namespace; where it does not, the jobs are woken when it does.
        """
        self._cluster = cluster
        self._cache = cache
        self._lookups = lookups
        self._others = others
        self._actor = Actor(cluster, wake)
        self._settings = settings
        self._decide = decide
        self._metrics = metrics
        self._gives_way = gives_way
        self._is_complete = is_complete
        self._posting: set[asyncio.Task[None]] = set()

    def break_off(self) -> None:
        """Send no more requests, and stop waiting for answers."""
        self._actor.break_off()
        for task in self._posting:
            task.cancel()

    async def reconcile(self, key: Key) -> float | None:
        """Reconcile one job; return the seconds after which to look again if nothing wakes it before."""
        if not self._is_complete(key.namespace):
            return None
        with (
            structlog.contextvars.bound_contextvars(namespace=key.namespace, job=key.name),
            self._metrics.reconcile_duration.time(),
        ):
            try:
                delay = await self._reconcile(key)
            except Exception as error:
                await self._report(key, error)
                raise
        self._metrics.reconciles.labels("done").inc()
        return delay

    async def _reconcile(self, key: Key) -> float | None:
        listed = refreshed = False
        for _ in range(ROUNDS):
            entry = self._cache.get(key)
            if entry is None or entry.body is None or entry.body["metadata"].get("deletionTimestamp"):
                return None
            body = entry.body
            if (later := await self._others.seconds_to_wait(body)) is not None:
                return later
            try:
                job = FineTuneJob.parse(body)
            except ValidationError as error:
                if (body.get("status") or {}).get("phase") in FINAL_PHASES:
                    return None
                log.warning(
                    "the job is not understood", error=str(error.errors(include_url=False, include_input=False))
                )
                status = unreadable_status(body, error, datetime.now(UTC), self._settings.operator)
                if await self._write_status(entry, body, status, ()):
                    return None
                continue
            if not refreshed:
                refreshed = True
                await self._lookups.refresh(entry, job)
                if entry.body is not body:
                    continue  # nothing is made from a spec that was edited meanwhile
            if entry.incomplete and not listed:
                listed = await self._list(entry)
            decision = entry.decision = self._decide(self._observed(entry, job, listed=listed))
            if not listed and decision.wants_list:
                listed = await self._list(entry)
            elif missing := self._lookups.missing(entry, decision.wants_references):
                await self._lookups.references(entry, missing)
            elif await self._actor.act(entry, job, decision.actions):
                if any(map(makes_pods, decision.actions)) and self._gives_way(key):
                    return 0.0  # the status of what was done is written later
                accelerators = accelerators_of(job, self._settings) * job.spec.nodes
                if await self._write_status(entry, body, decision.status, decision.events, accelerators):
                    return _delay(entry, decision)
        raise Undecided(f"no rest after {ROUNDS} decisions")

    async def _report(self, key: Key, error: Exception) -> None:
        """Write the cause of an error into the status, where that can be written; the same cause once."""
        entry = self._cache.get(key)
        if entry is None or entry.body is None:
            return
        body, operator = entry.body, self._settings.operator
        if (body.get("status") or {}).get("operator") not in (None, operator):
            return  # its status is for the other operator to write
        try:
            await self._write_status(entry, body, troubled_status(body, error, datetime.now(UTC), operator), ())
        except ApiError as second_error:
            log.debug("the cause can't be told either", error=str(second_error))

    def _observed(self, entry: JobEntry, job: FineTuneJob, *, listed: bool) -> Observed:
        return Observed(
            job=job,
            now=datetime.now(UTC),
            settings=self._settings.in_crowd(self._cache.running),
            objects=tuple(entry.objects.values()),
            gone=frozenset(entry.gone),
            deletions=dict(entry.deletions),
            references=dict(entry.references),
            nodes=self._lookups.nodes(entry),
            events=dict(entry.events),
            progress=entry.progress,
            listed=listed,
            cache=entry.results,
            refusals=entry.refusals(),
        )

    async def _list(self, entry: JobEntry) -> bool:
        known = frozenset(entry.objects)
        entry.replace(await self._cluster.children(*entry.key), known)
        entry.incomplete = False
        return True

    async def _write_status(
        self, entry: JobEntry, body: Manifest, status: Manifest, notes: tuple[EventNote, ...], accelerators: int = 0
    ) -> bool:
        """Post events, then write the status where it differs.

        Return False where the job has changed since `body` was read: then the status was not written.
        """
        before: Manifest = body.get("status") or {}
        if status == before or entry.written == (body["metadata"]["resourceVersion"], status):
            return True
        if self._cache.get(entry.key) is not entry or entry.body is not body:
            return False
        posted = entry.allowance.spend(notes, time.monotonic())
        await self._post_all(body, posted)
        try:
            written = await self._cluster.replace_status(body, status)
        except NotFound:
            return True
        except Conflict:
            await self._read_again(entry)
            return False
        entry.written = (written["metadata"]["resourceVersion"], status)
        self._cache.observe(written, deleted=False)
        self._metrics.status_written(body["metadata"]["uid"], before, status, time.monotonic())
        if accelerators:
            accounted = account_for(entry.account, before, status, entry.pods_accepted())
            entry.account = accounted.account
            for use, seconds in accounted.seconds.items():
                self._metrics.accelerator_seconds.labels(use).inc(seconds * accelerators)
        if before.get("phase") != status.get("phase"):
            log.info("phase", before=before.get("phase"), phase=status.get("phase"), attempt=status.get("attempt"))
        return True

    async def _post_all(self, body: Manifest, notes: tuple[EventNote, ...]) -> None:
        """Post events, and wait for them only a moment: a slow webhook must not hold up the status."""
        tasks = {asyncio.create_task(self._post(body, note), name=f"post {note.reason}") for note in notes}
        self._posting |= tasks
        for task in tasks:
            task.add_done_callback(self._posting.discard)
        if tasks:
            await asyncio.wait(tasks, timeout=PATIENCE_SECONDS)

    async def _post(self, body: Manifest, note: EventNote) -> None:
        """Post an event. It is for people, so a failure does not hold the job up."""
        try:
            await self._cluster.create(body["metadata"]["namespace"], event(body, note, datetime.now(UTC)))
        except Conflict:
            log.debug("event is posted already", reason=note.reason)
        except ApiError as error:
            log.warning("event not posted", reason=note.reason, error=str(error))

    async def _read_again(self, entry: JobEntry) -> None:
        """Read the job at once: the watch will show what has changed, but later."""
        try:
            present = await self._cluster.get(KIND, *entry.key)
        except NotFound:
            if entry.body is not None:
                self._cache.observe(entry.body, deleted=True)
            return
        self._cache.observe(present, deleted=False)


def _delay(entry: JobEntry, decision: Decision) -> float | None:
    now = time.monotonic()
    delays = [refused.retry_at - now for refused in entry.refused.values() if refused.retry_at > now]
    if decision.requeue_after_seconds is not None:
        delays.append(decision.requeue_after_seconds)
    if decision.actions:
        delays.append(AFTER_ACTION_SECONDS)
    return max(min(delays), LEAST_DELAY_SECONDS) if delays else None
