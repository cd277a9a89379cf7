"""The result record: made small enough, written to the volume and to the termination log."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from finetune_trainer.contract.records import RESULT_RECORD_MAX_BYTES, TERMINATION_LOG, Reason, ResultRecord
from finetune_trainer.contract.run_config import Env
from finetune_trainer.shared.volume import Attempt, make_folder, write_document

EARLIER_MAX_BYTES = 160 * 2**10
"""The size of the records of a whole gang on `/progress`, at most: the operator reads no more than 256 KiB of an answer."""
_EARLIER_RECORD_MAX_BYTES = 1024
_ECHOES = frozenset({Reason.PEER_LOST, Reason.STOPPED, Reason.SUPERSEDED})
"""Reasons of nodes that fell because of another one: of a thousand nodes one falls, and the others with it."""
_CUT = " [...] "


def fit(record: ResultRecord, limit: int = RESULT_RECORD_MAX_BYTES) -> ResultRecord:
    """Return the record in at most `limit` bytes.

    The summary of prepared data is dropped first (it names all labels), then messages, the middle of the failure's message, and
    metrics.
    """
    if _size(record) > limit:
        record = record.model_copy(update={"prepared": None})
    while _size(record) > limit and record.messages:
        record = record.model_copy(update={"messages": record.messages[:-1]})
    if _size(record) > limit and record.failure is not None:
        failure, text = record.failure, record.failure.message
        low, high = 0, len(text)
        while low < high:
            middle = (low + high + 1) // 2
            shorter = record.model_copy(update={"failure": failure.model_copy(update={"message": _cut(text, middle)})})
            low, high = (middle, high) if _size(shorter) <= limit else (low, middle - 1)
        record = record.model_copy(update={"failure": failure.model_copy(update={"message": _cut(text, low)})})
    if _size(record) > limit:
        record = record.model_copy(update={"evaluation": None})
    return record


def fit_gang(records: Iterable[ResultRecord], limit: int = EARLIER_MAX_BYTES) -> tuple[ResultRecord, ...]:
    """Select as many of a gang's records as fit in `limit` bytes: node 0's first, then records that may tell the cause, each short."""
    kept, size = [], 0
    for record in sorted(records, key=lambda record: (record.node != 0, _is_echo(record), record.node)):
        shown = record if record.node == 0 else _short(record)
        size += _size(shown) + 1
        if size > limit:
            break
        kept.append(shown)
    return tuple(sorted(kept, key=lambda record: record.node))


def _is_echo(record: ResultRecord) -> bool:
    return record.failure is None or record.failure.reason in _ECHOES


def _short(record: ResultRecord) -> ResultRecord:
    """Keep the parts of the record of a node other than 0 that no other record has: how the node ended, and at which step."""
    bare = {"messages": (), "evaluation": None, "resolved": None, "prepared": None}
    return fit(record.model_copy(update=bare), _EARLIER_RECORD_MAX_BYTES)


def _size(record: ResultRecord) -> int:
    return len(record.to_json().encode())


def _cut(text: str, length: int) -> str:
    """Keep the beginning (which says what failed) and more of the end (which says where) of a text."""
    if len(text) <= length:
        return text
    head = length // 3
    return text[:head] + _CUT + text[len(text) - (length - head) :]


def write_to_volume(attempt: Attempt, record: ResultRecord) -> None:
    """Write the record, durably, for node 0 of the next attempt."""
    make_folder(attempt.results)
    write_document(attempt.result(record.node), record)


def leave_for_kubelet(record: ResultRecord) -> None:
    """Write the record, made to fit, to the file that the environment names, or to kubelet's where the pod has one."""
    file = Path(os.environ.get(Env.TERMINATION_LOG, TERMINATION_LOG))
    if Env.TERMINATION_LOG in os.environ or file.exists():
        write_to_termination_log(file, fit(record))


def write_to_termination_log(file: Path, record: ResultRecord) -> None:
    """Write the record for kubelet, which reads the file after the container has ended. It is a mount: no rename there."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(descriptor, record.to_json().encode())
    finally:
        os.close(descriptor)
