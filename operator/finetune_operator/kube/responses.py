"""Answers of the API server, and the exceptions that they become. Knows nothing of the transport."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from finetune_operator.kube.exceptions import ApiError, Conflict, NotFound, Refused, Unavailable


@dataclass(frozen=True)
class Answer:
    """An answer of the API server."""

    status: int
    data: bytes
    retry_after_seconds: float | None


def error_of(answer: Answer) -> ApiError:
    """Return the exception for an answer that is not a success."""
    status = answer.status
    try:
        body: Any = json.loads(answer.data)
    except ValueError:  # the answer of a proxy in between
        body = None
    if not isinstance(body, dict):
        body = {}
    reason = str(body.get("reason") or "Unknown")
    message = str(body.get("message") or answer.data[:500].decode(errors="replace"))
    if status == 404:
        return NotFound(status, reason, message)
    if status == 409:
        return Conflict(status, reason, message)
    if status == 429 or status >= 500:
        return Unavailable(status, reason, message, answer.retry_after_seconds)
    return Refused(status, reason, message)
