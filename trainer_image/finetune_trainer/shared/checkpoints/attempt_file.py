"""An attempt's mark and result records on the volume: who has begun, who is over, who is the newest.

The mark is written by node 0 when the attempt begins. All that later attempts may read of it stands in it. It is there twice,
each with its own digest: what is left of a file after a power cut is no mark, and must not pass for one.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from finetune_trainer.contract.frozen_document import Document, PodPath
from finetune_trainer.contract.records import Cause, CheckpointRef, Reason, ResultRecord
from finetune_trainer.shared.paths import to_local, to_pod
from finetune_trainer.shared.volume import (
    NOT_A_FILE,
    Attempt,
    Run,
    VolumeError,
    exists,
    read_checked,
    read_document,
    write_checked,
)


class AttemptRecord(Document):
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


def write_attempt_record(attempt: Attempt, mark: AttemptRecord) -> None:
    """Let an attempt begin. Killed between the two files it has begun; the copy never says what the mark does not."""
    write_checked(attempt.mark, mark)
    write_checked(attempt.mark_copy, mark)


def read_attempt_record(attempt: Attempt) -> AttemptRecord | None:
    """Read the mark of an attempt; None if it has not begun: what is empty, torn or changed counts as not begun.

    VolumeError where there may be a mark that can't be read.
    """
    refused: OSError | None = None
    for file in (attempt.mark, attempt.mark_copy):
        try:
            mark = read_checked(file, AttemptRecord, digest_required=False)
        except ValueError:
            continue
        except OSError as error:
            if error.errno not in NOT_A_FILE:
                refused = refused or error
            continue
        if mark is not None and mark.attempt == attempt.number:
            return mark
    if refused is not None:
        raise unreadable(f"Whether attempt {attempt.number} has begun", attempt.folder, refused)
    return None


def unreadable(what: str, folder: Path, error: OSError) -> VolumeError:
    """Make the error for what can't be read of a run, so that what it goes on from can't be told; with the way out."""
    message = (
        f"{what} can't be read: {error}. Let the pods' user read {to_pod(folder)}; or move it away, and training goes on "
        "without it."
    )
    return VolumeError(Reason.VOLUME_UNREADABLE, message, cause=Cause.VOLUME)


def newest_attempt_record(run: Run, before: int | None = None) -> AttemptRecord | None:
    """Return the mark of the newest attempt that has begun (with a lower number than `before`)."""
    return next(_newest_first(run, before=before), None)


def _newest_first(run: Run, *, before: int | None = None, after: int = 0) -> Iterator[AttemptRecord]:
    for attempt in reversed(run.numbered()):
        if attempt.number > after and (before is None or attempt.number < before):
            mark = read_attempt_record(attempt)
            if mark is not None:
                yield mark


def successor(run: Run, attempt: int) -> int | None:
    """Return the number of a newer attempt that has begun: then `attempt` may change nothing any more."""
    newest = next(_newest_first(run, after=attempt), None)
    return newest.attempt if newest is not None else None


def last_attempts(run: Run, before: int | None = None) -> list[Attempt]:
    """Return the attempts that nobody has superseded, oldest first: the newest that has a mark, and those after it that have none.

    Only an attempt that has begun seals anything. So what one of the latter has sealed is as good as the former's: its
    mark was lost.
    """
    mark = newest_attempt_record(run, before)
    first = mark.attempt if mark is not None else 0
    return [
        attempt for attempt in run.numbered() if attempt.number >= first and (before is None or attempt.number < before)
    ]


def final_model(run: Run, before: int | None = None) -> Path | None:
    """Return the folder of the final model that an attempt (before `before`) has sealed; whether it still holds is not known."""
    mark = newest_attempt_record(run, before)
    folders = [attempt.model for attempt in reversed(last_attempts(run, before))]
    folders += [to_local(mark.model)] if mark is not None and mark.model is not None else []
    return next((folder for folder in folders if exists(folder)), None)


def read_results(attempt: Attempt) -> tuple[ResultRecord, ...]:
    """Read the result records of an attempt's nodes, in the order of the nodes; unreadable ones are left out."""
    records = []
    for file in attempt.results.glob("node-*.json"):
        try:
            record = read_document(file, ResultRecord)
        except (ValueError, OSError):
            continue
        if record is not None:
            records.append(record)
    return tuple(sorted(records, key=lambda record: record.node))
