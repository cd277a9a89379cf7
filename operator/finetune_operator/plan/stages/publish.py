"""The stage after training: when its pods have ended, one publish Job at a time, until the model is on the Hub.

Publishing begins with a status that says so, written before anything is made: its deadline counts from there, for all
its Jobs and for every operator. Raising `spec.retry` begins it again; training is never touched again.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from finetune_operator.api.spec import PublishSpec
from finetune_operator.api.status import ConditionType, HubModel, Phase
from finetune_operator.plan import conditions
from finetune_operator.plan.conditions import VALID, Fact
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.observed.diagnosis import Diagnosis
from finetune_operator.plan.observed.gang import Gang, lost_nodes
from finetune_operator.plan.observed.objects import PodView
from finetune_operator.plan.stages import single_pod_job
from finetune_operator.plan.stages.round import Round
from finetune_operator.plan.stages.single_pod_job import Stage
from finetune_operator.plan.stages.step import Step, evidence_patience, fail, seconds_until, soonest, stamp, wants_list
from finetune_operator.plan.status import from_training
from finetune_operator.plan.types import Observed, Ref, Suspend
from finetune_trainer.contract.records import Cause, Reason

PODS_SECONDS = 5.0
"""Seconds between two looks at training pods that have not ended; the watch tells earlier."""
DEADLINE_REASON = "PublishDeadlineExceeded"
RECORDS_MAX = 2
"""Repetitions, at most, of a complete Job whose pod left no record: publishing again finds its own commit."""

ADVICE = {
    Reason.ACCESS_DENIED: (
        "Put a token that may write to the repository into the Secret of `spec.hub.tokenSecretRef`, or correct "
        "`spec.publish.repoId`."
    ),
}
"""Way out where publishing needs something else than preparing does for the same reason."""


def begin(round: Round, first: int) -> Round:
    """Begin to publish. `first`: number of the first Job."""
    begun = round.with_budget(first_publish=first, publish_started=stamp(round.now))
    return begun.with_fields(phase=Phase.PUBLISHING, completion_time=None, failure=None)


def beginning(publish_spec: PublishSpec) -> Fact:
    """Make the fact that the condition Published shows before the first Job is made."""
    return Fact(False, Phase.PUBLISHING, f"the model goes to {publish_spec.repo_id} when the training pods have ended")


def started_again(round: Round) -> Round:
    """Publish anew where `retry` was raised for a job that has its model and is not published."""
    spec, status = round.job.spec, round.status
    published = status.model is not None and status.model.hub is not None
    unasked = spec.publish is None and status.phase is Phase.SUCCEEDED
    if spec.retry <= status.budget.retry or published or unasked:
        return round
    last = max(status.publish_attempt or 0, round.owned.highest("publish"))
    return begin(round, last + 1).with_budget(retry=spec.retry)


def publish(round: Round) -> Step:
    """Take one step of a job whose training has succeeded."""
    publish_spec, written, status = round.job.spec.publish, round.written, round.status
    if publish_spec is None:  # taken out of the spec after publishing had failed
        return _finished(round)
    if (written.phase, written.budget.publish_started) != (status.phase, status.budget.publish_started):
        return Step(status, facts={ConditionType.PUBLISHED: beginning(publish_spec)}, requeue_after_seconds=0.0)
    step = _next(round, publish_spec)
    if step.wants_list:
        return step
    stops, later = _stop_training(round)
    return replace(
        step,
        facts={ConditionType.VALIDATED: VALID, **step.facts},
        actions=(*step.actions, *(stop for stop in stops if stop not in step.actions)),
        requeue_after_seconds=soonest(step.requeue_after_seconds, later),
    )


def _next(round: Round, publish_spec: PublishSpec) -> Step:
    """Make, watch or repeat the publish Job."""
    stage = _stage(round, publish_spec)
    number = stage.number(round)
    if number < stage.first:
        holding = _holding(round)
        return _wait_for_pods(round, holding) if holding else single_pod_job.start(stage, round, stage.first)
    round = single_pod_job.caught_up(stage, round, number, lambda round, _: round)
    gang = stage.gang(round, number)
    if (gang.succeeded or gang.job is None) and not round.observed.listed:
        return wants_list(round)
    if gang.succeeded:
        return _succeeded(stage, round, gang)
    if gang.job is None or gang.fallen:
        return _fallen(stage, round, publish_spec, gang)
    return _under_way(stage, round, publish_spec, gang)


def _stage(round: Round, publish_spec: PublishSpec) -> Stage:
    job, settings, deadline = round.job, round.settings, _deadline(round, publish_spec)
    return Stage(
        role="publish",
        phase=Phase.PUBLISHING,
        condition=ConditionType.PUBLISHED,
        number_field="publish_attempt",
        first=round.status.budget.first_publish,
        doing=f"publishes the model to {publish_spec.repo_id}",
        make=lambda number: manifests.publish_job(job, settings, number, deadline),
        digest=single_pod_job.digest_of(job),
        # Not the claim: one that was deleted is not replaced by an empty one.
        beside=(manifests.config_map(job, settings),),
    )


def _deadline(round: Round, publish_spec: PublishSpec) -> datetime:
    """Return the time until which publishing is tried again: the same for all Jobs."""
    began = round.status.budget.publish_started or stamp(round.now)
    return began + timedelta(seconds=publish_spec.deadline_seconds)


def _wait_for_pods(round: Round, holding: tuple[PodView, ...]) -> Step:
    """Wait for the end of training pods: accelerators are given back before anything is published."""
    silent = sorted({pod.node for pod in holding if pod.node and pod.running and pod.ready is False})
    return Step(
        round.status,
        requeue_after_seconds=PODS_SECONDS,
        wants_references=tuple(Ref("Node", name) for name in silent) if round.observed.nodes is not None else (),
    )


def _holding(round: Round) -> tuple[PodView, ...]:
    """List the training pods that may hold accelerators. One that was told to end long ago is left out: its end will not show."""
    lost, patience = lost_nodes(round.observed), evidence_patience(round.settings)
    return tuple(
        pod
        for pod in round.owned.pods
        if pod.role == "train"
        and not pod.gone
        and pod.phase not in ("Succeeded", "Failed")
        and (pod.node is not None or pod.phase == "Running")
        and pod.node not in lost
        and not (pod.deleted_at is not None and round.now >= pod.deleted_at + patience)
    )


def _stop_training(round: Round) -> tuple[tuple[Suspend, ...], float | None]:
    """Tell the pods of training to end once they have had their grace period to do so by themselves."""
    active = tuple(Suspend(job.name) for job in round.owned.jobs if job.role == "train" and job.active)
    began = round.status.budget.publish_started or round.now
    left = seconds_until(began + timedelta(seconds=round.settings.grace_period_seconds), round.now)
    if not active or left > 0:
        return (), left if active else None
    return active, None


def _under_way(stage: Stage, round: Round, publish_spec: PublishSpec, gang: Gang) -> Step:
    """Wait for the publish Job as long as there is time, then fail."""
    step = single_pod_job.under_way(stage, round, gang)
    # A pod that runs ends by itself at the deadline, and tells the reason.
    slack = timedelta(0) if gang.first is None else evidence_patience(round.settings)
    left = seconds_until(_deadline(round, publish_spec) + slack, round.now)
    if left > 0:
        return replace(step, requeue_after_seconds=soonest(step.requeue_after_seconds, left))
    obstacle = step.facts.get(stage.condition) or _written_fact(round.observed)
    ordinary = obstacle is None or obstacle.reason == Phase.PUBLISHING
    reason, why = (DEADLINE_REASON, "") if obstacle is None or ordinary else (obstacle.reason, f" {obstacle.message}")
    text = f"the model was not published in time: publish Job {gang.number} did not end.{why}"
    return _failed(round, Diagnosis(Cause.ERROR, reason, text, "See why its pod did not go on."))


def _written_fact(observed: Observed) -> Fact | None:
    """Return the fact of the condition Published as it is written."""
    condition = conditions.find(observed.job.status, ConditionType.PUBLISHED)
    return Fact(False, condition.reason, condition.message) if condition is not None else None


def _succeeded(stage: Stage, round: Round, gang: Gang) -> Step:
    """End the job: the model is on the Hub. A Job whose pod did not say where is repeated first."""
    record = gang.success
    hub = record.hub if record is not None else None
    if hub is None and gang.number - stage.first < RECORDS_MAX:
        return single_pod_job.start(stage, round, gang.number + 1)
    if record is not None:
        round = round.with_fields(messages=from_training.merged(round.status.messages, record.messages))
    text = "the model is published, but no pod has told where"
    if hub is not None and round.status.model is not None:
        model = round.status.model.model_copy(update={"hub": HubModel.model_validate(hub.model_dump())})
        round = round.with_fields(model=model)
        text = f"the model is at {hub.url} (commit {hub.commit})"
    return _finished(round.with_fields(publish_attempt=gang.number), Fact(True, "Published", text))


def _finished(round: Round, fact: Fact | None = None) -> Step:
    """End the job as succeeded."""
    done = round.with_fields(phase=Phase.SUCCEEDED, completion_time=stamp(round.now), failure=None)
    grace = float(round.settings.grace_period_seconds)
    return Step(done.status, facts={ConditionType.PUBLISHED: fact} if fact else {}, requeue_after_seconds=grace)


def _fallen(stage: Stage, round: Round, publish_spec: PublishSpec, gang: Gang) -> Step:
    """Try again while there is time; fail at once where the user must mend the cause."""
    fall = single_pod_job.fallen(stage, round, gang)
    if isinstance(fall, Step):
        return fall
    diagnosis = fall.diagnosis
    if diagnosis.cause is Cause.USER:
        return _failed(round, diagnosis)
    if max(round.now, fall.due) >= _deadline(round, publish_spec):
        limit = from_training.duration(publish_spec.deadline_seconds)
        diagnosis = replace(
            diagnosis, message=f"{diagnosis.message} It was tried for {limit} (publish.deadlineSeconds)."
        )
        if diagnosis.cause in (Cause.PREEMPTION, Cause.NODE):
            diagnosis = replace(diagnosis, resolution="See what took its pods away.")
        return _failed(round, diagnosis)
    return single_pod_job.again(stage, round, gang, fall) or single_pod_job.paused(stage, round, gang, fall)


def _failed(round: Round, diagnosis: Diagnosis) -> Step:
    """End the job as failed. The model stays on the claim: the advice ends with how to publish it without training."""
    advice = next((text for reason, text in ADVICE.items() if reason == diagnosis.reason), diagnosis.resolution)
    retry = "" if "`spec.retry`" in advice else " Then raise `spec.retry`."
    kept = f"{retry} The model is kept: it is published without training again."
    advice = advice if diagnosis.reason == Reason.MODEL_DAMAGED else f"{advice}{kept}"
    fact = Fact(False, str(diagnosis.reason), f"{diagnosis.message} What to do: {advice}")
    return fail(round, replace(diagnosis, resolution=advice), facts={ConditionType.PUBLISHED: fact})
