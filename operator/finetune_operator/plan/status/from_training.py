"""The part of a status that is about training: progress, evaluation, checkpoint, resolved names.

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


def with_progress(status: FineTuneJobStatus, progress: records.Progress) -> FineTuneJobStatus:
    """Return the status after node 0 of the present attempt has told how far it is."""
    update: dict[str, object] = {"messages": merged(status.messages, progress.messages)}
    if progress.step is not None or progress.total_steps is not None:
        update["progress"] = _progress(progress)
    if progress.evaluation:
        update["evaluation"] = finite(progress.evaluation)
    if progress.begun is not None and status.attempt_begun is None:  # an attempt begins once: its first answer holds
        update["attempt_begun"] = progress.begun
        update["resumed_from"] = _checkpoint(progress.resumed_from) if progress.resumed_from else None
        if lost_checkpoint(status, progress) is not None:
            update["checkpoint"] = update["resumed_from"]
    if progress.checkpoint is not None:
        update["checkpoint"] = _checkpoint(progress.checkpoint)
    budget = _with_checkpoint(status.budget, progress.resumed_from, 0)
    update["budget"] = _with_checkpoint(budget, progress.checkpoint, progress.attempt)
    if progress.resolved is not None:
        update["resolved"] = _resolved(status.resolved, progress.resolved)
    return status.model_copy(update=update)


def with_record(status: FineTuneJobStatus, record: ResultRecord) -> FineTuneJobStatus:
    """Return the status after a result record has come in: the last word of an attempt, which progress may not have had."""
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
    """Return the budget after a checkpoint became known. `sealed_by`: attempt that has sealed it; 0 where an earlier one may have."""
    if newest is None or newest.step <= budget.checkpoint_step:
        return budget
    attempt = max(sealed_by, budget.checkpoint_attempt)
    return budget.model_copy(update={"checkpoint_step": newest.step, "checkpoint_attempt": attempt})


def lost_checkpoint(status: FineTuneJobStatus, progress: records.Progress) -> api.Checkpoint | None:
    """Return the checkpoint that the job had, where an attempt has just begun that did not find it, nor a later one."""
    before, resumed_from = status.checkpoint, progress.resumed_from
    if before is None or progress.begun is None or status.attempt_begun is not None or progress.model_path is not None:
        return None
    return before if resumed_from is None or resumed_from.step < before.step else None


def checkpoint_fact(status: FineTuneJobStatus, progress: records.Progress | None) -> Fact | None:
    """Return what the condition CheckpointLost says now; None where nothing has changed. `status`: as it was before `progress`."""
    if progress is None:
        return None
    lost = lost_checkpoint(status, progress)
    if lost is not None:
        outcome = (
            f"goes on from step {progress.resumed_from.step}" if progress.resumed_from is not None else "begins anew"
        )
        subject = f"the checkpoint of step {lost.step} ({lost.path})"
        text = f"{subject} can't be used or is not on the volume: attempt {progress.attempt} {outcome}"
        return Fact(True, "NotOnVolume", f"{text}. What to do: {LOST_ADVICE}")
    if holds(status, ConditionType.CHECKPOINT_LOST) and progress.checkpoint is not None:
        return Fact(False, "Sealed", f"a checkpoint of step {progress.checkpoint.step} has been sealed since")
    return None


def with_final_step(status: FineTuneJobStatus, record: ResultRecord) -> FineTuneJobStatus:
    """Put the last step into the status of a training that is over: the last progress that was read is of an earlier step."""
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
    """Return the status with the nodes of a gang, and the image that they run once all are ready."""
    nodes = api.Nodes(desired=gang.nodes, ready=gang.ready(now, READY_PATIENCE))
    images = sorted({pod.trainer.image_id for pod in gang.pods if pod.trainer is not None and pod.trainer.image_id})
    resolved = status.resolved or api.ResolvedStatus()
    if images and nodes.ready == nodes.desired:  # not pod by pod: each change is a request
        resolved = resolved.model_copy(update={"image": images[0]})
    return status.model_copy(update={"nodes": nodes, "resolved": resolved})


def with_summary(status: FineTuneJobStatus, job: FineTuneJob) -> FineTuneJobStatus:
    """Add the texts for the printer columns."""
    progress, nodes = status.progress, status.nodes
    restarts = status.restarts
    dataset = job.spec.dataset
    files = dataset.files.train if dataset is not None and dataset.files else ()
    more = f" (+{len(files) - 1})" if len(files) > 1 else ""
    summary = api.Summary(
        reason=_reason(status),
        nodes=f"{nodes.ready}/{nodes.desired}" if nodes else None,
        steps=_steps(progress) if progress else None,
        loss=f"{progress.loss:.4f}" if progress and progress.loss is not None else None,
        eta=_eta(status),
        restarts=str(restarts.preemption + restarts.node + restarts.error + restarts.volume),
        dataset=(dataset.name if dataset is not None else None)
        or (files[0].rsplit("/", 1)[-1] + more if files else None),
    )
    return status.model_copy(update={"summary": summary})


def merged(old: Iterable[str], new: Iterable[str]) -> tuple[str, ...]:
    """Merge messages: each once, in the order in which they came, the newest kept where there are too many."""
    return tuple(dict.fromkeys([*old, *(message[:MESSAGE_MAX] for message in new)]))[-MESSAGES_MAX:]


def finite(metrics: dict[str, float]) -> dict[str, float]:
    """Leave out metrics that JSON can't carry."""
    return {name: value for name, value in metrics.items() if math.isfinite(value)}


def duration(seconds: int) -> str:
    """Write a duration as people read it: `41s`, `3m05s`, `2h10m`, `3d4h`."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def _reason(status: FineTuneJobStatus) -> str | None:
    """Say why the job waits, starts again or has failed; nothing while all is well."""
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
    """Return the time left of a job that trains: a restart's length is not known."""
    seconds = status.progress.eta_seconds if status.progress else None
    return duration(seconds) if seconds is not None and status.phase is Phase.RUNNING else None


def _steps(progress: api.ProgressStatus) -> str | None:
    if progress.step is None:
        return None
    return f"{progress.step}/{progress.total_steps}" if progress.total_steps else str(progress.step)


def _progress(progress: records.Progress) -> api.ProgressStatus:
    percent = None
    if progress.step is not None and progress.total_steps:
        percent = min(100, 100 * progress.step // progress.total_steps)
    eta = _finite(progress.eta_seconds)
    return api.ProgressStatus(
        step=progress.step,
        total_steps=progress.total_steps,
        epoch=_finite(progress.epoch, 4),
        percent=percent,
        loss=_finite(progress.loss, 6),
        samples_per_second=_finite(progress.samples_per_second, 2),
        eta_seconds=round(eta) if eta is not None else None,
        updated=progress.updated.replace(microsecond=0) if progress.updated else None,
    )


def _checkpoint(ref: records.CheckpointRef) -> api.Checkpoint:
    return api.Checkpoint(step=ref.step, time=ref.time, path=ref.path, verified=ref.verified)


def _resolved(old: api.ResolvedStatus | None, resolved: prepared.Resolved) -> api.ResolvedStatus:
    known = resolved.model_dump(include={"model_revision", "dataset_revision", "precision"}, exclude_none=True)
    return (old or api.ResolvedStatus()).model_copy(update=known)


def _finite(value: float | None, digits: int = 3) -> float | None:
    return round(value, digits) if value is not None and math.isfinite(value) else None
