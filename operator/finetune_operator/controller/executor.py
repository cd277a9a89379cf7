"""An executor of the actions of one decision, side by side. It changes no object that is not known to be the job's.

Each action is a task of its own: its caller waits a moment for the answer, and a later answer wakes the job. What the API server
refuses, or can't do now, is noted in the job's entry; the queue's backoff says when it is tried again.
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
"""Time that a worker waits for an answer: an admission webhook may take half a minute, and all jobs share the workers."""
REQUESTS_AT_ONCE = 32
"""Requests for the jobs of one namespace: those that a slow webhook holds must not grow without limit."""
log = structlog.get_logger(__name__)


class PendingRequest(NamedTuple):
    """A request to the API server that is not answered yet."""

    job_uid: str
    action: str
    ref: Ref


class Actor:
    """An executor of actions on the cluster that notes their results in the job's entry."""

    def __init__(self, cluster: Cluster, wake: Callable[[Key], None]) -> None:
        self._cluster = cluster
        self._wake = wake
        self._requests: dict[PendingRequest, asyncio.Task[bool]] = {}
        self._abandoned: set[PendingRequest] = set()
        """Requests whose answers nobody waits for any more."""
        self._slots: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(REQUESTS_AT_ONCE))

    def break_off(self) -> None:
        """Stop waiting for answers, and send no request that was not sent yet."""
        for task in self._requests.values():
            task.cancel()

    async def act(self, entry: JobEntry, job: FineTuneJob, actions: tuple[Action, ...]) -> bool:
        """Carry out actions; return False where the job must be decided about again: a name is taken, or a create was refused."""
        outcomes = await pods_first(actions, lambda action: self._request(entry, job, action))
        for outcome in outcomes:  # only now, so that one failure does not cut the others off
            if isinstance(outcome, BaseException):
                raise outcome
        return all(outcomes)

    async def _request(self, entry: JobEntry, job: FineTuneJob, action: Action) -> bool:
        """Send the request of an action unless it was sent before, and wait a moment for the answer."""
        request = PendingRequest(job.metadata.uid, type(action).__name__, _ref(action))
        if isinstance(action, Create) and (entry.find(*request.ref) or entry.is_refused(request.ref)):
            return True
        task = self._requests.get(request)
        if task is None:
            task = asyncio.create_task(
                self._send(entry, job, action, request), name=f"{request.action} {request.ref.name}"
            )
            self._requests[request] = task
            task.add_done_callback(lambda _: self._finished(entry, request))
        await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
        if task.done():
            return task.result()
        log.warning("no answer yet", action=request.action, kind=request.ref.kind, name=request.ref.name)
        self._abandoned.add(request)
        if not isinstance(action, Create):
            raise Unanswered(f"{request.action} {request.ref.kind} {request.ref.name!r}")
        entry.unanswered.add(request.ref)
        return False

    async def _send(self, entry: JobEntry, job: FineTuneJob, action: Action, request: PendingRequest) -> bool:
        async with self._slots[entry.key.namespace]:
            match action:
                case Create():
                    return await self._create(entry, job, action, request.ref)
                case Suspend():
                    await self._suspend(entry, action)
                case Delete():
                    await self._delete(entry, action)
        return True

    def _finished(self, entry: JobEntry, request: PendingRequest) -> None:
        del self._requests[request]
        if request in self._abandoned:
            self._abandoned.discard(request)
            entry.unanswered.discard(request.ref)
            self._wake(entry.key)

    async def _create(self, entry: JobEntry, job: FineTuneJob, action: Create, ref: Ref) -> bool:
        try:
            created = await self._cluster.create_once(entry.key.namespace, action.manifest)
        except Conflict:
            return await self._is_own(entry, job, ref)
        except ApiError as error:
            log.warning("create refused", kind=ref.kind, name=ref.name, status=error.status, error=error.message)
            refusal = Refusal(ref, error.status, error.reason, error.message)
            entry.refuse(refusal, job.metadata.generation, backoff_seconds)
            return False
        log.info("created", kind=ref.kind, name=ref.name)
        entry.refused.pop(ref, None)
        entry.put(created)
        return True

    async def _is_own(self, entry: JobEntry, job: FineTuneJob, ref: Ref) -> bool:
        """Return whether the object at a taken name is the job's own.

        An earlier process of this operator that was killed may have created it; the object of anybody else stays untouched.
        """
        try:
            existing = await self._cluster.get(ref.kind, entry.key.namespace, ref.name)
        except NotFound:
            return False
        entry.put(existing)
        ours = is_controlled_by(existing, job)
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
        except (NotFound, Conflict):  # it is gone, or another object has the name now
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
