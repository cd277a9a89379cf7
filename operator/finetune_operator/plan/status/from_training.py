"""What a status says about training: progress, evaluation, checkpoint, what names turned out to be.

Values that JSON can't carry (a loss that is not a number) become null; nothing else is changed or guessed.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime, timedelta

from finetune_operator.api import status as api
from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.status import ConditionType, FineTuneJobStatus, Phase
from finetune_operator.plan.conditions import UNDER_WAY, WAITS_FOR, Fact, find, holds
from finetune_operator.plan.observed.gang import Gang
from finetune_trainer.contract import prepared, records
from finetune_trainer.contract.records import ResultRecord

MESSAGES_MAX = 32
MESSAGE_MAX = 1024
READY_PATIENCE = timedelta(seconds=2)
LOST_ADVICE = (
    "nothing if that is meant; else delete the job, look what became of the volume, and set `spec.resumeFrom: required` where "
    "a job must not begin anew by itself."
)


def with_progress(status: FineTuneJobStatus, told: records.Progress) -> FineTuneJobStatus:
    """The status after node 0 of the present attempt has told how far it is."""
    update: dict[str, object] = {"messages": merged(status.messages, told.messages)}
    if told.step is not None or told.total_steps is not None:
        update["progress"] = _progress(told)
    if told.evaluation:
        update["evaluation"] = finite(told.evaluation)
    if told.begun is not None and status.attempt_begun is None:  # an attempt begins once: its first word holds
        update["attempt_begun"] = told.begun
        update["resumed_from"] = _checkpoint(told.resumed_from) if told.resumed_from else None
        if lost_checkpoint(status, told) is not None:
            update["checkpoint"] = update["resumed_from"]
    if told.checkpoint is not None:
        update["checkpoint"] = _checkpoint(told.checkpoint)
    budget = _with_checkpoint(status.budget, told.resumed_from, 0)
    update["budget"] = _with_checkpoint(budget, told.checkpoint, told.attempt)
    if told.resolved is not None:
        update["resolved"] = _resolved(status.resolved, told.resolved)
    return status.model_copy(update=update)


def with_record(status: FineTuneJobStatus, record: ResultRecord) -> FineTuneJobStatus:
    """The status after a result record has come in: the last word of an attempt, which progress may not have had."""
    update: dict[str, object] = {"messages": merged(status.messages, record.messages)}
    if record.evaluation:
        update["evaluation"] = finite(record.evaluation)
    if record.checkpoint is not None and (
        status.checkpoint is None or record.checkpoint.step >= status.checkpoint.step
    ):
        update["checkpoint"] = _checkpoint(record.checkpoint)
    if record.resolved is not None:
        update["resolved"] = _resolved(status.resolved, record.resolved)
    newest = record.checkpoint  # its own, or the one that it went on from
    sealed_by = record.attempt if newest is not None and newest.time >= record.started else 0
    update["budget"] = _with_checkpoint(status.budget, newest, sealed_by)
    return status.model_copy(update=update)


def _with_checkpoint(budget: api.Budget, newest: records.CheckpointRef | None, sealed_by: int) -> api.Budget:
    """The budget after a checkpoint has been heard of that attempt `sealed_by` has sealed; 0 where that was none of these."""
    if newest is None or newest.step <= budget.checkpoint_step:
        return budget
    attempt = max(sealed_by, budget.checkpoint_attempt)
    return budget.model_copy(update={"checkpoint_step": newest.step, "checkpoint_attempt": attempt})


def lost_checkpoint(status: FineTuneJobStatus, told: records.Progress) -> api.Checkpoint | None:
    """The checkpoint that the job had, where an attempt has just begun that did not find it, nor a later one."""
    had, found = status.checkpoint, told.resumed_from
    if had is None or told.begun is None or status.attempt_begun is not None or told.model_path is not None:
        return None
    return had if found is None or found.step < had.step else None


def checkpoint_fact(status: FineTuneJobStatus, told: records.Progress | None) -> Fact | None:
    """What the condition CheckpointLost says from now on; None where nothing has changed. `status` is that before `told`."""
    if told is None:
        return None
    lost = lost_checkpoint(status, told)
    if lost is not None:
        found = f"goes on from step {told.resumed_from.step}" if told.resumed_from is not None else "begins anew"
        what = f"the checkpoint of step {lost.step} ({lost.path}) can't be used or is not on the volume: "
        return Fact(True, "NotOnVolume", f"{what}attempt {told.attempt} {found}. What to do: {LOST_ADVICE}")
    if holds(status, ConditionType.CHECKPOINT_LOST) and told.checkpoint is not None:
        return Fact(False, "Sealed", f"a checkpoint of step {told.checkpoint.step} has been sealed since")
    return None


def with_final_step(status: FineTuneJobStatus, record: ResultRecord) -> FineTuneJobStatus:
    """Training is over: the last step that was polled is not the last one."""
    if record.step is None:
        return status
    old = status.progress or api.ProgressStatus()
    progress = old.model_copy(
        update={
            "step": record.step,
            "total_steps": old.total_steps or record.step,
            "percent": 100,
            "eta_seconds": None,
            "updated": record.finished,
        }
    )
    return status.model_copy(update={"progress": progress})


def with_nodes(status: FineTuneJobStatus, gang: Gang, now: datetime) -> FineTuneJobStatus:
    nodes = api.Nodes(desired=gang.nodes, ready=gang.ready(now, READY_PATIENCE))
    images = sorted({pod.trainer.image_id for pod in gang.pods if pod.trainer is not None and pod.trainer.image_id})
    resolved = status.resolved or api.ResolvedStatus()
    if images and nodes.ready == nodes.desired:  # not pod by pod: each change is a request
        resolved = resolved.model_copy(update={"image": images[0]})
    return status.model_copy(update={"nodes": nodes, "resolved": resolved})


def with_summary(status: FineTuneJobStatus, job: FineTuneJob) -> FineTuneJobStatus:
    """The texts for the printer columns."""
    progress, nodes = status.progress, status.nodes
    restarts = status.restarts
    dataset = job.spec.dataset
    files = dataset.files.train if dataset.files else ()
    more = f" (+{len(files) - 1})" if len(files) > 1 else ""
    summary = api.Summary(
        reason=_reason(status),
        nodes=f"{nodes.ready}/{nodes.desired}" if nodes else None,
        steps=_steps(progress) if progress else None,
        loss=f"{progress.loss:.4f}" if progress and progress.loss is not None else None,
        eta=_eta(status),
        restarts=str(restarts.preemption + restarts.node + restarts.error + restarts.volume),
        dataset=dataset.name or (files[0].rsplit("/", 1)[-1] + more if files else None),
    )
    return status.model_copy(update={"summary": summary})


def merged(old: Iterable[str], new: Iterable[str]) -> tuple[str, ...]:
    """Each message once, in the order in which they came, the newest kept where there are too many."""
    return tuple(dict.fromkeys([*old, *(message[:MESSAGE_MAX] for message in new)]))[-MESSAGES_MAX:]


def finite(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def duration(seconds: int) -> str:
    """`41s`, `3m05s`, `2h10m`, `3d4h`."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def _reason(status: FineTuneJobStatus) -> str | None:
    """Why the job waits, starts again or has failed; nothing while all is well."""
    if status.phase is Phase.FAILED:
        return status.failure.reason if status.failure else None
    if status.phase in (Phase.SUCCEEDED, Phase.RUNNING):
        return None
    validated = find(status, ConditionType.VALIDATED)
    if validated is not None and validated.status == "False":
        return validated.reason
    kind = WAITS_FOR.get(status.phase)
    awaited = find(status, kind) if kind is not None else None
    if awaited is not None and awaited.status != "True" and awaited.reason not in (*UNDER_WAY, *Phase):
        return awaited.reason
    failure = status.failure
    restarted = (
        status.phase is Phase.RESTARTING and failure is not None and failure.attempt == (status.attempt or 0) - 1
    )
    return failure.reason if restarted and failure is not None else None


def _eta(status: FineTuneJobStatus) -> str | None:
    """Of a job that trains: a restart's length is not known."""
    seconds = status.progress.eta_seconds if status.progress else None
    return duration(seconds) if seconds is not None and status.phase is Phase.RUNNING else None


def _steps(progress: api.ProgressStatus) -> str | None:
    if progress.step is None:
        return None
    return f"{progress.step}/{progress.total_steps}" if progress.total_steps else str(progress.step)


def _progress(told: records.Progress) -> api.ProgressStatus:
    percent = None
    if told.step is not None and told.total_steps:
        percent = min(100, 100 * told.step // told.total_steps)
    eta = _finite(told.eta_seconds)
    return api.ProgressStatus(
        step=told.step,
        total_steps=told.total_steps,
        epoch=_finite(told.epoch, 4),
        percent=percent,
        loss=_finite(told.loss, 6),
        samples_per_second=_finite(told.samples_per_second, 2),
        eta_seconds=round(eta) if eta is not None else None,
        updated=told.updated.replace(microsecond=0) if told.updated else None,
    )


def _checkpoint(ref: records.CheckpointRef) -> api.Checkpoint:
    return api.Checkpoint(step=ref.step, time=ref.time, path=ref.path, verified=ref.verified)


def _resolved(old: api.ResolvedStatus | None, told: prepared.Resolved) -> api.ResolvedStatus:
    known = told.model_dump(include={"model_revision", "dataset_revision", "precision"}, exclude_none=True)
    return (old or api.ResolvedStatus()).model_copy(update=known)


def _finite(value: float | None, digits: int = 3) -> float | None:
    return round(value, digits) if value is not None and math.isfinite(value) else None
