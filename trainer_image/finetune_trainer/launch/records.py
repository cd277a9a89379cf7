"""The result record: made small enough, written to the volume and to the termination log."""

from __future__ import annotations

import os
from pathlib import Path

from finetune_trainer.config import RESULT_RECORD_MAX_BYTES, ResultRecord
from finetune_trainer.volume import Attempt, make_folder, write_document

_CUT = " [...] "


def fit(record: ResultRecord, limit: int = RESULT_RECORD_MAX_BYTES) -> ResultRecord:
    """The record in at most `limit` bytes: notes go first, then the middle of the failure's message, then metrics."""
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


def _size(record: ResultRecord) -> int:
    return len(record.to_json().encode())


def _cut(text: str, length: int) -> str:
    """The beginning (which says what failed) and more of the end (which says where) of a text."""
    if len(text) <= length:
        return text
    head = length // 3
    return text[:head] + _CUT + text[len(text) - (length - head) :]


def write_to_volume(attempt: Attempt, record: ResultRecord) -> None:
    """For node 0 of the next attempt; durable."""
    make_folder(attempt.results)
    write_document(attempt.result(record.node), record)


def write_to_termination_log(file: Path, record: ResultRecord) -> None:
    """For kubelet, which reads the file after the container has ended. It is a mount: no rename there."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        os.write(descriptor, record.to_json().encode())
    finally:
        os.close(descriptor)
