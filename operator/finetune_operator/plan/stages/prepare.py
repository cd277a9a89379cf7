"""The stage before training: one prepare Job at a time, until one has succeeded for what the spec says now."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from finetune_operator.api.status import ConditionType, FineTuneJobStatus, Phase
from finetune_operator.plan import conditions
from finetune_operator.plan.conditions import Fact
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.observed.diagnosis import Diagnosis
from finetune_operator.plan.observed.gang import Gang
from finetune_operator.plan.observed.objects import OwnedObjects
from finetune_operator.plan.resolutions import ClusterReason
from finetune_operator.plan.stages import single_pod_job
from finetune_operator.plan.stages.single_pod_job import Stage
from finetune_operator.plan.stages.step import RETRY_MAX_SECONDS, Step, fail, retry_delay, seconds_until, wants_list
from finetune_operator.plan.status import from_training
from finetune_operator.plan.types import Manifest, Observed
from finetune_trainer.contract.prepared import PrepareSummary
from finetune_trainer.contract.records import Cause, Reason

QUICK = timedelta(seconds=RETRY_MAX_SECONDS)
"""An edit sooner than this after the Job was made that it replaces is one of a row."""
EDITED_AGAIN = (
    "the spec was edited again: a prepare Job of what it says now is made after a pause, which grows with each edit"
)


@dataclass(frozen=True)
class PrepareOutcome:
    """Preparing is over."""

    status: FineTuneJobStatus
    fact: Fact


def prepare(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus) -> Step | PrepareOutcome:
    job = observed.job
    if not manifests.needs_prepare_job(job, observed.settings):
        return PrepareOutcome(status, Fact(None, "Inline", "node 0 of the attempt prepares model and data"))
    old = conditions.find(status, ConditionType.PREPARED)
    made = (status.prepare_attempt or 0) >= status.budget.first_prepare
    known = made and old is not None and old.status == "True"
    if known and old is not None and (status.attempt or old.observed_generation == job.metadata.generation):
        return PrepareOutcome(status, Fact(True, old.reason, old.message))
    stage = _stage(observed, status)
    number = stage.number(members, status)
    if number < stage.first:
        return single_pod_job.start(stage, observed, members, status, stage.first)
    status = single_pod_job.caught_up(stage, observed, members, status, number, _counted)
    gang = stage.gang(observed, members, number)
    if stage.outdated(gang):
        return _replaced(stage, observed, members, status, gang)
    if gang.succeeded:
        return _succeeded(status, gang)
    if gang.job is None and not observed.listed:
        return wants_list(observed)
    if gang.job is None or gang.fallen:
        return _fallen(stage, observed, members, status, gang)
    return single_pod_job.under_way(stage, observed, members, status, gang)


def planned(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus) -> tuple[Manifest, ...]:
    """The prepare Job that there is or will be first; none where node 0 of the attempt prepares."""
    if not manifests.needs_prepare_job(observed.job, observed.settings):
        return ()
    stage = _stage(observed, status)
    return (stage.manifest(max(stage.number(members, status), stage.first)),)


def _stage(observed: Observed, status: FineTuneJobStatus) -> Stage:
    job, settings = observed.job, observed.settings
    # The Service too: if its name is taken we know it now.
    beside = (manifests.claim(job), manifests.config_map(job, settings), manifests.service(job))
    return Stage(
        role="prepare",
        phase=Phase.PREPARING,
        condition=ConditionType.PREPARED,
        number_field="prepare_attempt",
        first=status.budget.first_prepare,
        doing="prepares model and data",
        make=lambda number: manifests.prepare_job(job, settings, number),
        digest=single_pod_job.digest_of(job),
        beside=tuple(one for one in beside if one is not None),
    )


def _replaced(stage: Stage, observed: Observed, members: OwnedObjects, status: FineTuneJobStatus, gang: Gang) -> Step:
    """The spec was edited: a Job made from what it says now follows, at once; what failed before does not count.

    Edits that follow one another quickly are not all followed: the pause grows, as before any other repetition.
    """
    made = single_pod_job.made_at(observed, status, gang)
    edits = status.budget.quick_edits if observed.now < made + QUICK else 0
    due = made + retry_delay(edits)
    if observed.now < due:
        return Step(
            stage.at(status, gang.number),
            facts={stage.condition: Fact(False, stage.phase, EDITED_AGAIN)},
            requeue_after_seconds=seconds_until(due, observed.now),
        )
    if not observed.listed:
        return wants_list(observed)
    following = gang.number + 1
    fresh = {"first_prepare": following, "prepare_errors": 0, "quick_edits": edits + 1}
    edited = status.model_copy(update={"budget": status.budget.model_copy(update=fresh)})
    return single_pod_job.start(stage, observed, members, edited, following)


def _succeeded(status: FineTuneJobStatus, gang: Gang) -> PrepareOutcome:
    record = gang.success
    told = from_training.with_record(status, record) if record is not None else status
    fact = done(record.prepared if record is not None else None)
    return PrepareOutcome(told.model_copy(update={"prepare_attempt": gang.number}), fact)


def done(summary: PrepareSummary | None) -> Fact:
    """Preparing is over, and what it gave."""
    said = "model and data are prepared"
    return Fact(True, "Prepared", f"{said}: {summary.text}" if summary is not None else said)


def _fallen(stage: Stage, observed: Observed, members: OwnedObjects, status: FineTuneJobStatus, gang: Gang) -> Step:
    """Try again what may succeed then; what the user must mend fails at once."""
    fall = single_pod_job.fallen(stage, observed, status, gang)
    if isinstance(fall, Step):
        return fall
    facts = {ConditionType.PREPARED: fall.fact}
    if fall.diagnosis.cause is Cause.USER:
        return fail(observed, members, status, fall.diagnosis, facts=facts)
    counted = _counted(status, fall.diagnosis)
    if counted.budget.prepare_errors > observed.job.spec.backoff_limit:
        return fail(observed, members, counted, fall.diagnosis, verdict=ClusterReason.BACKOFF_LIMIT, facts=facts)
    following = single_pod_job.again(stage, observed, members, counted, gang, fall)
    return following or single_pod_job.paused(stage, observed, status, gang, fall)


def _counted(status: FineTuneJobStatus, diagnosis: Diagnosis) -> FineTuneJobStatus:
    """A Hub that is down is nobody's mistake, and waiting for it takes no accelerator: it costs nothing of the budget."""
    errors = status.budget.prepare_errors + (diagnosis.counts and diagnosis.reason != Reason.HUB_UNAVAILABLE)
    return status.model_copy(update={"budget": status.budget.model_copy(update={"prepare_errors": errors})})
