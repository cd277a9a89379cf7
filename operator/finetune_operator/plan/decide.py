"""`decide`: what was observed in, the next step out. Right whenever it is called, however often, and after any restart.

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
from finetune_operator.plan.observed.gang import progress_of, training_gang
from finetune_operator.plan.observed.objects import OwnedObjects, owned_objects
from finetune_operator.plan.stages import prepare, publish, train, train_start, validate
from finetune_operator.plan.stages import step as steps
from finetune_operator.plan.stages.step import Step
from finetune_operator.plan.stages.validate import SpecProblem
from finetune_operator.plan.status import from_training
from finetune_operator.plan.status.events import transitions
from finetune_operator.plan.types import Decision, Delete, Manifest, Observed, Ref, Suspend
from finetune_trainer.contract.records import Cause

WAIT_FIRST_SECONDS = 2.0
WAIT_MAX_SECONDS = 60.0


def decide(observed: Observed) -> Decision:
    job = observed.job
    if job.metadata.deletion_timestamp is not None:
        return Decision(status=to_json(job.status))  # garbage collection does the cleaning
    members = owned_objects(observed)
    status = _new_round(observed, members, job.status)
    if status.phase in conditions.TERMINAL:
        step = _rest(observed, members, status)
    elif status.phase is Phase.PUBLISHING:
        step = publish.publish(observed, members, _absorbed(observed, status))
    else:
        step = _advance(observed, members, _absorbed(observed, status))
    return _decision(observed, step)


def to_json(status: FineTuneJobStatus) -> Manifest:
    """A status as the API server speaks it; nothing where nothing was observed yet."""
    if status == FineTuneJobStatus():
        return {}
    return status.model_dump(mode="json", by_alias=True, exclude_none=True)


def _advance(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus) -> Step:
    current = train.current_attempt(members, status)
    if current >= status.budget.first_attempt:
        step = _undone(observed, members, status, current) or _training(observed, members, status, current)
    else:
        step = _before_training(observed, members, status)
    if step.status.phase in (*conditions.TERMINAL, Phase.PUBLISHING) or step.wants_list:
        return step
    limit, began = observed.job.spec.active_deadline_seconds, step.status.budget.started
    if limit is None or began is None:
        return step
    left = steps.seconds_until(began + timedelta(seconds=limit), observed.now)
    if left == 0:
        return train.out_of_time(observed, members, status if status.budget.started else step.status)
    return replace(step, requeue_after_seconds=steps.soonest(step.requeue_after_seconds, left))


def _training(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus, current: int) -> Step:
    if (status.attempt or 0) >= status.budget.first_attempt:
        return train.train(observed, members, status, current)
    # The round's first attempt was created, but the status that says so was not written: all of it is told now.
    unknown = _unknown_references(observed)
    if unknown:
        return Step(observed.job.status, wants_references=unknown, requeue_after_seconds=WAIT_FIRST_SECONDS)
    accepted = _accepted(observed, status)
    prepared = prepare.prepare(observed, members, accepted)
    facts: Facts = {ConditionType.VALIDATED: VALID}
    if not isinstance(prepared, Step):
        accepted, facts = prepared.status, {**facts, ConditionType.PREPARED: prepared.fact}
    step = train.train(observed, members, accepted, current)
    return step if step.wants_list else replace(step, facts={**facts, **step.facts})


def _accepted(observed: Observed, status: FineTuneJobStatus) -> FineTuneJobStatus:
    """What is said of a valid job, whatever comes of it."""
    started = steps.stamp(observed.now)
    claim = ClaimStatus(name=manifests.claim_name(observed.job), access_mode=validate.access_mode(observed))
    budget = status.budget.model_copy(update={"started": status.budget.started or started})
    return status.model_copy(update={"start_time": status.start_time or started, "budget": budget, "claim": claim})


def _unknown_references(observed: Observed) -> tuple[Ref, ...]:
    return tuple(ref for ref in validate.needed(observed.job, observed.references) if ref not in observed.references)


def _before_training(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus) -> Step:
    unknown = _unknown_references(observed)
    if unknown:
        return Step(observed.job.status, wants_references=unknown, requeue_after_seconds=WAIT_FIRST_SECONDS)
    first = status.budget.first_attempt
    planned = (*train_start.planned(observed, first, status), *prepare.planned(observed, members, status))
    found = validate.problems(observed, planned)
    if found:
        return _invalid(observed, members, status, found)
    if (refused := steps.refused(observed, status, planned)) is not None:
        return refused
    accepted = _accepted(observed, status)
    if (claim := manifests.claim(observed.job)) is not None and (made := steps.creates(observed, (claim,))):
        # Alone: if the name turns out to be another's, no pod may ever have written there.
        return Step(observed.job.status, actions=made, requeue_after_seconds=0.0)
    prepared = prepare.prepare(observed, members, accepted)
    if isinstance(prepared, Step):
        return replace(prepared, facts={ConditionType.VALIDATED: VALID, **prepared.facts})
    facts = {ConditionType.VALIDATED: VALID, ConditionType.PREPARED: prepared.fact}
    return train_start.start(observed, members, prepared.status, first, facts)


def _undone(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus, attempt: int) -> Step | None:
    """A name that a round's first attempt needs was taken, as its creation found: take back the attempt, and wait."""
    if attempt != status.budget.first_attempt or status.attempt_begun is not None or status.attempt_ended is not None:
        return None
    gang = training_gang(observed, members, attempt)
    if gang.job is None or gang.fallen or gang.succeeded or progress_of(observed, attempt) is not None:
        return None
    planned = train_start.planned(observed, attempt, status)
    blocked = tuple(problem for problem in (validate.taken(observed, one) for one in planned) if problem is not None)
    if not blocked:
        return None
    back = status.model_copy(update={"attempt": attempt - 1 or None, "attempt_started": None})
    waiting = _invalid(observed, members, back, blocked)
    return replace(waiting, actions=(Delete(Ref("Job", gang.job.name), gang.job.uid),))


def _invalid(
    observed: Observed, members: OwnedObjects, status: FineTuneJobStatus, found: tuple[SpecProblem, ...]
) -> Step:
    """Wait for what something else can mend, fail for what only an edit can."""
    fatal = next((problem for problem in found if not problem.mendable), None)
    told = fatal or found[0]
    message = "; ".join(problem.message for problem in found)
    fact = Fact(False, told.reason, message)
    if fatal is not None:
        diagnosis = Diagnosis(Cause.USER, told.reason, message, "Edit the spec: that starts the job again.")
        return steps.fail(observed, members, status, diagnosis, facts={ConditionType.VALIDATED: fact})
    return Step(
        status.model_copy(update={"phase": Phase.PENDING}),
        facts={ConditionType.VALIDATED: fact},
        requeue_after_seconds=_waiting_seconds(observed),
        wants_references=validate.needed(observed.job, observed.references),
    )


def _waiting_seconds(observed: Observed) -> float:
    """The longer it has been so, the more rarely we look: 2 s to 60 s."""
    condition = conditions.find(observed.job.status, ConditionType.VALIDATED)
    if condition is None or condition.status == "True":
        return WAIT_FIRST_SECONDS
    age = (observed.now - condition.last_transition_time).total_seconds()
    return min(max(age, WAIT_FIRST_SECONDS), WAIT_MAX_SECONDS)


def _new_round(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus) -> FineTuneJobStatus:
    """A failed job starts again when `retry` was raised, or, before its first attempt, when its spec was edited."""
    if status.model is not None:
        return publish.new_round(observed, members, status)
    spec, attempt = observed.job.spec, status.attempt or 0
    edited = attempt == 0 and status.observed_generation != observed.job.metadata.generation
    if status.phase is not Phase.FAILED or not (edited or spec.retry > status.budget.retry):
        return status
    budget = Budget(
        retry=spec.retry,
        first_attempt=attempt + 1,
        errors_before=status.restarts.error,
        first_prepare=(status.prepare_attempt or 0) + 1,  # model and data may have been mended
        settled_attempt=attempt,
        furthest_step=status.budget.furthest_step,
        checkpoint_step=status.budget.checkpoint_step,
    )
    cleared = {
        "attempt_started": None,
        "attempt_begun": None,
        "attempt_ended": None,
        "completion_time": None,
        "failure": None,
    }
    return status.model_copy(update={"phase": Phase.PENDING, "budget": budget, **cleared})


def _absorbed(observed: Observed, status: FineTuneJobStatus) -> FineTuneJobStatus:
    """`retry` raised while nothing has failed asks for nothing; it must not start a round at a later failure."""
    budget = status.budget.model_copy(update={"retry": observed.job.spec.retry})
    return status.model_copy(update={"budget": budget, "phase": status.phase or Phase.PENDING})


def _rest(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus) -> Step:
    """A finished job holds nothing: its pods have their grace period to end, then they are told to."""
    active = tuple(job for job in members.jobs if job.active)
    if not active or status.completion_time is None:
        return Step(status)
    grace = timedelta(seconds=observed.settings.grace_period_seconds if status.phase is Phase.SUCCEEDED else 0)
    left = steps.seconds_until(status.completion_time + grace, observed.now)
    if left > 0:
        return Step(status, requeue_after_seconds=left)
    return Step(status, actions=tuple(Suspend(job.name) for job in active))


def _decision(observed: Observed, step: Step) -> Decision:
    """The step with what follows from it: conditions, summary, events. A status that only ticks on is left as it is."""
    job = observed.job
    asked = Decision(
        actions=step.actions,
        status=to_json(job.status),
        requeue_after_seconds=step.requeue_after_seconds,
        wants_list=step.wants_list,
        wants_references=step.wants_references,
    )
    if step.status is job.status and not step.facts and job.status.phase not in conditions.TERMINAL:
        return asked  # something has to be known or made first
    generation = job.metadata.generation
    dressed = step.status.model_copy(
        update={"observed_generation": generation, "operator": _mark(observed, step.status)}
    )
    before = dressed.model_copy(update={"conditions": job.status.conditions})
    publishes = job.spec.publish is not None
    given = conditions.build(
        before, _facts(job.status.phase, before, step.facts), generation, observed.now, publishes=publishes
    )
    new = from_training.with_summary(dressed.model_copy(update={"conditions": given}), job)
    if _only_ticked(observed, new):
        new = job.status
    return replace(
        asked,
        status=to_json(new),
        events=transitions(job, job.status, new),
        wants_events=step.wants_events,
        wants_progress=step.wants_progress,
    )


def _mark(observed: Observed, status: FineTuneJobStatus) -> str | None:
    """Of this operator. A job that is over keeps the mark that it has: it is not written for that alone."""
    old = observed.job.status
    if old.phase in conditions.TERMINAL and status.phase in conditions.TERMINAL:
        return old.operator
    return observed.settings.operator or None


def _facts(written: Phase | None, status: FineTuneJobStatus, given: Facts) -> Facts:
    """What a step states, and what follows for the other conditions where it ends the job, or starts it again."""
    was_over, is_over = written in conditions.TERMINAL, status.phase in conditions.TERMINAL
    if was_over == is_over:
        return given
    return conditions.at_the_end(status, given) if is_over else conditions.begun_anew(status, given)


def _only_ticked(observed: Observed, new: FineTuneJobStatus) -> bool:
    """Whether nothing but the progress differs, and the one that is written is still young: a later look writes it."""
    old = observed.job.status
    if old.progress is None or new.progress is None or old.progress.updated is None or new.progress.updated is None:
        return False
    ticking = ("progress", "summary")
    if new.model_copy(update={name: getattr(old, name) for name in ticking}) != old:
        return False
    age = (observed.now - old.progress.updated).total_seconds()
    return age < observed.settings.progress_interval_seconds
