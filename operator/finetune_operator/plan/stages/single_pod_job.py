"""A stage that is one Job of one pod at a time: it is made, watched, explained while it waits, and made again where that may help.

Preparing and publishing are such stages. Their own modules say what success means, and when the stage has failed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Literal

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.status import ConditionType, FineTuneJobStatus, Phase
from finetune_operator.plan import conditions
from finetune_operator.plan.conditions import Fact
from finetune_operator.plan.observed.diagnosis import Diagnosis, Verdict, diagnose
from finetune_operator.plan.observed.gang import Gang, doubtful_nodes, look_at_nodes_again, single_gang
from finetune_operator.plan.observed.objects import SPEC_DIGEST, OwnedObjects
from finetune_operator.plan.observed.pending_pods import out_of_sight, why_waiting
from finetune_operator.plan.stages.round import Round
from finetune_operator.plan.stages.step import (
    Step,
    blocked,
    creates,
    evidence_patience,
    failure,
    retry_delay,
    seconds_until,
    soonest,
    stamp,
    wants_list,
)
from finetune_operator.plan.types import Action, Delete, Manifest, Ref, Suspend
from finetune_trainer.contract.records import Cause

LONG_AGO = timedelta(seconds=300)
"""Age that is assumed of a Job that is gone and whose creation no status notes (an older operator made it): longer than every pause."""
OF_NO_MATTER: Mapping[str, bool | set[str]] = {
    "retry": True,
    "backoff_limit": True,
    "active_deadline_seconds": True,
    "start_deadline_seconds": True,
    "storage": {"size", "storage_class_name", "access_mode", "retain"},
    "publish": {"deadline_seconds"},
}
"""Fields of the spec on which the work of these stages' Jobs does not depend."""


@dataclass(frozen=True)
class Stage:
    """Particulars of preparing, or of publishing."""

    role: Literal["prepare", "publish"]
    phase: Phase
    condition: ConditionType
    number_field: Literal["prepare_attempt", "publish_attempt"]
    """Field of status that holds the number of the present Job."""
    first: int
    """Number of the first Job since the stage began, or was started again."""
    doing: str
    """Work of the Job in words: `prepares model and data`."""
    make: Callable[[int], Manifest]
    """Function that makes the Job of a number."""
    digest: str
    """Digest of the spec as far as the stage's Jobs depend on it: an edit that leaves it as it is needs no new Job."""
    beside: tuple[Manifest, ...]
    """Objects that a Job needs, made with it."""

    def number(self, round: Round) -> int:
        """Return the number of the newest Job; 0 where there was none."""
        return max(getattr(round.status, self.number_field) or 0, round.owned.highest(self.role))

    def manifest(self, number: int) -> Manifest:
        """Make the Job, marked with the digest of the spec that it is made from."""
        manifest = self.make(number)
        manifest["metadata"].setdefault("annotations", {})[SPEC_DIGEST] = self.digest
        return manifest

    def gang(self, round: Round, number: int) -> Gang:
        return single_gang(round.observed, round.owned, self.role, number)

    def outdated(self, gang: Gang) -> bool:
        """Return whether the Job was made from another spec. One without a digest was made by an older operator, and stays."""
        return gang.job is not None and gang.job.spec_digest not in (None, self.digest)

    def status(self, round: Round, number: int) -> FineTuneJobStatus:
        """Return the status while the Job of this number is there."""
        return round.with_fields(**{"phase": self.phase, self.number_field: number}).status


def digest_of(job: FineTuneJob) -> str:
    """Digest the user's spec as far as the Jobs depend on it. An administrator's settings and this version's way to make a
    Job are left out, so that neither another operator nor an upgrade finds a Job outdated.
    """
    written = job.spec.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude=OF_NO_MATTER)
    return hashlib.sha256(json.dumps(written, sort_keys=True).encode()).hexdigest()[:16]


def start(stage: Stage, round: Round, number: int) -> Step:
    """Make the Job of this number; the one before is stopped and keeps its log, older ones go."""
    wanted = (*stage.beside, stage.manifest(number))
    if (waiting := blocked(round, wanted)) is not None:
        return waiting
    return Step(
        stage.status(round.with_budget(last_made=stamp(round.now)), number),
        facts={stage.condition: ordinary(stage, number)},
        actions=(*creates(round, wanted), *_retire(stage, round.owned, number)),
        requeue_after_seconds=round.settings.pod_diagnosis_seconds,
    )


def _retire(stage: Stage, owned: OwnedObjects, number: int) -> tuple[Action, ...]:
    """Stop the Job before and remove older ones. Each step does so until it is done: an operator may have died in between."""
    older = [job for job in owned.jobs if job.role == stage.role and job.number < number]
    gone = [job for job in older if job.number < number - 1 and not job.deleting]
    return (
        *(Delete(Ref("Job", job.name), job.uid) for job in gone),
        *(Suspend(job.name) for job in older if job.active and job not in gone),
    )


def ordinary(stage: Stage, number: int) -> Fact:
    """Make the fact that the stage's condition shows from creation to end: each change of it would be a request."""
    name = stage.make(number)["metadata"]["name"]
    return Fact(False, stage.phase, f"Job {name} {stage.doing}")


def under_way(stage: Stage, round: Round, gang: Gang) -> Step:
    """Wait for a Job that is there, and say what keeps its pod, if anything does."""
    assert gang.job is not None
    observed = round.observed
    waiting = why_waiting(gang, observed.events, gang.job.created, round.now, round.settings.pod_diagnosis_seconds)
    unseen = out_of_sight(gang, trains=False)
    fact = waiting.fact or unseen or ordinary(stage, gang.number)
    facts = {stage.condition: fact} if waiting.known or unseen else {}
    return Step(
        stage.status(round, gang.number),
        facts=facts,
        actions=_retire(stage, round.owned, gang.number),
        requeue_after_seconds=soonest(waiting.look_again_seconds, look_at_nodes_again(observed, gang)),
        wants_references=doubtful_nodes(observed, gang),
        wants_events=waiting.ask,
    )


@dataclass(frozen=True)
class Fall:
    """End of a Job of the stage without success."""

    diagnosis: Diagnosis
    fact: Fact
    """Fact that the stage's condition shows of the fall."""
    ended: datetime
    due: datetime
    """Time from which the next Job may be made."""


def fallen(stage: Stage, round: Round, gang: Gang) -> Step | Fall:
    """Find out why the pod ended; return a step that waits until the evidence is in."""
    verdict = diagnose(gang)
    diagnosis = _in_words(verdict)
    ended = _ended(gang) or made_at(round, gang)
    known_by = ended + evidence_patience(round.settings)
    more_to_come = gang.job is not None and not verdict.final and round.now < known_by
    if more_to_come and not gang.living and not round.observed.listed:
        return wants_list(round)
    if more_to_come and gang.living and diagnosis.cause is not Cause.USER:
        look_again = look_at_nodes_again(round.observed, gang)
        return Step(
            stage.status(round, gang.number),
            requeue_after_seconds=soonest(seconds_until(known_by, round.now), look_again),
            wants_references=doubtful_nodes(round.observed, gang),
        )
    fact = Fact(False, str(diagnosis.reason), f"{diagnosis.message} What to do: {diagnosis.resolution}")
    tries = gang.number - stage.first + (1 if diagnosis.counts else 0)
    return Fall(diagnosis, fact, ended, ended + retry_delay(tries))


def again(stage: Stage, round: Round, gang: Gang, fall: Fall) -> Step | None:
    """Make the next Job where it is due, after a list; None where it is not due yet."""
    if round.now < fall.due:
        return None
    if not round.observed.listed:
        return wants_list(round)
    step = start(stage, round, gang.number + 1)
    return replace(step, status=step.status.model_copy(update={"failure": failure(fall.diagnosis, None)}))


def paused(stage: Stage, round: Round, gang: Gang, fall: Fall) -> Step:
    """Wait until the next Job is due."""
    left = seconds_until(fall.due, round.now)
    condition = conditions.find(round.status, stage.condition)
    same = condition is not None and condition.reason == fall.fact.reason
    text = f"{fall.fact.message} Tried again in {left:.0f} s at most."
    facts = {} if same else {stage.condition: replace(fall.fact, message=text)}
    return Step(stage.status(round, gang.number), facts=facts, requeue_after_seconds=left)


def caught_up(stage: Stage, round: Round, number: int, counted: Callable[[Round, Diagnosis], Round]) -> Round:
    """Catch up with a Job that was made before the status could be written: count and show the failures of the Jobs before it."""
    first = max(getattr(round.status, stage.number_field) or number, stage.first)
    for earlier in range(first, number):
        gang = stage.gang(round, earlier)
        if gang.job is not None and not stage.outdated(gang):
            diagnosis = _in_words(diagnose(gang))
            round = counted(round, diagnosis).with_fields(failure=failure(diagnosis, None))
    job = round.owned.job(stage.role, number)
    if job is not None and getattr(round.status, stage.number_field) != number:
        return round.with_budget(last_made=job.created)
    return round


def _in_words(verdict: Verdict) -> Diagnosis:
    """Word the way out of a verdict: what the cluster did to a pod needs nobody's help, and training does not go on here."""
    diagnosis = verdict.diagnosis
    if diagnosis.cause in (Cause.PREEMPTION, Cause.NODE):
        return replace(diagnosis, resolution="Nothing: it is tried again.")
    return diagnosis


def made_at(round: Round, gang: Gang) -> datetime:
    """Return when the present Job was made; where it is gone, as the status tells."""
    if gang.job is not None:
        return gang.job.created
    return round.status.budget.last_made or round.now - LONG_AGO


def _ended(gang: Gang) -> datetime | None:
    """Return when the pod began to end; None where nothing shows it."""
    moments = [
        moment
        for pod in gang.pods
        for moment in (pod.deleted_at, pod.trainer.ended_at if pod.trainer else None)
        if moment
    ]
    return min(moments, default=None)
