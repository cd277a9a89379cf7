"""An attempt whose gang stands: what its pods and node 0 say, and what it still waits for."""

from __future__ import annotations

from datetime import timedelta

from finetune_operator.api.status import ConditionType, FineTuneJobStatus, Phase
from finetune_operator.plan.conditions import Fact, Facts
from finetune_operator.plan.desired import manifests
from finetune_operator.plan.observed.gang import Gang, doubtful_nodes, look_at_nodes_again
from finetune_operator.plan.observed.pending_pods import out_of_sight, why_waiting
from finetune_operator.plan.stages import restart_budget
from finetune_operator.plan.stages.round import Round
from finetune_operator.plan.stages.step import Step, blocked, creates, evidence_patience, seconds_until, soonest
from finetune_operator.plan.stages.train_start import planned, retire, starting_text
from finetune_operator.plan.status import from_training
from finetune_operator.plan.types import Action
from finetune_trainer.contract.records import PodPhase, Progress
from finetune_trainer.contract.run_config import PORT

POLL_STARTING_SECONDS = 1.0
SILENCE_SHOWN = timedelta(seconds=60)
"""Time after which the silence of node 0 is shown: usually it answers a moment after its container has started."""
UNREACHABLE = (
    f"all pods run, but node 0 can't be asked how far it is. What to do: let the operator reach port {PORT} of the pods "
    "(network policy), or let it ask through the API server."
)
WAITING_SHOWN = timedelta(seconds=10)
"""Least time of a wait that is worth a write."""

PHASES = {
    PodPhase.WAITING: ("WaitingForNodes", "the nodes wait for each other, or for the attempt before to be over"),
    PodPhase.PREPARING: ("PreparingData", "node 0 prepares model and data"),
    PodPhase.STARTING: ("LoadingModel", "the ranks load the model and connect"),
}


def alive(round: Round, gang: Gang) -> Step:
    """Show how far an attempt has come whose pods stand, and what it waits for."""
    progress = round.progress(gang.number)
    lost_checkpoint = from_training.checkpoint_fact(round.status, progress)
    if progress is not None:
        round = round.with_status(from_training.with_progress(round.status, progress))
    round = round.with_status(from_training.with_nodes(round.status, gang, round.now))
    begun = round.status.attempt_begun is not None
    if begun:
        round = round.with_fields(phase=Phase.RUNNING)
    started = round.status.attempt_started or round.now
    waiting = why_waiting(gang, round.observed.events, started, round.now, round.settings.pod_diagnosis_seconds)
    unseen = out_of_sight(gang, trains=begun)
    fact = waiting.fact or unseen or _running_fact(round.status, gang, progress, round.now - started)
    facts = {ConditionType.CHECKPOINT_LOST: lost_checkpoint} if lost_checkpoint is not None else {}
    if waiting.known or unseen or begun:
        facts[ConditionType.RUNNING] = fact
    missing: tuple[Action, ...] = ()
    if not begun:  # an object beside the Job may have been refused, or its name be taken
        needed = planned(round, gang.number)
        missing = creates(round, needed)
        stopped = blocked(round, needed)
        facts |= stopped.facts if stopped is not None else {}
    poll = look_at_nodes_again(round.observed, gang)
    if gang.first is not None:
        poll = soonest(poll, round.settings.progress_interval_seconds if begun else POLL_STARTING_SECONDS)
    return Step(
        round.status,
        facts={**facts, **_prepared_inline(round, progress)},
        actions=(*missing, *retire(round, gang.number)),
        requeue_after_seconds=soonest(poll, waiting.look_again_seconds, *_deadlines(round)),
        wants_references=doubtful_nodes(round.observed, gang),
        wants_events=waiting.ask,
        wants_progress=gang.first is not None,
    )


def expired_by(round: Round, gang: Gang) -> bool:
    """Return whether the pods have had their time to start. A fall after that is the operator's own doing."""
    status, progress = round.status, round.progress(gang.number)
    if (
        status.attempt_begun is not None
        or status.attempt_started is None
        or (progress is not None and (progress.begun is not None or progress.phase is PodPhase.PREPARING))
    ):
        return False
    due = status.attempt_started + timedelta(seconds=round.job.spec.start_deadline_seconds)
    if gang.fallen:
        return restart_budget.ended_at(gang, round.now) >= due
    silent = progress is None and len({pod.index for pod in gang.pods if pod.running}) >= gang.nodes
    return round.now >= due and not silent  # a gang that all runs may have begun: node 0 just can't be asked


def _deadlines(round: Round) -> tuple[float | None, ...]:
    """Return the seconds until something is due that no watch will tell."""
    status, started = round.status, round.status.attempt_started
    if started is None:
        return ()
    start_by = None
    if status.attempt_begun is None:
        limit = timedelta(seconds=round.job.spec.start_deadline_seconds)
        start_by = seconds_until(started + limit, round.now)
    account_by = None
    if status.budget.settled_attempt < (status.attempt or 0) - 1:
        account_by = seconds_until(started + evidence_patience(round.settings), round.now)
    return start_by, account_by


def _running_fact(status: FineTuneJobStatus, gang: Gang, progress: Progress | None, age: timedelta) -> Fact:
    """Make the fact that the condition Running shows of a gang without an obstacle."""
    begun = status.attempt_begun is not None
    if progress is not None and progress.phase in PHASES and (begun or age >= WAITING_SHOWN):
        reason, text = PHASES[progress.phase]
        if progress.phase is PodPhase.WAITING and progress.waiting_for is not None:
            text = f"node 0 waits for {progress.waiting_for}: its log says what it can't find or reach"
        return Fact(begun, reason, f"attempt {gang.number}: {text}")
    if begun:
        return Fact(True, "Training", f"attempt {gang.number} trains on {gang.nodes} node{'s' * (gang.nodes > 1)}")
    ready = status.nodes.ready if status.nodes else 0
    if progress is None and ready == gang.nodes and age >= SILENCE_SHOWN:
        return Fact(False, "ProgressUnknown", f"attempt {gang.number}: {UNREACHABLE}")
    return Fact(False, "Starting", starting_text(gang.number, gang.nodes, ready))


def _prepared_inline(round: Round, progress: Progress | None) -> Facts:
    """Make the fact that the condition Prepared shows where node 0 prepares, as it tells itself."""
    if manifests.needs_prepare_job(round.job, round.settings) or progress is None or progress.begun is None:
        return {}
    if progress.phase in (PodPhase.WAITING, PodPhase.PREPARING):
        return {ConditionType.PREPARED: Fact(False, "PreparingData", "node 0 prepares model and data")}
    return {ConditionType.PREPARED: Fact(True, "Prepared", "model and data are prepared")}
