"""What an edit of a field of `spec` may do: each field says it in its annotation, the rules of `transitions` are made from it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel
from pydantic.fields import FieldInfo

NEW_JOB = "apply a job of another name for another run"


@dataclass(frozen=True)
class Immutable:
    """Says of a field that it is fixed once training has started."""

    next_step: str = NEW_JOB
    """What the message tells a user who wanted to change it."""
    publishing_only: bool = False
    """Whether publishing alone depends on the field: then an edit that raises `retry` may change it."""


FIXED = Immutable()
PUBLISHING = Immutable(
    f"raise retry in the same edit to publish a trained model with it, or {NEW_JOB}", publishing_only=True
)


@dataclass(frozen=True)
class Mutable:
    """Says of a field that it may change at any time."""


@dataclass(frozen=True)
class Decides:
    """Says of a field what the operator decides by it: nothing that a job becomes depends on it."""

    what: str


class UndeclaredMutabilityError(TypeError):
    """A field says neither that it is immutable nor that it may change."""


def mutability(model: type[BaseModel]) -> dict[str, Immutable | Mutable]:
    """Return what an edit of each field may do, by the name that users write. Raises UndeclaredMutabilityError."""
    return {
        str(field.alias): _declared(f"{model.__name__}.{name}", field) for name, field in model.model_fields.items()
    }


def _declared(name: str, field: FieldInfo) -> Immutable | Mutable:
    for annotation in field.metadata:
        if isinstance(annotation, Immutable | Mutable):
            return annotation
    raise UndeclaredMutabilityError(f"{name} says nothing of edits: annotate it with Immutable or Mutable")
