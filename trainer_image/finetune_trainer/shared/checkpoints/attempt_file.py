"""The record of an attempt and the result records of its nodes on the volume: who has begun, who is over, who is the newest.

Node 0 writes the record when the attempt begins. From then on the record says which checkpoints of earlier attempts may be read.
There are two copies, each with its own digest: the remains of a file after a power cut are no record, and must not pass for one.
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
    """Record that an attempt has begun: `attempt.json`."""

    uid: str
    attempt: int
    begun: datetime
    addresses: tuple[str, ...]
    """`ip:port` of each node's `launch`, node 0 first."""
    grace_period_seconds: int
    world_size: int
    resume: CheckpointRef | None = None
    """Checkpoint that this attempt resumes from; null is a fresh start."""
    known: tuple[CheckpointRef, ...] = ()
    """Sealed checkpoints of earlier attempts when this one began: checkpoints that they seal later are never read."""
    model: PodPath | None = None
    """A sealed model of an earlier attempt: nothing was left to train."""


def write_attempt_record(attempt: Attempt, record: AttemptRecord) -> None:
    """Let an attempt begin. It has begun with the first file, so that a process that is killed before the second does no harm."""
    write_checked(attempt.record_file, record)
    write_checked(attempt.record_copy, record)


def read_attempt_record(attempt: Attempt) -> AttemptRecord | None:
    """Read the record of an attempt; None if the attempt has not begun. A file that is empty, torn or changed is no record.

    Raise VolumeError where there may be a record that can't be read.
    """
    refused: OSError | None = None
    for file in (attempt.record_file, attempt.record_copy):
        try:
            record = read_checked(file, AttemptRecord, digest_required=False)
        except ValueError:
            continue
        except OSError as error:
            if error.errno not in NOT_A_FILE:
                refused = refused or error
            continue
        if record is not None and record.attempt == attempt.number:
            return record
    if refused is not None:
        raise unreadable(f"Whether attempt {attempt.number} has begun", attempt.folder, refused)
    return None


def unreadable(subject: str, folder: Path, error: OSError) -> VolumeError:
    """Make the error for a part of a run that can't be read, without which nobody knows what the run resumes from."""
    message = (
        f"{subject} can't be read: {error}. Let the pods' user read {to_pod(folder)}; or move it away, and training goes on "
        "without it."
    )
    return VolumeError(Reason.VOLUME_UNREADABLE, message, cause=Cause.VOLUME)


def newest_attempt_record(run: Run, before: int | None = None) -> AttemptRecord | None:
    """Return the record of the newest attempt that has begun (with a lower number than `before`)."""
    return next(_newest_first(run, before=before), None)


def _newest_first(run: Run, *, before: int | None = None, after: int = 0) -> Iterator[AttemptRecord]:
    for attempt in reversed(run.numbered()):
        if attempt.number > after and (before is None or attempt.number < before):
            record = read_attempt_record(attempt)
            if record is not None:
                yield record


def successor(run: Run, attempt: int) -> int | None:
    """Return the number of a newer attempt that has begun: then `attempt` may change nothing any more."""
    newest = next(_newest_first(run, after=attempt), None)
    return newest.attempt if newest is not None else None


def last_attempts(run: Run, before: int | None = None) -> list[Attempt]:
    """Return the attempts that none has superseded, oldest first: the newest with a record, and the later ones without.

    Only an attempt that has begun seals anything. So where one of the later attempts has sealed something, its record was
    lost, and what it sealed counts.
    """
    newest = newest_attempt_record(run, before)
    first = newest.attempt if newest is not None else 0
    return [
        attempt for attempt in run.numbered() if attempt.number >= first and (before is None or attempt.number < before)
    ]


def final_model(run: Run, before: int | None = None) -> Path | None:
    """Return the folder of the final model that an attempt (before `before`) has sealed, without a look at its content."""
    newest = newest_attempt_record(run, before)
    folders = [attempt.model for attempt in reversed(last_attempts(run, before))]
    folders += [to_local(newest.model)] if newest is not None and newest.model is not None else []
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
