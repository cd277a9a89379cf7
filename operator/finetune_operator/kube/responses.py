"""What the API server answers, and which exception that is. Knows nothing of how it came."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from finetune_operator.kube.exceptions import ApiError, Conflict, NotFound, Refused, Unavailable


@dataclass(frozen=True)
class Answer:
    """What the API server answered."""

    status: int
    data: bytes
    retry_after_seconds: float | None


def error_of(answer: Answer) -> ApiError:
    """The exception for an answer that is no success."""
    status = answer.status
    try:
        said: Any = json.loads(answer.data)
    except ValueError:  # from a proxy in between
        said = None
    if not isinstance(said, dict):
        said = {}
    reason = str(said.get("reason") or "Unknown")
    message = str(said.get("message") or answer.data[:500].decode(errors="replace"))
    if status == 404:
        return NotFound(status, reason, message)
    if status == 409:
        return Conflict(status, reason, message)
    if status == 429 or status >= 500:
        return Unavailable(status, reason, message, answer.retry_after_seconds)
    return Refused(status, reason, message)
