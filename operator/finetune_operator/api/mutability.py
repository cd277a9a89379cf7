"""The fields of `spec` that an edit may change: each field says so in an annotation, and the rules of `transitions` follow from it."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel
from pydantic.fields import FieldInfo

NEW_JOB = "apply a job of another name for another run"


@dataclass(frozen=True)
class Immutable:
    """Annotation of a field that is fixed once training has started."""

    next_step: str = NEW_JOB
    """Advice in the message to a user who wants to change the field."""
    publishing_only: bool = False
    """Whether publishing alone depends on the field: then an edit that raises `retry` may change it."""


FIXED = Immutable()
PUBLISHING = Immutable(
    f"raise retry in the same edit to publish a trained model with it, or {NEW_JOB}", publishing_only=True
)


@dataclass(frozen=True)
class Mutable:
    """Annotation of a field that may change at any time."""


@dataclass(frozen=True)
class Decides:
    """Annotation of a field by which the operator only decides: no child object of the job depends on it."""

    decision: str


class UndeclaredMutabilityError(TypeError):
    """Error of a field that declares neither `Immutable` nor `Mutable`."""


def mutability(model: type[BaseModel]) -> dict[str, Immutable | Mutable]:
    """Return whether an edit may change each field, by the name that users write. Raises UndeclaredMutabilityError."""
    return {
        str(field.alias): _declared(f"{model.__name__}.{name}", field) for name, field in model.model_fields.items()
    }


def _declared(name: str, field: FieldInfo) -> Immutable | Mutable:
    for annotation in field.metadata:
        if isinstance(annotation, Immutable | Mutable):
            return annotation
    raise UndeclaredMutabilityError(f"{name} says nothing of edits: annotate it with Immutable or Mutable")
