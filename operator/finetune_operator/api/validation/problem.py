"""One problem of a manifest, in the words of the API server."""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Kind(StrEnum):
    """Kind of a problem, in the words that the API server puts between field and detail."""

    INVALID = "Invalid value"
    UNSUPPORTED = "Unsupported value"
    REQUIRED = "Required value"
    DUPLICATE = "Duplicate value"
    TOO_MANY = "Too many"
    TOO_LONG = "Too long"
    FORBIDDEN = "Forbidden"
    UNKNOWN = "unknown field"


_WITH_VALUE = (Kind.INVALID, Kind.UNSUPPORTED, Kind.DUPLICATE, Kind.TOO_MANY)


@dataclass(frozen=True)
class Problem:
    """A field, what is wrong with it, and what to do."""

    field: str
    """Path as the API server writes it: `spec.env[0].name`."""
    kind: Kind
    message: str = ""
    """What is wrong and what to do; empty where the kind says it all."""
    value: Any = None
    """The value that was given, or the name of its type."""

    def __str__(self) -> str:
        """Write the problem in one line, as the API server does."""
        parts = [self.field, str(self.kind)]
        if self.kind in _WITH_VALUE:
            parts.append(json.dumps(self.value, ensure_ascii=False))
        if self.message:
            parts.append(self.message)
        return ": ".join(parts)
