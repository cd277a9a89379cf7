"""A row of the matrix: a mistake, who reports it, and the words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class SaidBy(StrEnum):
    """The reporter of a mistake, in the words of the documentation."""

    API_SERVER = "the API server, when it is applied"
    OPERATOR = "condition Validated=False, within 2 s"
    PREPARE = "the prepare step, before a rank starts"
    PODS = "status, once the pods are made"


@dataclass(frozen=True)
class BadInput:
    """Mistake of a user, and the message that names it."""

    name: str
    """Name of the test: lower case, hyphens, unique in the table."""
    what: str
    """Mistake, in the words of the documentation."""
    said_by: SaidBy
    message: str
    """Part of the message that the user reads: the field or object, the value, the way out."""
    reason: str = ""
    """Reason of the condition or of `status.failure`; for the API server the path of the field."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """Differences from the good job of the tier: dotted path below spec -> value, None takes the field away."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """Differences in metadata."""
    setup: str = ""
    """Name of the tier's function that makes the object of the mistake (a file, a claim), if there is one."""
    mended_by: str = ""
    """Name of the tier's function that mends the mistake from outside; the job must go on by itself then."""
    on_laptop: bool = False
    """Whether `finetune validate` reports it in the same words without a cluster."""
