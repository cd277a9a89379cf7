"""Effects of a field's value on data and checkpoints on a volume: each field declares its own in its annotation.

`prepare` names the folder of its data after the fields that `parts` selects, and `launch` compares trainings by them.
"""

from __future__ import annotations

from enum import Flag, auto
from functools import cache
from typing import Any, get_args

from pydantic.fields import FieldInfo

from finetune_trainer.contract.frozen_document import Document


class Effect(Flag):
    """Parts of a run that depend on the value of a field. A field below inherits the effect unless it declares its own."""

    NOTHING = 0
    """Neither data nor training: the field says where and how pods run, or what becomes of the model afterwards."""
    CHECKS = auto()
    """The checks of `prepare`: with another value `prepare` checks model and data again."""
    TOKENS = auto()
    """The rows that are taken, or their tokens: another value makes other data, in another folder."""
    TRAINING = auto()
    """What is learnt: no training resumes from a checkpoint that was made with another value."""
    RANKS = auto()
    """The number of ranks, which `prepare` checks, and through it the global batch, which training depends on."""


ROWS = Effect.CHECKS | Effect.TOKENS | Effect.TRAINING
"""Effect of a field that decides what the rows and tokens are."""
LEARNING = Effect.CHECKS | Effect.TRAINING
"""Effect of a field that decides how rows are learnt: `prepare` tells whether it fits them before a pod takes an accelerator."""
RESOLVED = Effect.CHECKS | Effect.TRAINING
"""Effect of a name whose content may change: tokens depend on the commit or the content, not on the name."""


class UndeclaredEffectError(TypeError):
    """Error for a field that declares no effect."""


def parts(document: Document, effect: Effect, **options: Any) -> dict[str, Any]:
    """Dump the fields of a document that have the effect. `options` go to pydantic's `model_dump`."""
    return document.model_dump(include=_paths_with(type(document), effect), **options)


def effects(kind: type[Document], inherited: Effect | None = None) -> dict[str, Effect]:
    """Return the effect of each field, by its dotted path. Raises UndeclaredEffectError."""
    declared: dict[str, Effect] = {}
    for name, field in kind.model_fields.items():
        effect = next((meta for meta in field.metadata if isinstance(meta, Effect)), inherited)
        nested = _document(field)
        if nested is not None:
            declared |= {f"{name}.{path}": own for path, own in effects(nested, effect).items()}
        elif effect is None:
            raise UndeclaredEffectError(f"{kind.__name__}.{name} says nothing of its effect: Annotated[..., Effect...]")
        else:
            declared[name] = effect
    return declared


def _document(field: FieldInfo) -> type[Document] | None:
    """Return the class of the document that a field holds, if it holds one."""
    kinds = (field.annotation, *get_args(field.annotation))
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, Document)), None)


@cache
def _paths_with(kind: type[Document], effect: Effect) -> dict[str, Any]:
    """Return the fields that have an effect, as pydantic's `include` wants them."""
    included: dict[str, Any] = {}
    for path in (path for path, own in effects(kind).items() if effect in own):
        *parents, name = path.split(".")
        node = included
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = True
    return included
