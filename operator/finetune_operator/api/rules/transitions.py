"""What may change in the life of a job. These rules need status, which only the root of the schema sees.

Each is true wherever `self.spec == oldSelf.spec`: a status write must pass, whatever the object holds.
"""

from __future__ import annotations

from finetune_operator.api.rules.rule import Rule

_NOT_TRAINING = "!has(oldSelf.status) || !has(oldSelf.status.attempt) || oldSelf.status.attempt < 1"
_NEW_JOB = "apply a job of another name for another run"

_MENDED = f"raise retry in the same edit to publish a trained model with it, or {_NEW_JOB}"

REQUIRED_FIELDS: dict[str, str] = {
    "task": _NEW_JOB,
    "model": _NEW_JOB,
    "dataset": _NEW_JOB,
    "storage": f"{_NEW_JOB}, with claimName to go on writing to this claim",
}
OPTIONAL_FIELDS: dict[str, str] = {
    "problemType": _NEW_JOB,
    "preprocessing": _NEW_JOB,
    "trainingArguments": _NEW_JOB,
    "peft": _NEW_JOB,
    "quantization": _NEW_JOB,
    "earlyStopping": _NEW_JOB,
    "lossWeights": _NEW_JOB,
    "nodes": _NEW_JOB,
    "processesPerNode": _NEW_JOB,
    "resources": _NEW_JOB,
    "image": _NEW_JOB,
    "env": _NEW_JOB,
    "volumes": _NEW_JOB,
    "template": _NEW_JOB,
    "hub": _MENDED,
    "publish": _MENDED,
    "checkpointIntervalSeconds": _NEW_JOB,
    "backoffLimit": "raise retry to try a failed job again",
    "startDeadlineSeconds": _NEW_JOB,
    "resumeFrom": f"raise retry to go on from the last checkpoint, or {_NEW_JOB}",
}
"""Field of spec -> the next step of a user who wanted to change it. The others may change at any time."""


MENDABLE = ("hub", "publish")
"""Fields that an edit may change which raises `retry`: training does not depend on them, publishing does."""

_RETRY = "(has({0}.spec.retry) ? {0}.spec.retry : 0)"
_RAISED = f"{_RETRY.format('self')} > {_RETRY.format('oldSelf')}"
_PUBLISHED = "has(oldSelf.status.model) && has(oldSelf.status.model.hub)"


def _same(path: str) -> str:
    """CEL: an optional field of spec is as it was."""
    new, old = f"self.spec.{path}", f"oldSelf.spec.{path}"
    return f"has({new}) == has({old}) && (!has({new}) || {new} == {old})"


def _fixed(field: str, next_step: str, same: str) -> Rule:
    mended = f"{_RAISED} && !({_PUBLISHED}) || " if field in MENDABLE else ""
    return Rule(
        "",
        f"{_NOT_TRAINING} || {mended}{same}",
        f"is fixed once training has started: {next_step}",
        field=f".spec.{field}",
        reason="FieldValueForbidden",
    )


FIXED = (
    *(_fixed(name, step, f"self.spec.{name} == oldSelf.spec.{name}") for name, step in REQUIRED_FIELDS.items()),
    *(_fixed(name, step, _same(name)) for name, step in OPTIONAL_FIELDS.items()),
)

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
