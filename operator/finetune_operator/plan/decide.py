"""`decide`: from the observed objects to the next step. It may be called at any time, however often, and after any restart.

There is no memory but status and objects. This module orders the stages: validation, preparing, training, publishing,
the end.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from finetune_operator.api.status import Budget, ClaimStatus, ConditionType, FineTuneJobStatus, Phase
from finetune_operator.plan import conditions
from finetune_operator.plan.conditions import VALID, Fact, Facts
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.observed.diagnosis import Diagnosis
from finetune_operator.plan.stages import prepare, publish, spec_checks, train, train_start
from finetune_operator.plan.stages import step as steps
from finetune_operator.plan.stages.round import Round
from finetune_operator.plan.stages.spec_checks import SpecProblem
from finetune_operator.plan.stages.step import Step
from finetune_operator.plan.status import from_training
from finetune_operator.plan.status.events import transitions
from finetune_operator.plan.types import Decision, Delete, Manifest, Observed, Ref, Suspend
from finetune_trainer.contract.records import Cause

WAIT_FIRST_SECONDS = 2.0
WAIT_MAX_SECONDS = 60.0


def decide(observed: Observed) -> Decision:
    """Decide the next step of a job, from everything that is known of it now."""
    job = observed.job
    if job.metadata.deletion_timestamp is not None:
        return Decision(status=to_json(job.status))  # garbage collection does the cleaning
    observed = replace(observed, settings=observed.settings.of_job(job))
    round = _started_again(Round.of(observed))
    if round.status.phase in conditions.TERMINAL:
        step = _rest(round)
    elif round.status.phase is Phase.PUBLISHING:
        step = publish.publish(_absorbed(round))
    else:
        step = _advance(_absorbed(round))
    return _decision(observed, step)


def to_json(status: FineTuneJobStatus) -> Manifest:
    """Return a status as the API server takes it; an empty one where nothing was observed yet."""
    if status == FineTuneJobStatus():
        return {}
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def _advance(round: Round) -> Step:
    """Take one step of a job that prepares or trains; end it where its time is over."""
    current = train.current_attempt(round)
    trains = current >= round.status.budget.first_attempt
    step = (_undone(round, current) or _training(round, current)) if trains else _before_training(round)
    if step.status.phase in (*conditions.TERMINAL, Phase.PUBLISHING) or step.wants_list:
        return step
    limit, began = round.job.spec.active_deadline_seconds, step.status.budget.started
    if limit is None or began is None:
        return step
    left = steps.seconds_until(began + timedelta(seconds=limit), round.now)
    if left == 0:
        return train.out_of_time(round if round.status.budget.started else round.with_status(step.status))
    return replace(step, requeue_after_seconds=steps.soonest(step.requeue_after_seconds, left))


def _training(round: Round, current: int) -> Step:
    """Take one step of a job that has an attempt, whether or not the status shows it yet."""
    if (round.status.attempt or 0) >= round.status.budget.first_attempt:
        return train.train(round, current)
    # The first attempt was created, but the status that says so was not written: it is decided anew, as a whole.
    unknown = _unknown_references(round.observed)
    if unknown:
        return Step(round.written, wants_references=unknown, requeue_after_seconds=WAIT_FIRST_SECONDS)
    accepted = _accepted(round)
    prepared = prepare.prepare(accepted)
    facts: Facts = {ConditionType.VALIDATED: VALID}
    if not isinstance(prepared, Step):
        accepted, facts = accepted.with_status(prepared.status), {**facts, ConditionType.PREPARED: prepared.fact}
    step = train.train(accepted, current)
    return step if step.wants_list else replace(step, facts={**facts, **step.facts})


def _accepted(round: Round) -> Round:
    """Add to the status of a valid job its start, its claim and the claim's access mode."""
    started = steps.stamp(round.now)
    claim = ClaimStatus(name=manifests.claim_name(round.job), access_mode=spec_checks.access_mode(round.observed))
    return round.with_budget(started=round.status.budget.started or started).with_fields(
        start_time=round.status.start_time or started, claim=claim
    )


def _unknown_references(observed: Observed) -> tuple[Ref, ...]:
    return tuple(ref for ref in spec_checks.needed(observed.job, observed.references) if ref not in observed.references)


def _before_training(round: Round) -> Step:
    """Validate and prepare a job that has no attempt yet, then start its first attempt."""
    unknown = _unknown_references(round.observed)
    if unknown:
        return Step(round.written, wants_references=unknown, requeue_after_seconds=WAIT_FIRST_SECONDS)
    first = round.status.budget.first_attempt
    planned = (*train_start.planned(round, first), *prepare.planned(round))
    problems = spec_checks.problems(round.observed, planned)
    if problems:
        return _invalid(round, problems)
    if (refused := steps.refused(round, planned)) is not None:
        return refused
    accepted = _accepted(round)
    if (claim := manifests.claim(round.job)) is not None and (creation := steps.creates(round, (claim,))):
        # The claim is created alone: if its name turns out to be taken, no pod may have written to it.
        return Step(round.written, actions=creation, requeue_after_seconds=0.0)
    prepared = prepare.prepare(accepted)
    if isinstance(prepared, Step):
        return replace(prepared, facts={ConditionType.VALIDATED: VALID, **prepared.facts})
    facts = {ConditionType.VALIDATED: VALID, ConditionType.PREPARED: prepared.fact}
    return train_start.start(accepted.with_status(prepared.status), first, facts)


def _undone(round: Round, attempt: int) -> Step | None:
    """Take the first attempt back and wait, where its creation has shown that one of its names is taken."""
    status = round.status
    if attempt != status.budget.first_attempt or status.attempt_begun is not None or status.attempt_ended is not None:
        return None
    gang = round.attempt(attempt)
    if gang.job is None or gang.fallen or gang.succeeded or round.progress(attempt) is not None:
        return None
    planned = train_start.planned(round, attempt)
    checked = (spec_checks.taken(round.observed, manifest) for manifest in planned)
    blocked = tuple(problem for problem in checked if problem is not None)
    if not blocked:
        return None
    waiting = _invalid(round.with_fields(attempt=attempt - 1 or None, attempt_started=None), blocked)
    return replace(waiting, actions=(Delete(Ref("Job", gang.job.name), gang.job.uid),))


def _invalid(round: Round, problems: tuple[SpecProblem, ...]) -> Step:
    """Wait where something other than an edit can mend the problems, else fail."""
    fatal = next((problem for problem in problems if not problem.mendable), None)
    reason = (fatal or problems[0]).reason
    message = "; ".join(problem.message for problem in problems)
    fact = Fact(False, reason, message)
    if fatal is not None:
        diagnosis = Diagnosis(Cause.USER, reason, message, "Edit the spec: that starts the job again.")
        return steps.fail(round, diagnosis, facts={ConditionType.VALIDATED: fact})
    return Step(
        round.with_fields(phase=Phase.PENDING).status,
        facts={ConditionType.VALIDATED: fact},
        requeue_after_seconds=_waiting_seconds(round.observed),
        wants_references=spec_checks.needed(round.job, round.observed.references),
    )


def _waiting_seconds(observed: Observed) -> float:
    """Return the seconds until the next look, 2 to 60: the longer the spec has been invalid, the more."""
    condition = conditions.find(observed.job.status, ConditionType.VALIDATED)
    if condition is None or condition.status == "True":
        return WAIT_FIRST_SECONDS
    age = (observed.now - condition.last_transition_time).total_seconds()
    return min(max(age, WAIT_FIRST_SECONDS), WAIT_MAX_SECONDS)


def _started_again(round: Round) -> Round:
    """Start a failed job again where `retry` was raised, or, before its first attempt, where its spec was edited."""
    spec, status, attempt = round.job.spec, round.status, round.status.attempt or 0
    if status.model is not None:
        return publish.started_again(round)
    edited = attempt == 0 and status.observed_generation != round.job.metadata.generation
    if status.phase is not Phase.FAILED or not (edited or spec.retry > status.budget.retry):
        return round
    budget = Budget(
        retry=spec.retry,
        first_attempt=attempt + 1,
        errors_before=status.restarts.error,
        first_prepare=(status.prepare_attempt or 0) + 1,  # model and data may have been mended
        settled_attempt=attempt,
        furthest_step=status.budget.furthest_step,
        checkpoint_step=status.budget.checkpoint_step,
    )
    return round.with_fields(
        phase=Phase.PENDING,
        budget=budget,
        attempt_started=None,
        attempt_begun=None,
        attempt_ended=None,
        completion_time=None,
        failure=None,
    )


def _absorbed(round: Round) -> Round:
    """Take note of a `retry` that was raised while nothing had failed: it must not start the job again at a later failure."""
    return round.with_budget(retry=round.job.spec.retry).with_fields(phase=round.status.phase or Phase.PENDING)


def _rest(round: Round) -> Step:
    """Free the resources of a finished job: its pods have their grace period to end, then they are told to."""
    status = round.status
    active = tuple(job for job in round.owned.jobs if job.active)
    if not active or status.completion_time is None:
        return Step(status)
    grace = timedelta(seconds=round.settings.grace_period_seconds if status.phase is Phase.SUCCEEDED else 0)
    left = steps.seconds_until(status.completion_time + grace, round.now)
    if left > 0:
        return Step(status, requeue_after_seconds=left)
    return Step(status, actions=tuple(Suspend(job.name) for job in active))


def _decision(observed: Observed, step: Step) -> Decision:
    """Complete a step with conditions, summary and events. A status of which only the progress is new is left as it is."""
    job = observed.job
    decision = Decision(
        actions=step.actions,
        status=to_json(job.status),
        requeue_after_seconds=step.requeue_after_seconds,
        wants_list=step.wants_list,
        wants_references=step.wants_references,
    )
    if step.status is job.status and not step.facts and job.status.phase not in conditions.TERMINAL:
        return decision  # something has to be known or made first
    generation = job.metadata.generation
    marked = step.status.model_copy(
        update={"observed_generation": generation, "operator": _mark(observed, step.status)}
    )
    before = marked.model_copy(update={"conditions": job.status.conditions})
    publishes = job.spec.publish is not None
    facts = _facts(job.status.phase, before, step.facts)
    present = conditions.build(before, facts, generation, observed.now, publishes=publishes)
    new = from_training.with_summary(marked.model_copy(update={"conditions": present}), job)
    if _only_ticked(observed, new):
        new = job.status
    return replace(
        decision,
        status=to_json(new),
        events=transitions(job, job.status, new),
        wants_events=step.wants_events,
        wants_progress=step.wants_progress,
    )


def _mark(observed: Observed, status: FineTuneJobStatus) -> str | None:
    """Return the mark of this operator. A job that is over keeps its mark: its status is not written for that alone."""
    old = observed.job.status
    if old.phase in conditions.TERMINAL and status.phase in conditions.TERMINAL:
        return old.operator
    return observed.settings.operator or None


def _facts(written: Phase | None, status: FineTuneJobStatus, stated: Facts) -> Facts:
    """Return the facts of a step, and those of the other conditions where the step ends the job, or starts it again."""
    was_over, is_over = written in conditions.TERMINAL, status.phase in conditions.TERMINAL
    if was_over == is_over:
        return stated
    return conditions.at_the_end(status, stated) if is_over else conditions.begun_anew(status, stated)


def _only_ticked(observed: Observed, new: FineTuneJobStatus) -> bool:
    """Return whether only the progress differs, and the written one is still young: a later decision writes the new one."""
    old = observed.job.status
    if old.progress is None or new.progress is None or old.progress.updated is None or new.progress.updated is None:
        return False
    ticking = ("progress", "summary")
    if new.model_copy(update={name: getattr(old, name) for name in ticking}) != old:
        return False
    age = (observed.now - old.progress.updated).total_seconds()
    return age < observed.settings.progress_interval_seconds
