"""An attempt that is over without success: who pays, whether another follows, and when."""

from __future__ import annotations

from finetune_operator.api.status import ConditionType, FineTuneJobStatus, Phase
from finetune_operator.plan.conditions import Fact, find
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.observed.diagnosis import Diagnosis, diagnose
from finetune_operator.plan.observed.gang import Gang, doubtful_nodes, look_at_nodes_again
from finetune_operator.plan.resolutions import ClusterReason, resolution, with_way_out
from finetune_operator.plan.stages import restart_budget
from finetune_operator.plan.stages.round import Round
from finetune_operator.plan.stages.step import Step, evidence_patience, fail, failure, seconds_until, soonest, stamp
from finetune_operator.plan.stages.train_start import start
from finetune_operator.plan.status import from_training
from finetune_operator.plan.types import Suspend
from finetune_trainer.contract.records import Cause, Reason


def fallen(round: Round, gang: Gang) -> Step:
    """Start the attempt after one that has fallen: now, or when it is due, or never."""
    ended = round.status.attempt_ended or stamp(restart_budget.ended_at(gang, round.now))
    gave_up = gave_up_on(round.status)
    verdict = diagnose(gang)
    accounted = round.status.budget.settled_attempt >= gang.number
    if round.status.attempt_ended is None:
        round = restart_budget.close_attempt(round, gang)
    record = gang.records.get(0)
    if record is not None and not accounted:
        round = round.with_status(from_training.with_record(round.status, record))
    guess_due = ended + evidence_patience(round.settings)
    may_go_on = restart_budget.may_go_on(round, verdict, gang.number)  # the next attempt may tell what we do not know
    if not accounted and (verdict.final or (round.now >= guess_due and not may_go_on)):
        accounts = restart_budget.charge(round, gang.number, verdict.diagnosis)
        if accounts.fatal is not None:
            return fail_by(round, accounts)
        round, accounted = round.with_status(accounts.status), True
    due = ended + restart_budget.pause(round.status, gave_up=gave_up)
    round = round.with_fields(attempt_ended=ended, phase=round.status.phase if gave_up else Phase.RESTARTING)
    if round.now >= due and (accounted or may_go_on):
        return _prepare_again(round, gang) if _needs_preparing(round, gang) else start(round, gang.number + 1, {})
    again = max(0.1, seconds_until(due if round.now < due else guess_due, round.now))
    diagnosis = verdict.diagnosis
    text = f"attempt {gang.number} ended: {with_way_out(diagnosis.message, diagnosis.resolution)}"
    return Step(
        from_training.with_nodes(round.status, gang, round.now),
        facts={ConditionType.RUNNING: Fact(False, str(diagnosis.reason), text)} if not gave_up else {},
        actions=(Suspend(gang.job.name),) if gang.job is not None and gang.job.active else (),
        requeue_after_seconds=soonest(again, look_at_nodes_again(round.observed, gang)),
        wants_references=doubtful_nodes(round.observed, gang),
    )


def _needs_preparing(round: Round, gang: Gang) -> bool:
    """Return whether the attempt fell by prepared data that only a prepare Job can make again."""
    failed = round.status.failure
    damaged = failed is not None and failed.attempt == gang.number and failed.reason == Reason.PREPARED_DAMAGED
    return damaged and manifests.needs_prepare_job(round.job, round.settings)


def _prepare_again(round: Round, gang: Gang) -> Step:
    """Go back to preparing, within the same budget: the next attempt begins with the data that it makes anew."""
    failed = round.status.failure
    assert failed is not None
    ahead = round.with_budget(first_attempt=gang.number + 1, first_prepare=(round.status.prepare_attempt or 0) + 1)
    damaged = Fact(False, failed.reason, failed.message)
    return Step(
        ahead.with_fields(phase=Phase.PREPARING, attempt_started=None, attempt_begun=None, attempt_ended=None).status,
        facts={ConditionType.PREPARED: damaged, ConditionType.RUNNING: damaged},
        actions=(Suspend(gang.job.name),) if gang.job is not None and gang.job.active else (),
        requeue_after_seconds=0.0,
    )


def give_up(round: Round, gang: Gang) -> Step:
    """End an attempt whose pods did not start in time: they give back what they hold, and the attempt costs nothing."""
    running = find(round.status, ConditionType.RUNNING)
    why = f" ({running.reason}: {running.message})" if running is not None and running.reason != "Starting" else ""
    reason = ClusterReason.START_DEADLINE
    limit = round.job.spec.start_deadline_seconds
    text = f"attempt {gang.number} had not begun after startDeadlineSeconds ({limit} s){why}"
    diagnosis = Diagnosis(Cause.PREEMPTION, reason, text, resolution(reason))
    closed = restart_budget.close_attempt(round, gang).with_budget(settled_attempt=gang.number)
    closed = closed.with_fields(attempt_ended=stamp(round.now), failure=failure(diagnosis, gang.number))
    return Step(
        from_training.with_nodes(closed.status, gang, round.now),
        facts={ConditionType.RUNNING: Fact(False, reason, text)},
        actions=(Suspend(gang.job.name),) if gang.job is not None and gang.job.active else (),
        requeue_after_seconds=restart_budget.pause(closed.status, gave_up=True).total_seconds(),
    )


def gave_up_on(status: FineTuneJobStatus) -> bool:
    """Return whether the operator ended the present attempt because it did not begin."""
    failed = status.failure
    return status.attempt_ended is not None and failed is not None and failed.reason == ClusterReason.START_DEADLINE


def fail_by(round: Round, accounts: restart_budget.Accounts) -> Step:
    """End the job by the attempt that the accounts name."""
    fatal = accounts.fatal
    assert fatal is not None
    verdict = ClusterReason.BACKOFF_LIMIT if accounts.over_budget else None
    facts = {ConditionType.RUNNING: Fact(False, str(fatal.reason), fatal.message)}
    return fail(round.with_status(accounts.status), fatal, attempt=accounts.attempt, verdict=verdict, facts=facts)
