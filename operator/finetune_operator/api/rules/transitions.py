"""Rules of changes in the life of a job. They need the status, which only rules at the root of the schema see.

Each holds wherever `self.spec == oldSelf.spec`: a status write must pass, whatever the object holds.
"""

from __future__ import annotations

from finetune_operator.api.mutability import Immutable, mutability
from finetune_operator.api.rules.rule import Rule
from finetune_operator.api.spec import FineTuneJobSpec

_NOT_TRAINING = "!has(oldSelf.status) || !has(oldSelf.status.attempt) || oldSelf.status.attempt < 1"

_REQUIRED = [str(field.alias) for field in FineTuneJobSpec.model_fields.values() if field.is_required()]
_EDITS = mutability(FineTuneJobSpec)
IMMUTABLE: dict[str, Immutable] = {
    field: edit for field in dict.fromkeys([*_REQUIRED, *_EDITS]) if isinstance(edit := _EDITS[field], Immutable)
}
"""Field of spec that is fixed once training has started -> its annotation. The other fields may change at any time."""

_RETRY = "(has({0}.spec.retry) ? {0}.spec.retry : 0)"
_RAISED = f"{_RETRY.format('self')} > {_RETRY.format('oldSelf')}"
_PUBLISHED = "has(oldSelf.status.model) && has(oldSelf.status.model.hub)"


def _fixed(field: str, edit: Immutable) -> Rule:
    with_retry = f"{_RAISED} && !({_PUBLISHED}) || " if edit.publishing_only else ""
    new, old = f"self.spec.{field}", f"oldSelf.spec.{field}"
    same = f"{new} == {old}"
    if field not in _REQUIRED:
        same = f"has({new}) == has({old}) && (!has({new}) || {same})"
    return Rule(
        "",
        f"{_NOT_TRAINING} || {with_retry}{same}",
        f"is fixed once training has started: {edit.next_step}",
        field=f".spec.{field}",
        reason="FieldValueForbidden",
    )


FIXED = tuple(_fixed(field, edit) for field, edit in IMMUTABLE.items())

CLAIM = (
    Rule(
        "",
        "!has(self.spec.nodes) || self.spec.nodes <= 1 || "
        "has(oldSelf.spec.nodes) && self.spec.nodes <= oldSelf.spec.nodes || "
        "!has(oldSelf.status) || !has(oldSelf.status.claim) || !has(oldSelf.status.claim.accessMode) || "
        "oldSelf.status.claim.accessMode == 'ReadWriteMany'",
        "is the claim's access mode, fixed once made, so nodes cannot be raised: apply a new job with accessMode "
        "ReadWriteMany",
        "oldSelf.status.claim.accessMode",
        field=".spec.nodes",
        reason="FieldValueForbidden",
    ),
    Rule(
        "",
        "!has(oldSelf.status) || !has(oldSelf.status.claim) || !has(self.spec.storage.size) || "
        "!has(oldSelf.spec.storage.size) || self.spec.storage == oldSelf.spec.storage",
        "cannot change once its claim is there: delete the job and its claim first, or give claimName",
        field=".spec.storage",
        reason="FieldValueForbidden",
    ),
)

RETRY = (
    Rule(
        "spec",
        "!has(oldSelf.retry) || oldSelf.retry == 0 || has(self.retry)",
        "may only rise: give the number of before, or a higher one",
        field=".retry",
    ),
    Rule(
        "spec.retry",
        "self >= oldSelf",
        "may only rise: give the number of before, or a higher one",
    ),
)

RULES = (*FIXED, *CLAIM, *RETRY)
