"""The stage after training: when its pods have ended, one publish Job at a time, until the model is on the Hub.

A round begins with a status that says so, written before anything is made in it: its deadline counts from there, for
all its Jobs and for every operator. Raising `spec.retry` begins another round; training is never touched again.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

from finetune_operator.api.status import ConditionType, FineTuneJobStatus, HubModel, Phase
from finetune_operator.plan import conditions
from finetune_operator.plan.conditions import VALID, Fact
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.observed.diagnosis import Diagnosis
from finetune_operator.plan.observed.gang import Gang, lost_nodes
from finetune_operator.plan.observed.objects import OwnedObjects, PodView
from finetune_operator.plan.stages import single_pod_job
from finetune_operator.plan.stages.single_pod_job import Stage
from finetune_operator.plan.stages.step import Step, evidence_patience, fail, seconds_until, soonest, stamp, wants_list
from finetune_operator.plan.status import from_training
from finetune_operator.plan.types import Observed, Ref, Suspend
from finetune_trainer.contract.records import Cause, Reason

PODS_SECONDS = 5.0
"""Between two looks at training pods that have not ended; the watch tells earlier."""
DEADLINE_REASON = "PublishDeadlineExceeded"
RECORDS_MAX = 2
"""A Job that is complete and whose pod told nothing is repeated so often: publishing again finds its own commit."""

ADVICE = {
    Reason.ACCESS_DENIED: (
        "Put a token that may write to the repository into the Secret of `spec.hub.tokenSecretRef`, or correct "
        "`spec.publish.repoId`."
    ),
}
"""What to do where publishing needs something else than preparing does for the same reason."""


def begin(observed: Observed, status: FineTuneJobStatus, first: int) -> FineTuneJobStatus:
    """A round of publishing begins. `first`: number of its first Job."""
    budget = status.budget.model_copy(update={"first_publish": first, "publish_started": stamp(observed.now)})
    return status.model_copy(
        update={"phase": Phase.PUBLISHING, "budget": budget, "completion_time": None, "failure": None}
    )


def beginning(observed: Observed) -> Fact:
    assert observed.job.spec.publish is not None
    repository = observed.job.spec.publish.repo_id
    return Fact(False, Phase.PUBLISHING, f"the model goes to {repository} when the training pods have ended")


def new_round(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus) -> FineTuneJobStatus:
    """A job that has its model and is not published publishes anew where `retry` was raised."""
    spec = observed.job.spec
    published = status.model is not None and status.model.hub is not None
    unasked = spec.publish is None and status.phase is Phase.SUCCEEDED
    if spec.retry <= status.budget.retry or published or unasked:
        return status
    last = max(status.publish_attempt or 0, members.highest("publish"))
    begun = begin(observed, status, last + 1)
    return begun.model_copy(update={"budget": begun.budget.model_copy(update={"retry": spec.retry})})


def publish(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus) -> Step:
    """One step of a job whose training has succeeded."""
    written = observed.job.status
    if observed.job.spec.publish is None:  # taken out of the spec after it had failed
        return _finished(observed, status)
    if (written.phase, written.budget.publish_started) != (status.phase, status.budget.publish_started):
        return Step(status, facts={ConditionType.PUBLISHED: beginning(observed)}, requeue_after_seconds=0.0)
    step = _next(observed, members, status)
    if step.wants_list:
        return step
    stops, later = _stop_training(observed, members, status)
    return replace(
        step,
        facts={ConditionType.VALIDATED: VALID, **step.facts},
        actions=(*step.actions, *(stop for stop in stops if stop not in step.actions)),
        requeue_after_seconds=soonest(step.requeue_after_seconds, later),
    )


def _next(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus) -> Step:
    stage = _stage(observed, status)
    number = stage.number(members, status)
    if number < stage.first:
        holding = _holding(observed, members)
        if holding:
            return _wait_for_pods(observed, status, holding)
        return single_pod_job.start(stage, observed, members, status, stage.first)
    status = single_pod_job.caught_up(stage, observed, members, status, number, lambda status, _: status)
    gang = stage.gang(observed, members, number)
    if (gang.succeeded or gang.job is None) and not observed.listed:
        return wants_list(observed)
    if gang.succeeded:
        return _succeeded(stage, observed, members, status, gang)
    if gang.job is None or gang.fallen:
        return _fallen(stage, observed, members, status, gang)
    return _under_way(stage, observed, members, status, gang)


def _stage(observed: Observed, status: FineTuneJobStatus) -> Stage:
    job, settings = observed.job, observed.settings
    assert job.spec.publish is not None
    deadline = _deadline(observed, status)
    return Stage(
        role="publish",
        phase=Phase.PUBLISHING,
        condition=ConditionType.PUBLISHED,
        number_field="publish_attempt",
        first=status.budget.first_publish,
        doing=f"publishes the model to {job.spec.publish.repo_id}",
        make=lambda number: manifests.publish_job(job, settings, number, deadline),
        digest=single_pod_job.digest_of(job),
        # Not the claim: one that was deleted is not replaced by an empty one.
        beside=(manifests.config_map(job, settings),),
    )


def _deadline(observed: Observed, status: FineTuneJobStatus) -> datetime:
    """Until when what may pass is tried again: the same for all Jobs of a round."""
    assert observed.job.spec.publish is not None
    began = status.budget.publish_started or stamp(observed.now)
    return began + timedelta(seconds=observed.job.spec.publish.deadline_seconds)


def _wait_for_pods(observed: Observed, status: FineTuneJobStatus, holding: tuple[PodView, ...]) -> Step:
    """Accelerators first: what publishes starts when nobody trains any more."""
    silent = sorted({pod.node for pod in holding if pod.node and pod.running and pod.ready is False})
    return Step(
        status,
        requeue_after_seconds=PODS_SECONDS,
        wants_references=tuple(Ref("Node", name) for name in silent) if observed.nodes is not None else (),
    )


def _holding(observed: Observed, members: OwnedObjects) -> tuple[PodView, ...]:
    """Training pods that may hold accelerators. One that nobody can tell the end of is waited for no longer than that."""
    lost, patience = lost_nodes(observed), evidence_patience(observed)
    return tuple(
        pod
        for pod in members.pods
        if pod.role == "train"
        and not pod.gone
        and pod.phase not in ("Succeeded", "Failed")
        and (pod.node is not None or pod.phase == "Running")
        and pod.node not in lost
        and not (pod.deleted_at is not None and observed.now >= pod.deleted_at + patience)
    )


def _stop_training(
    observed: Observed, members: OwnedObjects, status: FineTuneJobStatus
) -> tuple[tuple[Suspend, ...], float | None]:
    """Training is over: its pods have their grace period to end, then they are told to."""
    active = tuple(Suspend(job.name) for job in members.jobs if job.role == "train" and job.active)
    began = status.budget.publish_started or observed.now
    left = seconds_until(began + timedelta(seconds=observed.settings.grace_period_seconds), observed.now)
    if not active or left > 0:
        return (), left if active else None
    return active, None


def _under_way(stage: Stage, observed: Observed, members: OwnedObjects, status: FineTuneJobStatus, gang: Gang) -> Step:
    step = single_pod_job.under_way(stage, observed, members, status, gang)
    slack = (
        timedelta(0) if gang.first is None else evidence_patience(observed)
    )  # a pod that runs ends by itself, with the reason
    left = seconds_until(_deadline(observed, status) + slack, observed.now)
    if left > 0:
        return replace(step, requeue_after_seconds=soonest(step.requeue_after_seconds, left))
    told = step.facts.get(stage.condition) or _told(observed)
    ordinary = told is None or told.reason == Phase.PUBLISHING
    reason, why = (DEADLINE_REASON, "") if told is None or ordinary else (told.reason, f" {told.message}")
    text = f"the model was not published in time: publish Job {gang.number} did not end.{why}"
    return _failed(observed, members, status, Diagnosis(Cause.ERROR, reason, text, "See why its pod did not go on."))


def _told(observed: Observed) -> Fact | None:
    old = conditions.find(observed.job.status, ConditionType.PUBLISHED)
    return Fact(False, old.reason, old.message) if old is not None else None


def _succeeded(stage: Stage, observed: Observed, members: OwnedObjects, status: FineTuneJobStatus, gang: Gang) -> Step:
    record = gang.success
    hub = record.hub if record is not None else None
    if hub is None and gang.number - stage.first < RECORDS_MAX:
        return single_pod_job.start(stage, observed, members, status, gang.number + 1)
    if record is not None:
        status = status.model_copy(update={"messages": from_training.merged(status.messages, record.messages)})
    text = "the model is published, but no pod has told where"
    if hub is not None and status.model is not None:
        model = status.model.model_copy(update={"hub": HubModel.model_validate(hub.model_dump())})
        status = status.model_copy(update={"model": model})
        text = f"the model is at {hub.url} (commit {hub.commit})"
    fact = Fact(True, "Published", text)
    return _finished(observed, status.model_copy(update={"publish_attempt": gang.number}), fact)


def _finished(observed: Observed, status: FineTuneJobStatus, fact: Fact | None = None) -> Step:
    done = status.model_copy(update={"phase": Phase.SUCCEEDED, "completion_time": stamp(observed.now), "failure": None})
    grace = float(observed.settings.grace_period_seconds)
    return Step(done, facts={ConditionType.PUBLISHED: fact} if fact else {}, requeue_after_seconds=grace)


def _fallen(stage: Stage, observed: Observed, members: OwnedObjects, status: FineTuneJobStatus, gang: Gang) -> Step:
    """Try again what may pass, as long as there is time; what the user must mend fails at once."""
    fall = single_pod_job.fallen(stage, observed, status, gang)
    if isinstance(fall, Step):
        return fall
    if fall.diagnosis.cause is Cause.USER:
        return _failed(observed, members, status, fall.diagnosis)
    if max(observed.now, fall.due) >= _deadline(observed, status):
        assert observed.job.spec.publish is not None
        limit = from_training.duration(observed.job.spec.publish.deadline_seconds)
        told = replace(
            fall.diagnosis, message=f"{fall.diagnosis.message} It was tried for {limit} (publish.deadlineSeconds)."
        )
        if told.cause in (Cause.PREEMPTION, Cause.NODE):
            told = replace(told, resolution="See what took its pods away.")
        return _failed(observed, members, status, told)
    following = single_pod_job.again(stage, observed, members, status, gang, fall)
    return following or single_pod_job.paused(stage, observed, status, gang, fall)


def _failed(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus, diagnosis: Diagnosis) -> Step:
    """The model stays where it is; what to do ends with how it is published without training."""
    advice = next((text for reason, text in ADVICE.items() if reason == diagnosis.reason), diagnosis.resolution)
    retry = "" if "`spec.retry`" in advice else " Then raise `spec.retry`."
    kept = f"{retry} The model is kept: it is published without training again."
    told = replace(diagnosis, resolution=advice if diagnosis.reason == Reason.MODEL_DAMAGED else f"{advice}{kept}")
    fact = Fact(False, str(told.reason), f"{told.message} What to do: {told.resolution}")
    return fail(observed, members, status, told, facts={ConditionType.PUBLISHED: fact})
