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
from finetune_operator.plan.resolutions import ClusterReason
from finetune_operator.plan.stages import single_pod_job
from finetune_operator.plan.stages.round import Round
from finetune_operator.plan.stages.single_pod_job import Stage
from finetune_operator.plan.stages.step import RETRY_MAX_SECONDS, Step, fail, retry_delay, seconds_until, wants_list
from finetune_operator.plan.status import from_training
from finetune_operator.plan.types import Manifest
from finetune_trainer.contract.prepared import PrepareSummary
from finetune_trainer.contract.records import Cause, Reason

QUICK = timedelta(seconds=RETRY_MAX_SECONDS)
"""Time after the creation of a Job in which an edit that replaces it is a quick one: a row of these makes the pause longer."""
EDITED_AGAIN = (
    "the spec was edited again: a prepare Job of what it says now is made after a pause, which grows with each edit"
)


@dataclass(frozen=True)
class PrepareOutcome:
    """Outcome of preparing: the status, and what the condition Prepared says."""

    status: FineTuneJobStatus
    fact: Fact


def prepare(round: Round) -> Step | PrepareOutcome:
    """Take one step of preparing; return its outcome where model and data are prepared."""
    job, status = round.job, round.status
    if not manifests.needs_prepare_job(job, round.settings):
        return PrepareOutcome(status, Fact(None, "Inline", "node 0 of the attempt prepares model and data"))
    old = conditions.find(status, ConditionType.PREPARED)
    has_job = (status.prepare_attempt or 0) >= status.budget.first_prepare
    known = has_job and old is not None and old.status == "True"
    if known and old is not None and (status.attempt or old.observed_generation == job.metadata.generation):
        return PrepareOutcome(status, Fact(True, old.reason, old.message))
    stage = _stage(round)
    number = stage.number(round)
    if number < stage.first:
        return single_pod_job.start(stage, round, stage.first)
    round = single_pod_job.caught_up(stage, round, number, _counted)
    gang = stage.gang(round, number)
    if stage.outdated(gang):
        return _replaced(stage, round, gang)
    if gang.succeeded:
        return _succeeded(round.status, gang)
    if gang.job is None and not round.observed.listed:
        return wants_list(round)
    if gang.job is None or gang.fallen:
        return _fallen(stage, round, gang)
    return single_pod_job.under_way(stage, round, gang)


def planned(round: Round) -> tuple[Manifest, ...]:
    """Return the newest prepare Job, or the first one to be made; none where node 0 of the attempt prepares."""
    if not manifests.needs_prepare_job(round.job, round.settings):
        return ()
    stage = _stage(round)
    return (stage.manifest(max(stage.number(round), stage.first)),)


def _stage(round: Round) -> Stage:
    job, settings = round.job, round.settings
    # The Service too, so that a taken name shows now.
    beside = (manifests.claim(job), manifests.config_map(job, settings), manifests.service(job))
    return Stage(
        role="prepare",
        phase=Phase.PREPARING,
        condition=ConditionType.PREPARED,
        number_field="prepare_attempt",
        first=round.status.budget.first_prepare,
        doing="prepares model and data",
        make=lambda number: manifests.prepare_job(job, settings, number),
        digest=single_pod_job.digest_of(job),
        beside=tuple(manifest for manifest in beside if manifest is not None),
    )


def _replaced(stage: Stage, round: Round, gang: Gang) -> Step:
    """Make a Job of the edited spec at once; earlier failures do not count.

    Not each of many quick edits gets a Job: the pause before the next one grows, as before any other repetition.
    """
    made_at = single_pod_job.made_at(round, gang)
    edits = round.status.budget.quick_edits if round.now < made_at + QUICK else 0
    due = made_at + retry_delay(edits)
    if round.now < due:
        return Step(
            stage.status(round, gang.number),
            facts={stage.condition: Fact(False, stage.phase, EDITED_AGAIN)},
            requeue_after_seconds=seconds_until(due, round.now),
        )
    if not round.observed.listed:
        return wants_list(round)
    following = gang.number + 1
    edited = round.with_budget(first_prepare=following, prepare_errors=0, quick_edits=edits + 1)
    return single_pod_job.start(stage, edited, following)


def _succeeded(status: FineTuneJobStatus, gang: Gang) -> PrepareOutcome:
    record = gang.success
    status = from_training.with_record(status, record) if record is not None else status
    fact = done(record.prepared if record is not None else None)
    return PrepareOutcome(status.model_copy(update={"prepare_attempt": gang.number}), fact)


def done(summary: PrepareSummary | None) -> Fact:
    """Make the fact that preparing is over, with its summary."""
    text = "model and data are prepared"
    return Fact(True, "Prepared", f"{text}: {summary.text}" if summary is not None else text)


def _fallen(stage: Stage, round: Round, gang: Gang) -> Step:
    """Try again where that may succeed; fail at once where the user must mend the cause."""
    fall = single_pod_job.fallen(stage, round, gang)
    if isinstance(fall, Step):
        return fall
    facts = {ConditionType.PREPARED: fall.fact}
    if fall.diagnosis.cause is Cause.USER:
        return fail(round, fall.diagnosis, facts=facts)
    counted = _counted(round, fall.diagnosis)
    if counted.status.budget.prepare_errors > round.job.spec.backoff_limit:
        return fail(counted, fall.diagnosis, verdict=ClusterReason.BACKOFF_LIMIT, facts=facts)
    return single_pod_job.again(stage, counted, gang, fall) or single_pod_job.paused(stage, round, gang, fall)


def _counted(round: Round, diagnosis: Diagnosis) -> Round:
    """Count an error that is worth another try.

    A Hub that is down is nobody's mistake, and waiting for it takes no accelerator: it costs nothing of the budget.
    """
    counts = diagnosis.counts and diagnosis.reason != Reason.HUB_UNAVAILABLE
    return round.with_budget(prepare_errors=round.status.budget.prepare_errors + counts)
