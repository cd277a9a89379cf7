"""The stage of training: one gang at a time, replaced as a whole when it falls, until success or the budget's end.

An attempt is created at once when the one before falls; why that one fell is settled when its evidence is in. Every
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
from finetune_operator.plan.observed.gang import Gang, doubtful_nodes, look_at_nodes_again, progress_of, training_gang
from finetune_operator.plan.observed.objects import OwnedObjects
from finetune_operator.plan.resolutions import ClusterReason, resolution
from finetune_operator.plan.stages import prepare, publish, restart_budget
from finetune_operator.plan.stages.step import Step, fail, soonest, stamp, wants_list
from finetune_operator.plan.stages.train_failed import fallen, gave_up_on, give_up, verdict_of
from finetune_operator.plan.stages.train_running import POLL_STARTING_SECONDS, alive, expired_by
from finetune_operator.plan.status import from_training
from finetune_operator.plan.types import Observed, Suspend
from finetune_trainer.contract.records import Cause, Progress

WATCH_LAG = timedelta(seconds=5)
"""A Job that was just made may not be in what we see yet."""


def current_attempt(members: OwnedObjects, status: FineTuneJobStatus) -> int:
    return max(status.attempt or 0, members.highest("train"))


def train(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus, current: int) -> Step:
    """One step of a job that has begun training."""
    status = _adopted(observed, members, status, current)
    gang = training_gang(observed, members, current)
    before = training_gang(observed, members, current - 1)
    for candidate in (gang, before):
        if candidate.succeeded and candidate.number >= status.budget.first_attempt:
            return succeed(observed, members, status, candidate)
    if gang.job is None and not observed.listed:
        just_made = observed.now - (status.attempt_started or observed.now) < WATCH_LAG
        return Step(status, requeue_after_seconds=POLL_STARTING_SECONDS) if just_made else wants_list(observed)
    expired = status.attempt_ended is None and expired_by(observed, status, gang)
    over = expired or status.attempt_ended is not None or gang.job is None or gang.fallen
    books = restart_budget.charge_finished_attempts(observed, members, status, current, over=over)
    if books.fatal is not None:
        return verdict_of(observed, members, books)
    status = books.status
    if over:
        return (give_up if expired else fallen)(observed, members, status, gang)
    step = alive(observed, members, status, gang)
    if status.budget.settled_attempt >= before.number:
        return step
    return replace(
        step,
        requeue_after_seconds=soonest(step.requeue_after_seconds, look_at_nodes_again(observed, before)),
        wants_references=tuple(dict.fromkeys((*step.wants_references, *doubtful_nodes(observed, before)))),
    )


def succeed(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus, gang: Gang) -> Step:
    if not observed.listed:
        return wants_list(observed)
    record, told = gang.success, progress_of(observed, gang.number)
    if told is not None:
        status = from_training.with_progress(status, told)
    if record is not None:
        status = from_training.with_final_step(from_training.with_record(status, record), record)
    path = (record.model_path if record else None) or (told.model_path if told else None)
    done = status.model_copy(
        update={
            "failure": None,
            "nodes": Nodes(desired=gang.nodes, ready=gang.nodes),
            "model": ModelStatus(
                claim_name=manifests.claim_name(observed.job), path=_within_claim(observed, gang.number, path)
            ),
        }
    )
    others = tuple(
        Suspend(job.name) for job in members.jobs if job.active and job.uid != (gang.job.uid if gang.job else None)
    )
    facts = {
        ConditionType.PREPARED: _prepared(status, told),
        ConditionType.RUNNING: Fact(False, "Succeeded", "training is over"),
    }
    if conditions.holds(status, ConditionType.CHECKPOINT_LOST):
        facts[ConditionType.CHECKPOINT_LOST] = Fact(False, "Succeeded", "the model is there all the same")
    if observed.job.spec.publish is not None:
        facts[ConditionType.PUBLISHED] = publish.beginning(observed)
        return Step(publish.begin(observed, done, 1), facts=facts, actions=others, requeue_after_seconds=0.0)
    over = done.model_copy(update={"phase": Phase.SUCCEEDED, "completion_time": stamp(observed.now)})
    return Step(over, facts=facts, actions=others, requeue_after_seconds=float(observed.settings.grace_period_seconds))


def _prepared(status: FineTuneJobStatus, told: Progress | None) -> Fact:
    """As the prepare Job said it; where node 0 prepared, as that told."""
    old = conditions.find(status, ConditionType.PREPARED)
    if old is not None and old.status == "True":
        return Fact(True, old.reason, old.message)
    return prepare.done(told.prepared if told is not None else None)


def out_of_time(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus) -> Step:
    limit = observed.job.spec.active_deadline_seconds
    reason = ClusterReason.DEADLINE
    diagnosis = Diagnosis(
        Cause.USER, reason, f"the job was not done after activeDeadlineSeconds ({limit} s).", resolution(reason)
    )
    return fail(observed, members, status, diagnosis, attempt=status.attempt)


def _adopted(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus, current: int) -> FineTuneJobStatus:
    """The status, caught up with an attempt that was created before the status could be written."""
    if status.attempt == current:
        return status
    for attempt in range(status.attempt or 0, current):
        if attempt >= status.budget.first_attempt and not (attempt == status.attempt and status.attempt_ended):
            status = restart_budget.close_attempt(observed, status, training_gang(observed, members, attempt))
    job = members.job("train", current)
    restarted = current > status.budget.first_attempt and not gave_up_on(status)
    return status.model_copy(
        update={
            "phase": Phase.RESTARTING if restarted or status.phase is Phase.RESTARTING else Phase.STARTING,
            "attempt": current,
            "attempt_started": job.created if job else stamp(observed.now),
            "attempt_begun": None,
            "attempt_ended": None,
            "resumed_from": None,
        }
    )


def _within_claim(observed: Observed, attempt: int, path: str | None) -> str:
    """Folder of the model within the claim, from its path in the pods."""
    config = manifests.run_config(observed.job, observed.settings)
    if path is None:
        return f"{config.job}/runs/{config.uid}/attempts/{attempt}/model"
    return path.removeprefix(config.output).lstrip("/")
