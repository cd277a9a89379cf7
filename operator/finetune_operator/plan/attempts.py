"""The stage of training: one gang at a time, replaced as a whole when it falls, until success or the budget's end.

An attempt is created at once when the one before falls; why that one fell is settled when its evidence is in. Every
state can be told from status and objects alone, also when a status write was lost after its actions were carried out.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from finetune_operator.api.status import ConditionType, FineTuneJobStatus, ModelStatus, Phase
from finetune_operator.plan import accounts, children, report
from finetune_operator.plan.conditions import Fact, Facts
from finetune_operator.plan.diagnosis import Diagnosis, diagnose
from finetune_operator.plan.gang import Gang, doubtful_nodes, progress_of, training_gang
from finetune_operator.plan.resolutions import ClusterReason, resolution
from finetune_operator.plan.steps import (
    Step,
    blocked,
    creates,
    evidence_patience,
    fail,
    failure,
    seconds_until,
    soonest,
    stamp,
    wants_list,
)
from finetune_operator.plan.types import Action, Delete, Manifest, Observed, Ref, Suspend
from finetune_operator.plan.view import Family
from finetune_operator.plan.waiting import why_waiting
from finetune_trainer.config import Cause, PodPhase, Progress

WATCH_LAG = timedelta(seconds=5)
"""A Job that was just made may not be in what we see yet."""
POLL_STARTING_SECONDS = 1.0
WAITING_SHOWN = timedelta(seconds=10)
"""Waits that are shorter than this are not worth a write."""

PHASES = {
    PodPhase.WAITING: ("WaitingForNodes", "the nodes wait for each other, or for the attempt before to be over"),
    PodPhase.PREPARING: ("PreparingData", "node 0 prepares model and data"),
    PodPhase.STARTING: ("LoadingModel", "the ranks load the model and connect"),
}


def current_attempt(members: Family, status: FineTuneJobStatus) -> int:
    return max(status.attempt or 0, members.highest("train"))


def planned(observed: Observed, attempt: int) -> tuple[Manifest, ...]:
    """Everything that an attempt needs."""
    job, settings = observed.job, observed.settings
    made = (children.claim(job), children.config_map(job, settings), children.service(job))
    return (*(manifest for manifest in made if manifest is not None), children.train_job(job, settings, attempt))


def start(observed: Observed, members: Family, status: FineTuneJobStatus, attempt: int, facts: Facts) -> Step:
    """Create an attempt. The one before is stopped and keeps its logs; older ones go once they are accounted for."""
    manifests = planned(observed, attempt)
    if (waiting := blocked(observed, status, manifests)) is not None:
        return waiting
    if attempt > 1 and not observed.listed:
        return wants_list(observed)
    first = attempt == status.budget.first_attempt
    begun = status.model_copy(
        update={
            "phase": Phase.STARTING if first or status.phase is not Phase.RESTARTING else Phase.RESTARTING,
            "attempt": attempt,
            "attempt_started": stamp(observed.now),
            "attempt_begun": None,
            "attempt_ended": None,
            "resumed_from": None,
        }
    )
    fresh = training_gang(observed, members, attempt)
    fact = Fact(False, "Starting", _starting_text(attempt, observed.job.spec.nodes, 0))
    return Step(
        report.with_nodes(begun, fresh, observed.now),
        facts={**facts, ConditionType.RUNNING: fact},
        actions=(*creates(observed, manifests), *_retire(observed, members, attempt)),
        requeue_after_seconds=observed.settings.pod_diagnosis_seconds,
    )


def train(observed: Observed, members: Family, status: FineTuneJobStatus, current: int) -> Step:
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
    expired = status.attempt_ended is None and _expired(observed, status, gang)
    over = expired or status.attempt_ended is not None or gang.job is None or gang.fallen
    books = accounts.settle(observed, members, status, current, over=over)
    if books.fatal is not None:
        return _verdict(observed, members, books)
    status = books.status
    if over:
        return (_give_up if expired else _fallen)(observed, members, status, gang)
    step = _alive(observed, members, status, gang)
    unsettled = doubtful_nodes(observed, before) if status.budget.settled_attempt < before.number else ()
    return replace(step, wants_references=tuple(dict.fromkeys((*step.wants_references, *unsettled))))


def succeed(observed: Observed, members: Family, status: FineTuneJobStatus, gang: Gang) -> Step:
    if not observed.listed:
        return wants_list(observed)
    record, told = gang.success, progress_of(observed, gang.number)
    if told is not None:
        status = report.with_progress(status, told)
    if record is not None:
        status = report.with_final_step(report.with_record(status, record), record)
    path = (record.model_path if record else None) or (told.model_path if told else None)
    done = status.model_copy(
        update={
            "phase": Phase.SUCCEEDED,
            "completion_time": stamp(observed.now),
            "failure": None,
            "model": ModelStatus(
                claim_name=children.claim_name(observed.job), path=_within_claim(observed, gang.number, path)
            ),
        }
    )
    others = tuple(
        Suspend(job.name) for job in members.jobs if job.active and job.uid != (gang.job.uid if gang.job else None)
    )
    facts = {
        ConditionType.PREPARED: Fact(True, "Prepared", "model and data are prepared"),
        ConditionType.RUNNING: Fact(False, "Succeeded", "training is over"),
    }
    return Step(done, facts=facts, actions=others, requeue_after_seconds=float(observed.settings.grace_period_seconds))


def out_of_time(observed: Observed, members: Family, status: FineTuneJobStatus) -> Step:
    limit = observed.job.spec.active_deadline_seconds
    reason = ClusterReason.DEADLINE
    diagnosis = Diagnosis(
        Cause.USER, reason, f"the job was not done after activeDeadlineSeconds ({limit} s).", resolution(reason)
    )
    return fail(observed, members, status, diagnosis, attempt=status.attempt)


def _adopted(observed: Observed, members: Family, status: FineTuneJobStatus, current: int) -> FineTuneJobStatus:
    """The status, caught up with an attempt that was created before the status could be written."""
    if status.attempt == current:
        return status
    for attempt in range(status.attempt or 0, current):
        if attempt >= status.budget.first_attempt and not (attempt == status.attempt and status.attempt_ended):
            status = accounts.close_attempt(observed, status, training_gang(observed, members, attempt))
    job = members.job("train", current)
    restarted = current > status.budget.first_attempt and not _gave_up(status)
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


def _alive(observed: Observed, members: Family, status: FineTuneJobStatus, gang: Gang) -> Step:
    told = progress_of(observed, gang.number)
    if told is not None:
        status = report.with_progress(status, told)
    status = report.with_nodes(status, gang, observed.now)
    if status.attempt_begun is not None:
        status = status.model_copy(update={"phase": Phase.RUNNING})
    started = status.attempt_started or observed.now
    waiting = why_waiting(gang, observed.events, started, observed.now, observed.settings.pod_diagnosis_seconds)
    fact = waiting.fact or _running_fact(status, gang, told, observed.now - started)
    facts: dict[ConditionType, Fact] = {ConditionType.RUNNING: fact} if waiting.known or status.attempt_begun else {}
    missing: tuple[Action, ...] = ()
    if status.attempt_begun is None:  # what is made beside the Job may have been refused, or its name be taken
        needed = planned(observed, gang.number)
        missing = creates(observed, needed)
        kept = blocked(observed, status, needed)
        facts |= kept.facts if kept is not None else {}
    poll = None
    if gang.first is not None:
        begun = status.attempt_begun is not None
        poll = observed.settings.progress_interval_seconds if begun else POLL_STARTING_SECONDS
    return Step(
        status,
        facts={**facts, **_prepared_inline(observed, status, told)},
        actions=(*missing, *_retire(observed, members, gang.number)),
        requeue_after_seconds=soonest(poll, waiting.look_again_seconds, *_deadlines(observed, status)),
        wants_references=doubtful_nodes(observed, gang),
        wants_events=waiting.ask,
        wants_progress=gang.first is not None,
    )


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
        return Fact(begun, reason, f"attempt {gang.number}: {text}")
    if begun:
        return Fact(True, "Training", f"attempt {gang.number} trains on {gang.nodes} node{'s' * (gang.nodes > 1)}")
    ready = status.nodes.ready if status.nodes else 0
    return Fact(False, "Starting", _starting_text(gang.number, gang.nodes, ready))


def _starting_text(attempt: int, nodes: int, ready: int) -> str:
    return f"attempt {attempt}: {ready} of {nodes} pod{'s' * (nodes > 1)} started"


def _prepared_inline(observed: Observed, status: FineTuneJobStatus, told: Progress | None) -> Facts:
    if children.needs_prepare_job(observed.job, observed.settings) or told is None or told.begun is None:
        return {}
    if told.phase in (PodPhase.WAITING, PodPhase.PREPARING):
        return {ConditionType.PREPARED: Fact(False, "PreparingData", "node 0 prepares model and data")}
    return {ConditionType.PREPARED: Fact(True, "Prepared", "model and data are prepared")}


def _expired(observed: Observed, status: FineTuneJobStatus, gang: Gang) -> bool:
    """Whether the pods have had their time to start. What they fall by after that is our own doing."""
    told = progress_of(observed, gang.number)
    if (
        status.attempt_begun is not None
        or status.attempt_started is None
        or (told is not None and told.begun is not None)
    ):
        return False
    due = status.attempt_started + timedelta(seconds=observed.job.spec.start_deadline_seconds)
    if gang.fallen:
        return accounts.ended_at(gang, observed.now) >= due
    silent = told is None and len({pod.index for pod in gang.pods if pod.running}) >= gang.nodes
    return observed.now >= due and not silent  # a gang that all runs may have begun: node 0 just can't be asked


def _give_up(observed: Observed, members: Family, status: FineTuneJobStatus, gang: Gang) -> Step:
    """The pods did not start in time: what they hold goes back, and the attempt costs nothing."""
    running = next((condition for condition in status.conditions if condition.type is ConditionType.RUNNING), None)
    why = f" ({running.reason}: {running.message})" if running is not None and running.reason != "Starting" else ""
    reason = ClusterReason.START_DEADLINE
    limit = observed.job.spec.start_deadline_seconds
    text = f"attempt {gang.number} had not begun after startDeadlineSeconds ({limit} s){why}"
    diagnosis = Diagnosis(Cause.PREEMPTION, reason, text, resolution(reason))
    closed = accounts.write_off(accounts.close_attempt(observed, status, gang), gang.number)
    closed = closed.model_copy(
        update={"attempt_ended": stamp(observed.now), "failure": failure(diagnosis, gang.number)}
    )
    return Step(
        report.with_nodes(closed, gang, observed.now),
        facts={ConditionType.RUNNING: Fact(False, reason, text)},
        actions=(Suspend(gang.job.name),) if gang.job is not None and gang.job.active else (),
        requeue_after_seconds=accounts.pause(closed, gave_up=True).total_seconds(),
    )


def _fallen(observed: Observed, members: Family, status: FineTuneJobStatus, gang: Gang) -> Step:
    """The gang is over. The next one starts now, or when it is due, or never."""
    ended = status.attempt_ended or stamp(accounts.ended_at(gang, observed.now))
    gave_up = _gave_up(status)
    verdict = diagnose(gang)
    settled = status.budget.settled_attempt >= gang.number
    if status.attempt_ended is None:
        status = accounts.close_attempt(observed, status, gang)
    record = gang.records.get(0)
    status = report.with_record(status, record) if record is not None and not settled else status
    guess_due = ended + evidence_patience(observed)
    if not settled and (verdict.final or observed.now >= guess_due):
        books = accounts.charge(observed, status, gang.number, verdict.diagnosis)
        if books.fatal is not None:
            return _verdict(observed, members, books)
        status, settled = books.status, True
    due = ended + accounts.pause(status, gave_up=gave_up)
    if observed.now >= due and (settled or accounts.may_go_on(observed, status, verdict)):
        over = {"attempt_ended": ended, "phase": status.phase if gave_up else Phase.RESTARTING}
        restarting = status.model_copy(update=over)
        return start(observed, members, restarting, gang.number + 1, {})
    update = {"attempt_ended": ended, "phase": status.phase if gave_up else Phase.RESTARTING}
    return Step(
        report.with_nodes(status.model_copy(update=update), gang, observed.now),
        facts={ConditionType.RUNNING: _fallen_fact(gang, verdict.diagnosis)} if not gave_up else {},
        actions=(Suspend(gang.job.name),) if gang.job is not None and gang.job.active else (),
        requeue_after_seconds=max(0.1, seconds_until(due if observed.now < due else guess_due, observed.now)),
        wants_references=doubtful_nodes(observed, gang),
    )


def _gave_up(status: FineTuneJobStatus) -> bool:
    """Whether the present attempt was ended by us because it did not begin."""
    failed = status.failure
    return status.attempt_ended is not None and failed is not None and failed.reason == ClusterReason.START_DEADLINE


def _fallen_fact(gang: Gang, diagnosis: Diagnosis) -> Fact:
    return Fact(False, str(diagnosis.reason), f"attempt {gang.number} ended: {diagnosis.message}")


def _verdict(observed: Observed, members: Family, books: accounts.Accounts) -> Step:
    assert books.fatal is not None
    verdict = ClusterReason.BACKOFF_LIMIT if books.over_budget else None
    facts = {ConditionType.RUNNING: Fact(False, str(books.fatal.reason), books.fatal.message)}
    return fail(observed, members, books.status, books.fatal, attempt=books.attempt, verdict=verdict, facts=facts)


def _retire(observed: Observed, members: Family, current: int) -> tuple[Action, ...]:
    """Stop the attempt before, remove older ones once a written status accounts for them. Repeated until it is so."""
    actions: list[Action] = []
    settled = observed.job.status.budget.settled_attempt
    for job in members.jobs:
        if job.role != "train" or job.number >= current or job.deleting:
            continue
        if job.number < current - 1 and job.number <= settled:
            actions.append(Delete(Ref("Job", job.name), job.uid))
        elif job.active:
            actions.append(Suspend(job.name))
    return tuple(actions)


def _within_claim(observed: Observed, attempt: int, path: str | None) -> str:
    """Folder of the model within the claim, from its path in the pods."""
    config = children.run_config(observed.job, observed.settings)
    if path is None:
        return f"{config.job}/runs/{config.uid}/attempts/{attempt}/model"
    return path.removeprefix(config.output).lstrip("/")
