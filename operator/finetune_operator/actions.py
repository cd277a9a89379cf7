"""Carries out the actions of one decision, side by side. Touches nothing that is not known to be the job's."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.cluster import Cluster
from finetune_operator.exceptions import Conflict, NotFound, Refused
from finetune_operator.plan.children import is_ours
from finetune_operator.plan.types import Action, Create, Delete, Ref, Refusal, Suspend
from finetune_operator.queue import backoff_seconds
from finetune_operator.store import JobState

UNWATCHED = frozenset({"ConfigMap", "Service", "PersistentVolumeClaim"})
HEAD_START_SECONDS = 0.03
"""In which the cluster makes a Job's pods, with nothing else to do."""
log = structlog.get_logger(__name__)


class Actor:
    """Acts on the cluster, and takes over into the state what came of it."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster

    async def act(self, state: JobState, job: FineTuneJob, actions: tuple[Action, ...]) -> bool:
        """False where what came of it must be decided about again: a name is taken, a create was refused."""
        ordered = sorted(actions, key=lambda action: not _makes_pods(action))
        later = [action for action in ordered if _names_pods(action)]
        sooner = [action for action in ordered if not _names_pods(action)]
        outcomes = await self._side_by_side(state, job, sooner)
        if sooner and later:
            await asyncio.sleep(HEAD_START_SECONDS)
        outcomes += await self._side_by_side(state, job, later)
        for outcome in outcomes:  # only now, so that one failure does not cut the others off
            if isinstance(outcome, BaseException):
                raise outcome
        return all(outcomes)

    async def _side_by_side(
        self, state: JobState, job: FineTuneJob, actions: Sequence[Action]
    ) -> list[bool | BaseException]:
        return await asyncio.gather(*(self._one(state, job, action) for action in actions), return_exceptions=True)

    async def _one(self, state: JobState, job: FineTuneJob, action: Action) -> bool:
        match action:
            case Create():
                return await self._create(state, job, action)
            case Suspend():
                await self._suspend(state, action)
            case Delete():
                await self._delete(state, action)
        return True

    async def _create(self, state: JobState, job: FineTuneJob, action: Create) -> bool:
        ref = Ref(action.manifest["kind"], action.manifest["metadata"]["name"])
        known = state.find(*ref)
        if known is not None or any(ref == refusal.ref for refusal in state.refusals()):
            return True
        try:
            made = await self._cluster.create(state.key.namespace, action.manifest)
        except Conflict:
            return await self._look_at_owner(state, job, ref)
        except Refused as error:
            log.warning("create refused", kind=ref.kind, name=ref.name, status=error.status, error=error.message)
            refusal = Refusal(ref, error.status, error.reason, error.message)
            state.refuse(refusal, job.metadata.generation, backoff_seconds)
            return False
        log.info("created", kind=ref.kind, name=ref.name)
        state.refused.pop(ref, None)
        state.put(made)
        return True

    async def _look_at_owner(self, state: JobState, job: FineTuneJob, ref: Ref) -> bool:
        """The name is taken: by an earlier self that was killed, or by somebody else, whose object stays untouched."""
        try:
            found = await self._cluster.get(ref.kind, state.key.namespace, ref.name)
        except NotFound:
            return False
        state.put(found)
        ours = is_ours(found, job)
        if not ours:
            log.warning("name taken", kind=ref.kind, name=ref.name)
        return ours

    async def _suspend(self, state: JobState, action: Suspend) -> None:
        try:
            state.put(await self._cluster.suspend_job(state.key.namespace, action.name))
        except NotFound:
            return
        log.info("suspended", kind="Job", name=action.name)

    async def _delete(self, state: JobState, action: Delete) -> None:
        try:
            await self._cluster.delete(action.ref, state.key.namespace, action.uid, action.grace_period_seconds)
        except (NotFound, Conflict):  # gone, or another object has the name now
            return
        if action.ref.kind in UNWATCHED:
            state.objects.pop(action.uid, None)
        log.info("deleted", kind=action.ref.kind, name=action.ref.name)


def _names_pods(action: Action) -> bool:
    """A Service makes the cluster write endpoints, which would hold up the pods; the names are needed when they run."""
    return isinstance(action, Create) and action.manifest["kind"] == "Service"


def _makes_pods(action: Action) -> bool:
    """What pods follow from is sent first: they take longest, and find the rest there when they start."""
    return isinstance(action, Create) and action.manifest["kind"] == "Job"
