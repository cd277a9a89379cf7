"""Failures in the user's words, made of the exceptions of a rank: who pays, and the reason to search for."""

from __future__ import annotations

import re
import traceback
from pathlib import Path

from finetune_trainer.contract.records import Cause, Failure, Reason
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.volume import explain, is_of_volume, passes

MESSAGE_CHARACTERS = 1500
ERROR_CHARACTERS = 300
TRACEBACK_LINES = 12
DISK_FULL = re.compile(
    r"No space left on device|Disk quota exceeded|inline_container.*unexpected pos|PytorchStreamWriter failed writing",
    re.DOTALL,
)
"""The words of Python, safetensors and torch when a checkpoint does not fit; torch does not name the cause."""
PEER_GONE = re.compile(
    r"Connection (reset|closed|refused)|Broken pipe|\bGloo\b.*(closed|timed? ?out|failure)|gloo/transport|"
    r"NCCL.*(remote process|unhandled system error|connection|timeout)|DistNetworkError|Timed out waiting",
    re.IGNORECASE,
)
"""The words of gloo, NCCL and the store when the other end of a connection has gone."""


def failure_of(error: BaseException, rank: int, output: Path | None = None) -> Failure:
    """Say what an exception means. `output` is the folder of the job's volume, whose errors may pass."""
    if isinstance(error, ExpectedError):
        return error.failure.model_copy(update={"rank": rank})
    if output is not None and isinstance(error, OSError) and passes(error) and is_of_volume(error, output):
        return explain(error, output, worked=True).model_copy(update={"rank": rank})
    reason = _reason(error)
    if reason is Reason.VOLUME_FULL:
        first_line = f"{type(error).__name__}: {error}".splitlines()[0][:ERROR_CHARACTERS]
        message = f"The volume is full: a checkpoint or the model does not fit. {first_line}"
        return Failure(reason=reason, cause=Cause.USER, message=message, rank=rank)
    return Failure(reason=reason, cause=Cause.ERROR, message=last_lines(error), rank=rank)


def _reason(error: BaseException) -> Reason:
    names = {kind.__name__ for kind in type(error).__mro__}
    if "OutOfMemoryError" in names or isinstance(error, MemoryError):
        return Reason.OUT_OF_MEMORY
    if DISK_FULL.search(str(error)):
        return Reason.VOLUME_FULL
    if names & {"DistNetworkError", "DistBackendError", "DistStoreError"}:
        return Reason.PEER_LOST
    if isinstance(error, RuntimeError | ConnectionError) and PEER_GONE.search(str(error)):
        return Reason.PEER_LOST
    return Reason.RANK_FAILED


def last_lines(error: BaseException) -> str:
    """Return the error's first line, then the end of the traceback: where it happened."""
    message = f"{type(error).__name__}: {error}".splitlines()[0][:ERROR_CHARACTERS]
    lines = "".join(traceback.format_exception(error)).strip().splitlines()
    return f"{message}\n" + "\n".join(lines[-TRACEBACK_LINES:])[len(message) + 1 - MESSAGE_CHARACTERS :]
