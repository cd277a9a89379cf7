"""The stage before training: one prepare Job at a time, until one has succeeded for what the spec says now."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import datetime

from finetune_operator.api.status import ConditionType, FineTuneJobStatus, Phase
from finetune_operator.plan import children, conditions, report
from finetune_operator.plan.conditions import Fact
from finetune_operator.plan.diagnosis import Diagnosis, diagnose
from finetune_operator.plan.gang import Gang, preparing_gang
from finetune_operator.plan.resolutions import ClusterReason
from finetune_operator.plan.steps import (
    Step,
    blocked,
    creates,
    evidence_patience,
    fail,
    failure,
    retry_delay,
    seconds_until,
    wants_list,
)
from finetune_operator.plan.types import Delete, Manifest, Observed, Ref, Suspend
from finetune_operator.plan.view import PLAN_DIGEST, Family
from finetune_operator.plan.waiting import why_waiting
from finetune_trainer.config import Cause

MANY = 100
"""Tries after which the longest pause is reached."""


@dataclass(frozen=True)
class Prepared:
    """Preparing is over."""

    status: FineTuneJobStatus
    fact: Fact


def prepare(observed: Observed, members: Family, status: FineTuneJobStatus) -> Step | Prepared:
    job = observed.job
    if not children.needs_prepare_job(job, observed.settings):
        return Prepared(status, Fact(None, "Inline", "node 0 of the attempt prepares model and data"))
    old = conditions.find(status, ConditionType.PREPARED)
    known = old is not None and old.status == "True"
    if known and old is not None and (status.attempt or old.observed_generation == job.metadata.generation):
        return Prepared(status, Fact(True, old.reason, old.message))
    number = max(status.prepare_attempt or 0, members.highest("prepare"))
    if number < status.budget.first_prepare:
        return _start(observed, members, status, status.budget.first_prepare)
    status = _caught_up(observed, members, status, number)
    gang = preparing_gang(observed, members, number)
    if gang.job is not None and gang.job.plan_digest != plan_digest(observed):
        if not observed.listed:
            return wants_list(observed)
        return _start(observed, members, _new_budget(status, number + 1), number + 1)
    if gang.succeeded:
        return _succeeded(status, gang)
    if gang.job is None and not observed.listed:
        return wants_list(observed)
    if gang.job is None or gang.fallen:
        return _fallen(observed, members, status, gang)
    return _under_way(observed, status, gang)


def manifest(observed: Observed, number: int) -> Manifest:
    """The prepare Job, marked with what it was made from."""
    made = children.prepare_job(observed.job, observed.settings, number)
    annotations = made["metadata"].setdefault("annotations", {})
    annotations[PLAN_DIGEST] = plan_digest(observed)
    return made


def planned(observed: Observed, members: Family, status: FineTuneJobStatus) -> tuple[Manifest, ...]:
    """The prepare Job that there is or will be first; none where node 0 of the attempt prepares."""
    if not children.needs_prepare_job(observed.job, observed.settings):
        return ()
    number = max(status.prepare_attempt or 0, members.highest("prepare"), status.budget.first_prepare)
    return (manifest(observed, number),)


def plan_digest(observed: Observed) -> str:
    """Of everything that a prepare Job depends on. An edit that changes nothing of it needs no new one."""
    spec = children.prepare_job(observed.job, observed.settings, 0)["spec"]
    return hashlib.sha256(json.dumps(spec, sort_keys=True, default=str).encode()).hexdigest()[:16]


def _start(observed: Observed, members: Family, status: FineTuneJobStatus, number: int) -> Step:
    job, settings = observed.job, observed.settings
    made = (children.claim(job), children.config_map(job, settings), children.service(job), manifest(observed, number))
    wanted = tuple(one for one in made if one is not None)  # the Service too: if its name is taken we know it now
    if (waiting := blocked(observed, status, wanted)) is not None:
        return waiting
    older = [job for job in members.jobs if job.role == "prepare" and job.number < number]
    stop = tuple(Suspend(job.name) for job in older if job.active)
    clean = tuple(
        Delete(Ref("Job", job.name), job.uid) for job in older if job.number < number - 1 and not job.deleting
    )
    started = status.model_copy(update={"phase": Phase.PREPARING, "prepare_attempt": number})
    return Step(
        started,
        facts={ConditionType.PREPARED: _preparing(observed, number)},
        actions=(*creates(observed, wanted), *stop, *clean),
        requeue_after_seconds=observed.settings.pod_diagnosis_seconds,
    )


def _preparing(observed: Observed, number: int) -> Fact:
    """The same text from creation to end: each change of it would be a request."""
    return Fact(False, "Preparing", f"Job {children.prepare_job_name(observed.job, number)} prepares model and data")


def _new_budget(status: FineTuneJobStatus, number: int) -> FineTuneJobStatus:
    """The spec was edited: what failed before does not count."""
    return status.model_copy(
        update={"budget": status.budget.model_copy(update={"first_prepare": number, "prepare_errors": 0})}
    )


def _succeeded(status: FineTuneJobStatus, gang: Gang) -> Prepared:
    record = gang.success
    told = report.with_record(status, record) if record is not None else status
    return Prepared(
        told.model_copy(update={"prepare_attempt": gang.number}), Fact(True, "Prepared", "model and data are prepared")
    )


def _under_way(observed: Observed, status: FineTuneJobStatus, gang: Gang) -> Step:
    assert gang.job is not None
    waiting = why_waiting(
        gang, observed.events, gang.job.created, observed.now, observed.settings.pod_diagnosis_seconds
    )
    fact = waiting.fact or _preparing(observed, gang.number)
    facts = {ConditionType.PREPARED: fact} if waiting.known else {}
    next_status = status.model_copy(update={"phase": Phase.PREPARING, "prepare_attempt": gang.number})
    return Step(next_status, facts=facts, requeue_after_seconds=waiting.look_again_seconds, wants_events=waiting.ask)


def _fallen(observed: Observed, members: Family, status: FineTuneJobStatus, gang: Gang) -> Step:
    """Try again what may succeed then; what the user must mend fails at once."""
    verdict = diagnose(gang)
    diagnosis = verdict.diagnosis
    fact = Fact(False, diagnosis.reason, f"{diagnosis.message} What to do: {diagnosis.resolution}")
    if diagnosis.cause is Cause.USER:
        return fail(observed, members, status, diagnosis, facts={ConditionType.PREPARED: fact})
    ended = _ended(gang) or (gang.job.created if gang.job is not None else observed.now - retry_delay(MANY))
    if not verdict.final and gang.job is not None and observed.now < ended + evidence_patience(observed):
        pause = seconds_until(ended + evidence_patience(observed), observed.now)
        return Step(
            status.model_copy(update={"phase": Phase.PREPARING, "prepare_attempt": gang.number}),
            requeue_after_seconds=pause,
        )
    uncounted, status = status, _counted(status, diagnosis)
    if status.budget.prepare_errors > observed.job.spec.backoff_limit:
        return fail(
            observed,
            members,
            status,
            diagnosis,
            verdict=ClusterReason.BACKOFF_LIMIT,
            facts={ConditionType.PREPARED: fact},
        )
    tries = gang.number - status.budget.first_prepare + (1 if diagnosis.counts else 0)
    due = ended + retry_delay(tries)
    if observed.now < due:
        waiting = uncounted.model_copy(update={"phase": Phase.PREPARING, "prepare_attempt": gang.number})
        text = f"{fact.message} Tried again in {round(seconds_until(due, observed.now))} s at most."
        kept = conditions.find(status, ConditionType.PREPARED)
        same = kept is not None and kept.reason == fact.reason
        facts = {} if same else {ConditionType.PREPARED: replace(fact, message=text)}
        return Step(waiting, facts=facts, requeue_after_seconds=seconds_until(due, observed.now))
    if not observed.listed:
        return wants_list(observed)
    step = _start(observed, members, status, gang.number + 1)
    return replace(step, status=step.status.model_copy(update={"failure": failure(diagnosis, None)}))


def _caught_up(observed: Observed, members: Family, status: FineTuneJobStatus, number: int) -> FineTuneJobStatus:
    """The status, where a Job was created before it could be written: why the tries before had failed is told now."""
    first = max(status.prepare_attempt or number, status.budget.first_prepare)
    for earlier in range(first, number):
        gang = preparing_gang(observed, members, earlier)
        if gang.job is not None and gang.job.plan_digest == plan_digest(observed):
            diagnosis = diagnose(gang).diagnosis
            status = _counted(status, diagnosis).model_copy(update={"failure": failure(diagnosis, None)})
    return status


def _counted(status: FineTuneJobStatus, diagnosis: Diagnosis) -> FineTuneJobStatus:
    errors = status.budget.prepare_errors + diagnosis.counts
    return status.model_copy(update={"budget": status.budget.model_copy(update={"prepare_errors": errors})})


def _ended(gang: Gang) -> datetime | None:
    moments = [
        moment
        for pod in gang.pods
        for moment in (pod.deleted_at, pod.trainer.ended_at if pod.trainer else None)
        if moment
    ]
    return min(moments, default=None)
