"""An attempt whose gang stands: what its pods and node 0 say, and what it still waits for."""

from __future__ import annotations

from datetime import timedelta

from finetune_operator.api.status import ConditionType, FineTuneJobStatus, Phase
from finetune_operator.plan.conditions import Fact, Facts
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.observed.gang import Gang, doubtful_nodes, look_at_nodes_again, progress_of
from finetune_operator.plan.observed.objects import OwnedObjects
from finetune_operator.plan.observed.pending_pods import out_of_sight, why_waiting
from finetune_operator.plan.stages import restart_budget
from finetune_operator.plan.stages.step import Step, blocked, creates, evidence_patience, seconds_until, soonest
from finetune_operator.plan.stages.train_start import planned, retire, starting_text
from finetune_operator.plan.status import from_training
from finetune_operator.plan.types import Action, Observed
from finetune_trainer.contract.records import PodPhase, Progress

POLL_STARTING_SECONDS = 1.0
SILENCE_SHOWN = timedelta(seconds=60)
"""Node 0 answers a moment after its container has started."""
UNREACHABLE = (
    "all pods run, but node 0 can't be asked how far it is. What to do: let the operator reach port 8080 of the pods "
    "(network policy), or let it ask through the API server."
)
WAITING_SHOWN = timedelta(seconds=10)
"""Waits that are shorter than this are not worth a write."""

PHASES = {
    PodPhase.WAITING: ("WaitingForNodes", "the nodes wait for each other, or for the attempt before to be over"),
    PodPhase.PREPARING: ("PreparingData", "node 0 prepares model and data"),
    PodPhase.STARTING: ("LoadingModel", "the ranks load the model and connect"),
}


def alive(observed: Observed, members: OwnedObjects, status: FineTuneJobStatus, gang: Gang) -> Step:
    told = progress_of(observed, gang.number)
    kept = from_training.checkpoint_fact(status, told)
    if told is not None:
        status = from_training.with_progress(status, told)
    status = from_training.with_nodes(status, gang, observed.now)
    if status.attempt_begun is not None:
        status = status.model_copy(update={"phase": Phase.RUNNING})
    started = status.attempt_started or observed.now
    waiting = why_waiting(gang, observed.events, started, observed.now, observed.settings.pod_diagnosis_seconds)
    unseen = out_of_sight(gang, trains=status.attempt_begun is not None)
    fact = waiting.fact or unseen or _running_fact(status, gang, told, observed.now - started)
    facts: dict[ConditionType, Fact] = {ConditionType.CHECKPOINT_LOST: kept} if kept is not None else {}
    if waiting.known or unseen or status.attempt_begun:
        facts[ConditionType.RUNNING] = fact
    missing: tuple[Action, ...] = ()
    if status.attempt_begun is None:  # what is made beside the Job may have been refused, or its name be taken
        needed = planned(observed, gang.number, status)
        missing = creates(observed, needed)
        stopped = blocked(observed, status, needed)
        facts |= stopped.facts if stopped is not None else {}
    poll = look_at_nodes_again(observed, gang)
    if gang.first is not None:
        begun = status.attempt_begun is not None
        poll = soonest(poll, observed.settings.progress_interval_seconds if begun else POLL_STARTING_SECONDS)
    return Step(
        status,
        facts={**facts, **_prepared_inline(observed, status, told)},
        actions=(*missing, *retire(observed, members, gang.number)),
        requeue_after_seconds=soonest(poll, waiting.look_again_seconds, *_deadlines(observed, status)),
        wants_references=doubtful_nodes(observed, gang),
        wants_events=waiting.ask,
        wants_progress=gang.first is not None,
    )


def expired_by(observed: Observed, status: FineTuneJobStatus, gang: Gang) -> bool:
    """Whether the pods have had their time to start. What they fall by after that is our own doing."""
    told = progress_of(observed, gang.number)
    if (
        status.attempt_begun is not None
        or status.attempt_started is None
        or (told is not None and (told.begun is not None or told.phase is PodPhase.PREPARING))
    ):
        return False
    due = status.attempt_started + timedelta(seconds=observed.job.spec.start_deadline_seconds)
    if gang.fallen:
        return restart_budget.ended_at(gang, observed.now) >= due
    silent = told is None and len({pod.index for pod in gang.pods if pod.running}) >= gang.nodes
    return observed.now >= due and not silent  # a gang that all runs may have begun: node 0 just can't be asked


def _deadlines(observed: Observed, status: FineTuneJobStatus) -> tuple[float | None, ...]:
    """Seconds until something is due that no watch will tell."""
    start_by = None
    if status.attempt_begun is None and status.attempt_started is not None:
        limit = timedelta(seconds=observed.job.spec.start_deadline_seconds)
        start_by = seconds_until(status.attempt_started + limit, observed.now)
    settle_by = None
    if status.budget.settled_attempt < (status.attempt or 0) - 1 and status.attempt_started is not None:
        settle_by = seconds_until(status.attempt_started + evidence_patience(observed), observed.now)
    return start_by, settle_by


def _running_fact(status: FineTuneJobStatus, gang: Gang, told: Progress | None, age: timedelta) -> Fact:
    begun = status.attempt_begun is not None
    if told is not None and told.phase in PHASES and (begun or age >= WAITING_SHOWN):
        reason, text = PHASES[told.phase]
        if told.phase is PodPhase.WAITING and told.waiting_for is not None:
            text = f"node 0 waits for {told.waiting_for}: its log says what it can't find or reach"
        return Fact(begun, reason, f"attempt {gang.number}: {text}")
    if begun:
        return Fact(True, "Training", f"attempt {gang.number} trains on {gang.nodes} node{'s' * (gang.nodes > 1)}")
    ready = status.nodes.ready if status.nodes else 0
    if told is None and ready == gang.nodes and age >= SILENCE_SHOWN:
        return Fact(False, "ProgressUnknown", f"attempt {gang.number}: {UNREACHABLE}")
    return Fact(False, "Starting", starting_text(gang.number, gang.nodes, ready))


def _prepared_inline(observed: Observed, status: FineTuneJobStatus, told: Progress | None) -> Facts:
    if manifests.needs_prepare_job(observed.job, observed.settings) or told is None or told.begun is None:
        return {}
    if told.phase in (PodPhase.WAITING, PodPhase.PREPARING):
        return {ConditionType.PREPARED: Fact(False, "PreparingData", "node 0 prepares model and data")}
    return {ConditionType.PREPARED: Fact(True, "Prepared", "model and data are prepared")}
