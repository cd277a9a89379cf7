"""What a row of the matrix is: a mistake, who says so, and the words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class SaidBy(StrEnum):
    """Who tells the user, in the words of the documentation."""

    API_SERVER = "the API server, when it is applied"
    OPERATOR = "condition Validated=False, within 2 s"
    PREPARE = "the prepare step, before a rank starts"
    PODS = "status, once the pods are made"


@dataclass(frozen=True)
class BadInput:
    """One mistake."""

    name: str
    """Name of the test: lower case, hyphens, unique in the table."""
    what: str
    """The mistake, as the documentation says it."""
    said_by: SaidBy
    message: str
    """Part of the message that the user reads: the field or object, the value, the way out."""
    reason: str = ""
    """Reason of the condition or of `status.failure`; for the API server the path of the field."""
    spec: Mapping[str, Any] = field(default_factory=dict)
    """What differs from the good job of the tier: dotted path below spec -> value, None takes the field away."""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    """What differs in metadata."""
    setup: str = ""
    """Name of the tier's function that makes what the mistake is about (a file, a claim), if it needs any."""
    mended_by: str = ""
    """Name of the tier's function that mends it from outside; the job must go on by itself then."""
    on_laptop: bool = False
    """Whether `finetune validate` says the same without a cluster."""
