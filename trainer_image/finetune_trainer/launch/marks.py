"""An attempt's mark and result records on the volume: who has begun, who is over, who is the newest.

The mark is written once, by node 0, when the attempt begins. All that later attempts may read of it stands in it.
"""

from __future__ import annotations

from datetime import datetime

from pydantic import ValidationError

from finetune_trainer.config import Cause, CheckpointRef, Document, Failure, PodPath, Reason, ResultRecord
from finetune_trainer.volume import Attempt, Run, VolumeError, read_document


class Mark(Document):
    """`attempt.json`."""

    uid: str
    attempt: int
    begun: datetime
    addresses: tuple[str, ...]
    """`ip:port` of each node's `launch`, node 0 first."""
    grace_period_seconds: int
    world_size: int
    resume: CheckpointRef | None = None
    """What this attempt goes on from; null is a fresh start."""
    known: tuple[CheckpointRef, ...] = ()
    """Sealed checkpoints of earlier attempts when this one began: what those seal later is never read."""
    model: PodPath | None = None
    """A sealed model of an earlier attempt: nothing was left to train."""


def read_mark(attempt: Attempt) -> Mark | None:
    """The mark of an attempt; None if it has not begun."""
    try:
        return read_document(attempt.mark, Mark)
    except ValidationError as error:
        message = f"{attempt.mark} is damaged: {error}"
        raise VolumeError(Failure(reason=Reason.INTERNAL, cause=Cause.ERROR, message=message)) from error


def newest_mark(run: Run, before: int | None = None) -> Mark | None:
    """The mark of the newest attempt that has begun (with a lower number than `before`)."""
    begun = [attempt for attempt in run.begun() if before is None or attempt.number < before]
    return read_mark(begun[-1]) if begun else None


def successor(run: Run, attempt: int) -> int | None:
    """Number of a newer attempt that has begun: then `attempt` may change nothing any more."""
    begun = run.begun()
    return begun[-1].number if begun and begun[-1].number > attempt else None


def read_results(attempt: Attempt) -> tuple[ResultRecord, ...]:
    """The result records of an attempt's nodes, in the order of the nodes; unreadable ones are left out."""
    records = []
    for file in attempt.results.glob("node-*.json"):
        try:
            record = read_document(file, ResultRecord)
        except ValidationError:
            continue
        if record is not None:
            records.append(record)
    return tuple(sorted(records, key=lambda record: record.node))
