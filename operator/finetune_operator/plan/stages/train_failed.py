"""An attempt that is over without success: who pays, whether there is another, and when."""

from __future__ import annotations

from finetune_operator.api.status import ConditionType, FineTuneJobStatus, Phase
from finetune_operator.plan.conditions import Fact
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.observed.diagnosis import Diagnosis, diagnose
from finetune_operator.plan.observed.gang import Gang, doubtful_nodes, look_at_nodes_again
from finetune_operator.plan.observed.objects import OwnedObjects
from finetune_operator.plan.resolutions import ClusterReason, resolution, with_way_out
from finetune_operator.plan.stages import restart_budget
from finetune_operator.plan.stages.step import Step, evidence_patience, fail, failure, seconds_until, soonest, stamp
from finetune_operator.plan.stages.train_start import start
from finetune_operator.plan.status import from_training
from finetune_operator.plan.types import Observed, Suspend
from finetune_trainer.contract.records import Cause, Reason


def fallen(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus, gang: Gang) -> Step:
    """The gang is over. The next one starts now, or when it is due, or never."""
    ended = status.attempt_ended or stamp(restart_budget.ended_at(gang, observed.now))
    gave_up = gave_up_on(status)
    verdict = diagnose(gang)
    settled = status.budget.settled_attempt >= gang.number
    if status.attempt_ended is None:
        status = restart_budget.close_attempt(observed, status, gang)
    record = gang.records.get(0)
    status = from_training.with_record(status, record) if record is not None and not settled else status
    guess_due = ended + evidence_patience(observed)
    may_go_on = restart_budget.may_go_on(
        observed, status, verdict, gang.number
    )  # then the next attempt may tell what we do not know
    if not settled and (verdict.final or (observed.now >= guess_due and not may_go_on)):
        books = restart_budget.charge(observed, status, gang.number, verdict.diagnosis)
        if books.fatal is not None:
            return verdict_of(observed, members, books)
        status, settled = books.status, True
    due = ended + restart_budget.pause(status, gave_up=gave_up)
    if observed.now >= due and (settled or may_go_on):
        over = {"attempt_ended": ended, "phase": status.phase if gave_up else Phase.RESTARTING}
        restarting = status.model_copy(update=over)
        if _needs_preparing(observed, status, gang):
            return _prepare_again(restarting, gang)
        return start(observed, members, restarting, gang.number + 1, {})
    update = {"attempt_ended": ended, "phase": status.phase if gave_up else Phase.RESTARTING}
    again = max(0.1, seconds_until(due if observed.now < due else guess_due, observed.now))
    return Step(
        from_training.with_nodes(status.model_copy(update=update), gang, observed.now),
        facts={ConditionType.RUNNING: _fallen_fact(gang, verdict.diagnosis)} if not gave_up else {},
        actions=(Suspend(gang.job.name),) if gang.job is not None and gang.job.active else (),
        requeue_after_seconds=soonest(again, look_at_nodes_again(observed, gang)),
        wants_references=doubtful_nodes(observed, gang),
    )


def _needs_preparing(observed: Observed, status: FineTuneJobStatus, gang: Gang) -> bool:
    """Whether the attempt fell by prepared data that only a prepare Job can make again."""
    failed = status.failure
    damaged = failed is not None and failed.attempt == gang.number and failed.reason == Reason.PREPARED_DAMAGED
    return damaged and manifests.needs_prepare_job(observed.job, observed.settings)


def _prepare_again(status: FineTuneJobStatus, gang: Gang) -> Step:
    """Back to preparing, within the same budget: what it makes anew is what the next attempt begins with."""
    assert status.failure is not None
    ahead = {"first_attempt": gang.number + 1, "first_prepare": (status.prepare_attempt or 0) + 1}
    update = {
        "phase": Phase.PREPARING,
        "budget": status.budget.model_copy(update=ahead),
        "attempt_started": None,
        "attempt_begun": None,
        "attempt_ended": None,
    }
    damaged = Fact(False, status.failure.reason, status.failure.message)
    return Step(
        status.model_copy(update=update),
        facts={ConditionType.PREPARED: damaged, ConditionType.RUNNING: damaged},
        actions=(Suspend(gang.job.name),) if gang.job is not None and gang.job.active else (),
        requeue_after_seconds=0.0,
    )


def give_up(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus, gang: Gang) -> Step:
    """The pods did not start in time: what they hold goes back, and the attempt costs nothing."""
    running = next((condition for condition in status.conditions if condition.type is ConditionType.RUNNING), None)
    why = f" ({running.reason}: {running.message})" if running is not None and running.reason != "Starting" else ""
    reason = ClusterReason.START_DEADLINE
    limit = observed.job.spec.start_deadline_seconds
    text = f"attempt {gang.number} had not begun after startDeadlineSeconds ({limit} s){why}"
    diagnosis = Diagnosis(Cause.PREEMPTION, reason, text, resolution(reason))
    closed = restart_budget.write_off(restart_budget.close_attempt(observed, status, gang), gang.number)
    closed = closed.model_copy(
        update={"attempt_ended": stamp(observed.now), "failure": failure(diagnosis, gang.number)}
    )
    return Step(
        from_training.with_nodes(closed, gang, observed.now),
        facts={ConditionType.RUNNING: Fact(False, reason, text)},
        actions=(Suspend(gang.job.name),) if gang.job is not None and gang.job.active else (),
        requeue_after_seconds=restart_budget.pause(closed, gave_up=True).total_seconds(),
    )


def gave_up_on(status: FineTuneJobStatus) -> bool:
    """Whether the present attempt was ended by us because it did not begin."""
    failed = status.failure
    return status.attempt_ended is not None and failed is not None and failed.reason == ClusterReason.START_DEADLINE


def verdict_of(observed: Observed, members: OwnedObjects, books: restart_budget.Accounts) -> Step:
    assert books.fatal is not None
    verdict = ClusterReason.BACKOFF_LIMIT if books.over_budget else None
    facts = {ConditionType.RUNNING: Fact(False, str(books.fatal.reason), books.fatal.message)}
    return fail(observed, members, books.status, books.fatal, attempt=books.attempt, verdict=verdict, facts=facts)


def _fallen_fact(gang: Gang, diagnosis: Diagnosis) -> Fact:
    text = f"attempt {gang.number} ended: {with_way_out(diagnosis.message, diagnosis.resolution)}"
    return Fact(False, str(diagnosis.reason), text)
