"""Carries out the actions of one decision, side by side. Touches nothing that is not known to be the job's.

Each is a task of its own: whoever asked for it waits a moment, and is woken by a later answer. What the API server
refuses, or can't do now, is a value in the state; the queue's backoff says when it is tried again.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable
from typing import NamedTuple

import structlog

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.controller.cache import JobEntry, Key
from finetune_operator.controller.workqueue import backoff_seconds
from finetune_operator.kube.client import Cluster
from finetune_operator.kube.exceptions import ApiError, Conflict, NotFound, Unanswered
from finetune_operator.kube.pods_first import pods_first
from finetune_operator.plan.desired.manifests import is_controlled_by
from finetune_operator.plan.types import Action, Create, Delete, Ref, Refusal, Suspend

UNWATCHED = frozenset({"ConfigMap", "Service", "PersistentVolumeClaim"})
PATIENCE_SECONDS = 2.0
"""A worker waits so long for an answer: an admission webhook may take half a minute, and workers are everybody's."""
REQUESTS_AT_ONCE = 32
"""Of the jobs of one namespace: those that a slow webhook holds must not grow without end."""
log = structlog.get_logger(__name__)


class PendingRequest(NamedTuple):
    """What was asked of the API server and is not answered yet."""

    job_uid: str
    what: str
    ref: Ref


class Actor:
    """Acts on the cluster, and takes over into the state what came of it."""

    def __init__(self, cluster: Cluster, wake: Callable[[Key], None]) -> None:
        self._cluster = cluster
        self._wake = wake
        self._asked: dict[PendingRequest, asyncio.Task[bool]] = {}
        self._let_go: set[PendingRequest] = set()
        """Nobody waits for these any more."""
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(REQUESTS_AT_ONCE))

    def break_off(self) -> None:
        """Wait for no answer any more, and ask for nothing that has not been asked for."""
        for task in self._asked.values():
            task.cancel()

    async def act(self, entry: JobEntry, job: FineTuneJob, actions: tuple[Action, ...]) -> bool:
        """False where what came of it must be decided about again: a name is taken, a create was refused."""
        outcomes = await pods_first(actions, lambda action: self._one(entry, job, action))
        for outcome in outcomes:  # only now, so that one failure does not cut the others off
            if isinstance(outcome, BaseException):
                raise outcome
        return all(outcomes)

    async def _one(self, entry: JobEntry, job: FineTuneJob, action: Action) -> bool:
        """Ask, unless it was asked already, and wait a moment for the answer."""
        asked = PendingRequest(job.metadata.uid, type(action).__name__, _ref(action))
        if isinstance(action, Create) and (entry.find(*asked.ref) or entry.is_refused(asked.ref)):
            return True
        task = self._asked.get(asked)
        if task is None:
            task = asyncio.create_task(self._ask(entry, job, action, asked), name=f"{asked.what} {asked.ref.name}")
            self._asked[asked] = task
            task.add_done_callback(lambda _: self._answered(entry, asked))
        await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
        if task.done():
            return task.result()
        log.warning("no answer yet", action=asked.what, kind=asked.ref.kind, name=asked.ref.name)
        self._let_go.add(asked)
        if not isinstance(action, Create):
            raise Unanswered(f"{asked.what} {asked.ref.kind} {asked.ref.name!r}")
        entry.unanswered.add(asked.ref)
        return False

    async def _ask(self, entry: JobEntry, job: FineTuneJob, action: Action, asked: PendingRequest) -> bool:
        async with self._slots[entry.key.namespace]:
            match action:
                case Create():
                    return await self._create(entry, job, action, asked.ref)
                case Suspend():
                    await self._suspend(entry, action)
                case Delete():
                    await self._delete(entry, action)
        return True

    def _answered(self, entry: JobEntry, asked: PendingRequest) -> None:
        del self._asked[asked]
        if asked in self._let_go:
            self._let_go.discard(asked)
            entry.unanswered.discard(asked.ref)
            self._wake(entry.key)

    async def _create(self, entry: JobEntry, job: FineTuneJob, action: Create, ref: Ref) -> bool:
        try:
            made = await self._cluster.create_once(entry.key.namespace, action.manifest)
        except Conflict:
            return await self._look_at_owner(entry, job, ref)
        except ApiError as error:
            log.warning("create refused", kind=ref.kind, name=ref.name, status=error.status, error=error.message)
            refusal = Refusal(ref, error.status, error.reason, error.message)
            entry.refuse(refusal, job.metadata.generation, backoff_seconds)
            return False
        log.info("created", kind=ref.kind, name=ref.name)
        entry.refused.pop(ref, None)
        entry.put(made)
        return True

    async def _look_at_owner(self, entry: JobEntry, job: FineTuneJob, ref: Ref) -> bool:
        """The name is taken: by an earlier self that was killed, or by somebody else, whose object stays untouched."""
        try:
            found = await self._cluster.get(ref.kind, entry.key.namespace, ref.name)
        except NotFound:
            return False
        entry.put(found)
        ours = is_controlled_by(found, job)
        if not ours:
            log.warning("name taken", kind=ref.kind, name=ref.name)
        return ours

    async def _suspend(self, entry: JobEntry, action: Suspend) -> None:
        try:
            entry.put(await self._cluster.suspend_job(entry.key.namespace, action.name))
        except NotFound:
            return
        log.info("suspended", kind="Job", name=action.name)

    async def _delete(self, entry: JobEntry, action: Delete) -> None:
        try:
            await self._cluster.delete(action.ref, entry.key.namespace, action.uid, action.grace_period_seconds)
        except (NotFound, Conflict):  # gone, or another object has the name now
            return
        if action.ref.kind in UNWATCHED:
            entry.objects.pop(action.uid, None)
        log.info("deleted", kind=action.ref.kind, name=action.ref.name)


def _ref(action: Action) -> Ref:
    match action:
        case Create(manifest):
            return Ref.of(manifest)
        case Suspend(name):
            return Ref("Job", name)
        case Delete(ref):
            return ref
