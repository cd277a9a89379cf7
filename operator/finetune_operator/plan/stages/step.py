"""The step that a stage hands back, and the ends that every stage may come to: to list, to wait for a name, to fail.

A step holds the next status without what follows from it (conditions, summary): `decide` adds that once.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from finetune_operator.api.status import ConditionType, FailureStatus, FineTuneJobStatus, Nodes, Phase
from finetune_operator.plan.conditions import Fact
from finetune_operator.plan.observed.diagnosis import Diagnosis
from finetune_operator.plan.observed.objects import OwnedObjects
from finetune_operator.plan.stages import spec_checks
from finetune_operator.plan.stages.round import Round
from finetune_operator.plan.types import UNANSWERED, Action, Create, Manifest, PlanSettings, Ref, Refusal, Suspend

RETRY_FIRST_SECONDS = 10.0
RETRY_MAX_SECONDS = 300.0
REFUSED_SECONDS = 60.0
"""Seconds to the next look at a refused object; the controller withdraws a refusal earlier, and wakes the job."""
TAKEN_SECONDS = 5.0
SILENCE = timedelta(seconds=60)
"""Time for which a machine may be silent before the cluster calls it lost (node-monitor-grace-period is 50 s)."""


@dataclass(frozen=True)
class Step:
    """Next status of a job, the facts that it states, its actions and look-ups: the fields of a `Decision`."""

    status: FineTuneJobStatus
    facts: Mapping[ConditionType, Fact] = field(default_factory=dict)
    actions: tuple[Action, ...] = ()
    requeue_after_seconds: float | None = None
    wants_list: bool = False
    wants_references: tuple[Ref, ...] = ()
    wants_events: tuple[str, ...] = ()
    wants_progress: bool = False


def wants_list(round: Round) -> Step:
    """Do and write nothing before the children have been listed, because the next step can't be undone."""
    machines = tuple(
        Ref("Node", name) for name in sorted(round.observed.nodes or ())
    )  # their state may have led to this step
    return Step(round.written, wants_list=True, wants_references=machines)


def retry_delay(times: int) -> timedelta:
    """Return the pause before trying again what has failed `times` times in a row: 0, 10, 20, 40, ... 300 s."""
    if times <= 0:
        return timedelta(0)
    return timedelta(seconds=min(RETRY_FIRST_SECONDS * 2.0 ** min(times - 1, 10), RETRY_MAX_SECONDS))


def creates(round: Round, planned: tuple[Manifest, ...]) -> tuple[Create, ...]:
    """Create the planned objects that do not exist yet, except those that the API server has just refused."""
    observed = round.observed
    refused = {refusal.ref for refusal in observed.refusals}
    names = ((manifest, Ref.of(manifest)) for manifest in planned)
    return tuple(
        Create(manifest) for manifest, ref in names if ref not in refused and spec_checks.find(observed, *ref) is None
    )


def refused(round: Round, planned: tuple[Manifest, ...]) -> Step | None:
    """Say what the API server refuses to create, and wait until the refusal is withdrawn; None where there is none."""
    names = {Ref.of(manifest) for manifest in planned}
    refusal = next((refusal for refusal in round.observed.refusals if refusal.ref in names), None)
    if refusal is None:
        return None
    waiting = round.status.attempt_started is None
    kind = ConditionType.VALIDATED if waiting else ConditionType.RUNNING
    if round.status.phase is Phase.PUBLISHING:
        waiting, kind = False, ConditionType.PUBLISHED
    phase = Phase.PENDING if waiting else round.status.phase
    facts = {kind: _refusal_fact(refusal)}
    return Step(round.with_fields(phase=phase).status, facts=facts, requeue_after_seconds=REFUSED_SECONDS)


def _refusal_fact(refusal: Refusal) -> Fact:
    subject, words = f"{refusal.ref.kind} {refusal.ref.name!r}", refusal.message.rstrip(". ")
    if refusal.reason == UNANSWERED:
        text = (
            f"the API server has not answered yet to the creation of {subject}, or to those before it in this namespace. "
            "What to do: nothing if it comes; else look at the API server and its admission webhooks, one may be slow."
        )
        return Fact(False, "CreateUnanswered", text)
    if refusal.passes:
        text = (
            f"the API server could not create {subject} now: {words}. What to do: nothing if it passes; else look at the API "
            "server, or the admission webhook that the message names. It is tried again."
        )
        return Fact(False, "CreateUnavailable", text)
    text = (
        f"the API server refused {subject}: {words}. "
        "What to do: change what the message names (quota, admission rule, `spec.template`). It is tried again."
    )
    return Fact(False, f"Create{refusal.reason}", text)


def blocked(round: Round, planned: tuple[Manifest, ...]) -> Step | None:
    """Wait, where a planned object is refused or its name is somebody else's."""
    waiting = refused(round, planned)
    if waiting is not None:
        return waiting
    checked = (spec_checks.taken(round.observed, manifest) for manifest in planned)
    problem = next((problem for problem in checked if problem is not None), None)
    if problem is None:
        return None
    fact = Fact(False, problem.reason, problem.message)
    return Step(round.status, facts={ConditionType.VALIDATED: fact}, requeue_after_seconds=TAKEN_SECONDS)


def stop_all(owned: OwnedObjects) -> tuple[Suspend, ...]:
    """Suspend all Jobs that may still hold pods."""
    return tuple(Suspend(job.name) for job in owned.jobs if job.active)


def fail(
    round: Round,
    diagnosis: Diagnosis,
    *,
    attempt: int | None = None,
    verdict: str | None = None,
    facts: Mapping[ConditionType, Fact] | None = None,
) -> Step:
    """End the job as failed: `diagnosis` is that of the last failure, `verdict` the reason for which the job fails, if another."""
    if not round.observed.listed:
        return wants_list(round)
    status, owned = round.status, round.owned
    failed = round.with_fields(
        phase=Phase.FAILED,
        nodes=_without_ready(status),
        completion_time=stamp(round.now),
        failure=failure(diagnosis, attempt),
        attempt=max(status.attempt or 0, owned.highest("train")) or None,
        prepare_attempt=max(status.prepare_attempt or 0, owned.highest("prepare")) or None,
    )
    fact = Fact(True, verdict or diagnosis.reason, diagnosis.message)
    return Step(failed.status, facts={**(facts or {}), ConditionType.FAILED: fact}, actions=stop_all(owned))


def _without_ready(status: FineTuneJobStatus) -> Nodes | None:
    """Return the nodes, none of them ready: nothing runs any more. Nodes that have succeeded stay counted."""
    if status.nodes is None or status.model is not None:
        return status.nodes
    return status.nodes.model_copy(update={"ready": 0})


def failure(diagnosis: Diagnosis, attempt: int | None) -> FailureStatus:
    """Return a diagnosis as the status shows it."""
    return FailureStatus(
        reason=str(diagnosis.reason),
        attempt=attempt,
        node=diagnosis.node,
        rank=diagnosis.rank,
        exit_code=diagnosis.exit_code,
        message=diagnosis.message,
        resolution=diagnosis.resolution,
    )


def stamp(moment: datetime) -> datetime:
    """Cut a moment to seconds: Kubernetes' times have no fractions."""
    return moment.replace(microsecond=0)


def evidence_patience(settings: PlanSettings) -> timedelta:
    """Return how long evidence of a gang's end may take: pods have their grace period, lost nodes are noticed and evicted."""
    return timedelta(seconds=settings.grace_period_seconds + settings.lost_node_seconds) + SILENCE


def seconds_until(moment: datetime, now: datetime) -> float:
    """Return the seconds until a moment; 0 where it has passed."""
    return max(0.0, (moment - now).total_seconds())


def soonest(*delays: float | None) -> float | None:
    """Return the shortest of some delays; None where there is none."""
    return min((delay for delay in delays if delay is not None), default=None)
