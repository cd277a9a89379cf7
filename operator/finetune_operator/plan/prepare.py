"""The stage before training: one prepare Job at a time, until one has succeeded for what the spec says now."""

from __future__ import annotations

from dataclasses import dataclass

from finetune_operator.api.status import ConditionType, FineTuneJobStatus, Phase
from finetune_operator.plan import children, conditions, report, single
from finetune_operator.plan.conditions import Fact
from finetune_operator.plan.diagnosis import Diagnosis
from finetune_operator.plan.gang import Gang
from finetune_operator.plan.resolutions import ClusterReason
from finetune_operator.plan.single import Stage
from finetune_operator.plan.steps import Step, fail, wants_list
from finetune_operator.plan.types import Manifest, Observed
from finetune_operator.plan.view import Family
from finetune_trainer.config import Cause, PrepareSummary, Reason


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
    stage = _stage(observed, status)
    number = stage.number(members, status)
    if number < stage.first:
        return single.start(stage, observed, members, status, stage.first)
    status = single.caught_up(stage, observed, members, status, number, _counted)
    gang = stage.gang(observed, members, number)
    if stage.outdated(gang):
        if not observed.listed:
            return wants_list(observed)
        return single.start(stage, observed, members, _new_budget(status, number + 1), number + 1)
    if gang.succeeded:
        return _succeeded(status, gang)
    if gang.job is None and not observed.listed:
        return wants_list(observed)
    if gang.job is None or gang.fallen:
        return _fallen(stage, observed, members, status, gang)
    return single.under_way(stage, observed, members, status, gang)


def planned(observed: Observed, members: Family, status: FineTuneJobStatus) -> tuple[Manifest, ...]:
    """The prepare Job that there is or will be first; none where node 0 of the attempt prepares."""
    if not children.needs_prepare_job(observed.job, observed.settings):
        return ()
    stage = _stage(observed, status)
    return (stage.manifest(max(stage.number(members, status), stage.first)),)


def _stage(observed: Observed, status: FineTuneJobStatus) -> Stage:
    job, settings = observed.job, observed.settings
    # The Service too: if its name is taken we know it now.
    beside = (children.claim(job), children.config_map(job, settings), children.service(job))
    return Stage(
        role="prepare",
        phase=Phase.PREPARING,
        condition=ConditionType.PREPARED,
        number_field="prepare_attempt",
        first=status.budget.first_prepare,
        doing="prepares model and data",
        make=lambda number: children.prepare_job(job, settings, number),
        digest=single.digest_of(children.prepare_job(job, settings, 0)),
        beside=tuple(one for one in beside if one is not None),
    )


def _new_budget(status: FineTuneJobStatus, number: int) -> FineTuneJobStatus:
    """The spec was edited: what failed before does not count."""
    return status.model_copy(
        update={"budget": status.budget.model_copy(update={"first_prepare": number, "prepare_errors": 0})}
    )


def _succeeded(status: FineTuneJobStatus, gang: Gang) -> Prepared:
    record = gang.success
    told = report.with_record(status, record) if record is not None else status
    fact = done(record.prepared if record is not None else None)
    return Prepared(told.model_copy(update={"prepare_attempt": gang.number}), fact)


def done(summary: PrepareSummary | None) -> Fact:
    """Preparing is over, and what it gave."""
    said = "model and data are prepared"
    return Fact(True, "Prepared", f"{said}: {summary.text}" if summary is not None else said)


def _fallen(stage: Stage, observed: Observed, members: Family, status: FineTuneJobStatus, gang: Gang) -> Step:
    """Try again what may succeed then; what the user must mend fails at once."""
    fall = single.fallen(stage, observed, status, gang)
    if isinstance(fall, Step):
        return fall
    facts = {ConditionType.PREPARED: fall.fact}
    if fall.diagnosis.cause is Cause.USER:
        return fail(observed, members, status, fall.diagnosis, facts=facts)
    counted = _counted(status, fall.diagnosis)
    if counted.budget.prepare_errors > observed.job.spec.backoff_limit:
        return fail(observed, members, counted, fall.diagnosis, verdict=ClusterReason.BACKOFF_LIMIT, facts=facts)
    following = single.again(stage, observed, members, counted, gang, fall)
    return following or single.paused(stage, observed, status, gang, fall)


def _counted(status: FineTuneJobStatus, diagnosis: Diagnosis) -> FineTuneJobStatus:
    """A Hub that is down is nobody's mistake, and waiting for it takes no accelerator: it costs nothing of the budget."""
    errors = status.budget.prepare_errors + (diagnosis.counts and diagnosis.reason != Reason.HUB_UNAVAILABLE)
    return status.model_copy(update={"budget": status.budget.model_copy(update={"prepare_errors": errors})})
