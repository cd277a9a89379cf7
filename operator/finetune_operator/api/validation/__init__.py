"""Validation of a manifest without an API server, with the API server's own verdicts and words. Pure.

`structure` checks it by the schema of the CustomResourceDefinition, `metadata` by that of all objects, `evaluate` by the
same CEL rules; `suggest` finds names that the user may have meant. Rules of a change (some fields are fixed once training
has started) need the present object, and are left to the API server.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from finetune_operator.api import crd
from finetune_operator.api.resource import API_VERSION, KIND
from finetune_operator.api.structural import Schema
from finetune_operator.api.validation import evaluate, metadata, structure
from finetune_operator.api.validation.problem import Kind, Problem
from finetune_operator.api.validation.suggest import nearest

__all__ = ["Kind", "Problem", "check", "normalised"]


def check(manifest: dict[str, Any]) -> tuple[Problem, ...]:
    """Return the problems of a manifest; none for a good FineTuneJob."""
    if identity_problems := tuple(_identity_problems(manifest)):
        return identity_problems
    applied = normalised(manifest)
    schema = crd.schema()
    shape_problems = [
        *metadata.problems(applied.get("metadata", {})),
        *_top_level_problems(applied, schema),
    ]
    bad_fields = tuple(problem.field for problem in shape_problems if problem.kind is not Kind.UNKNOWN)
    return (*shape_problems, *evaluate.broken_rules(applied, bad_fields))


def normalised(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest as `kubectl apply` sends it: without fields that are null, and without a status."""
    applied: dict[str, Any] = structure.without_nulls(crd.schema(), manifest)
    return {name: value for name, value in applied.items() if name != "status"}


def _identity_problems(manifest: dict[str, Any]) -> Iterator[Problem]:
    for name, wanted in (("apiVersion", API_VERSION), ("kind", KIND)):
        value = manifest.get(name)
        if value is None:
            yield Problem(name, Kind.REQUIRED, f"{name}: {wanted}")
        elif value != wanted:
            yield Problem(name, Kind.UNSUPPORTED, f'supported values: "{wanted}"{nearest(value, [wanted])}', value)


def _top_level_problems(manifest: dict[str, Any], schema: Schema) -> Iterator[Problem]:
    top = {name: value for name, value in manifest.items() if name not in ("apiVersion", "kind", "metadata")}
    fields = {"type": "object", "properties": {"spec": schema["properties"]["spec"]}, "required": ["spec"]}
    for problem in structure.problems(fields, top, ""):
        yield Problem(problem.field.removeprefix("."), problem.kind, problem.message.lstrip("."), problem.value)
