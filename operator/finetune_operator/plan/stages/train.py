"""The stage of training: one gang at a time, replaced as a whole when it falls, until success or the budget's end.

An attempt is created at once when the one before falls; the cause of that fall is charged when its evidence is in. Every
state can be told from status and objects alone, also when a status write was lost after its actions were carried out.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from finetune_operator.api.status import ConditionType, FineTuneJobStatus, ModelStatus, Nodes, Phase
from finetune_operator.plan import conditions
from finetune_operator.plan.conditions import Fact
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.observed.diagnosis import Diagnosis
from finetune_operator.plan.observed.gang import Gang, doubtful_nodes, look_at_nodes_again
from finetune_operator.plan.resolutions import ClusterReason, resolution
from finetune_operator.plan.stages import prepare, publish, restart_budget
from finetune_operator.plan.stages.round import Round
from finetune_operator.plan.stages.step import Step, fail, soonest, stamp, wants_list
from finetune_operator.plan.stages.train_failed import fail_by, fallen, gave_up_on, give_up
from finetune_operator.plan.stages.train_running import POLL_STARTING_SECONDS, alive, expired_by
from finetune_operator.plan.status import from_training
from finetune_operator.plan.types import Suspend
from finetune_trainer.contract.records import Cause, Progress

WATCH_LAG = timedelta(seconds=5)
"""Time in which a Job that was just made may not be among the observed objects yet."""


def current_attempt(round: Round) -> int:
    """Return the number of the newest attempt, be it in the status already or not; 0 where there was none."""
    return max(round.status.attempt or 0, round.owned.highest("train"))


def train(round: Round, current: int) -> Step:
    """Take one step of a job that trains: go on with the attempt, replace it, or end with its success."""
    round = _adopted(round, current)
    gang, before = round.attempt(current), round.attempt(current - 1)
    for candidate in (gang, before):
        if candidate.succeeded and candidate.number >= round.status.budget.first_attempt:
            return succeed(round, candidate)
    if gang.job is None and not round.observed.listed:
        just_made = round.now - (round.status.attempt_started or round.now) < WATCH_LAG
        return Step(round.status, requeue_after_seconds=POLL_STARTING_SECONDS) if just_made else wants_list(round)
    expired = round.status.attempt_ended is None and expired_by(round, gang)
    over = expired or round.status.attempt_ended is not None or gang.job is None or gang.fallen
    accounts = restart_budget.charge_finished_attempts(round, current, over=over)
    if accounts.fatal is not None:
        return fail_by(round, accounts)
    round = round.with_status(accounts.status)
    if over:
        return (give_up if expired else fallen)(round, gang)
    step = alive(round, gang)
    if round.status.budget.settled_attempt >= before.number:
        return step
    return replace(
        step,
        requeue_after_seconds=soonest(step.requeue_after_seconds, look_at_nodes_again(round.observed, before)),
        wants_references=tuple(dict.fromkeys((*step.wants_references, *doubtful_nodes(round.observed, before)))),
    )


def succeed(round: Round, gang: Gang) -> Step:
    """End training: the model is there. It is published next, where the job asks for that."""
    if not round.observed.listed:
        return wants_list(round)
    record, progress = gang.success, round.progress(gang.number)
    if progress is not None:
        round = round.with_status(from_training.with_progress(round.status, progress))
    if record is not None:
        round = round.with_status(
            from_training.with_final_step(from_training.with_record(round.status, record), record)
        )
    path = (record.model_path if record else None) or (progress.model_path if progress else None)
    done = round.with_fields(
        failure=None,
        nodes=Nodes(desired=gang.nodes, ready=gang.nodes),
        model=ModelStatus(claim_name=manifests.claim_name(round.job), path=_within_claim(round, gang.number, path)),
    )
    own_uid = gang.job.uid if gang.job else None
    others = tuple(Suspend(job.name) for job in round.owned.jobs if job.active and job.uid != own_uid)
    facts = {
        ConditionType.PREPARED: _prepared(round.status, progress),
        ConditionType.RUNNING: Fact(False, "Succeeded", "training is over"),
    }
    if conditions.holds(round.status, ConditionType.CHECKPOINT_LOST):
        facts[ConditionType.CHECKPOINT_LOST] = Fact(False, "Succeeded", "the model is there all the same")
    if round.job.spec.publish is not None:
        facts[ConditionType.PUBLISHED] = publish.beginning(round.job.spec.publish)
        return Step(publish.begin(done, 1).status, facts=facts, actions=others, requeue_after_seconds=0.0)
    finished = done.with_fields(phase=Phase.SUCCEEDED, completion_time=stamp(round.now))
    grace = float(round.settings.grace_period_seconds)
    return Step(finished.status, facts=facts, actions=others, requeue_after_seconds=grace)


def _prepared(status: FineTuneJobStatus, progress: Progress | None) -> Fact:
    """Return the fact of the condition Prepared: that of the prepare Job, or of node 0 where it prepared."""
    old = conditions.find(status, ConditionType.PREPARED)
    if old is not None and old.status == "True":
        return Fact(True, old.reason, old.message)
    return prepare.done(progress.prepared if progress is not None else None)


def out_of_time(round: Round) -> Step:
    """End the job: its time is over."""
    limit = round.job.spec.active_deadline_seconds
    reason = ClusterReason.DEADLINE
    diagnosis = Diagnosis(
        Cause.USER, reason, f"the job was not done after activeDeadlineSeconds ({limit} s).", resolution(reason)
    )
    return fail(round, diagnosis, attempt=round.status.attempt)


def _adopted(round: Round, current: int) -> Round:
    """Catch up with an attempt that was created before the status could be written."""
    if round.status.attempt == current:
        return round
    for attempt in range(round.status.attempt or 0, current):
        status = round.status
        if attempt >= status.budget.first_attempt and not (attempt == status.attempt and status.attempt_ended):
            round = restart_budget.close_attempt(round, round.attempt(attempt))
    status, job = round.status, round.owned.job("train", current)
    restarted = current > status.budget.first_attempt and not gave_up_on(status)
    return round.with_fields(
        phase=Phase.RESTARTING if restarted or status.phase is Phase.RESTARTING else Phase.STARTING,
        attempt=current,
        attempt_started=job.created if job else stamp(round.now),
        attempt_begun=None,
        attempt_ended=None,
        resumed_from=None,
    )


def _within_claim(round: Round, attempt: int, path: str | None) -> str:
    """Return the folder of the model within the claim, from its path in the pods."""
    config = manifests.run_config(round.job, round.settings)
    if path is None:
        return f"{config.job}/runs/{config.uid}/attempts/{attempt}/model"
    return path.removeprefix(config.output).lstrip("/")
