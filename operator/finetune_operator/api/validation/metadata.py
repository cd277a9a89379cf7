"""Checks of `metadata` that every API server makes and no CustomResourceDefinition declares. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from finetune_operator.api.structural import PRESERVE_UNKNOWN, Schema
from finetune_operator.api.validation import structure
from finetune_operator.api.validation.problem import Kind, Problem

MAX_LENGTH = 63
_LABEL_VALUE = r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?"
_NAME = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_OF_LETTERS = (
    "consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character"
)

_TEXT = {"type": "string"}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_OBJECTS = {"type": "array", "items": {"type": "object", PRESERVE_UNKNOWN: True}}
SCHEMA: Schema = {
    "type": "object",
    "properties": {
        **dict.fromkeys(("name", "generateName", "namespace", "uid", "resourceVersion", "selfLink"), _TEXT),
        **dict.fromkeys(("creationTimestamp", "deletionTimestamp"), _TEXT),
        **{name: {"type": "integer"} for name in ("generation", "deletionGracePeriodSeconds")},
        **dict.fromkeys(("labels", "annotations"), _TEXTS),
        **dict.fromkeys(("ownerReferences", "managedFields"), _OBJECTS),
        "finalizers": {"type": "array", "items": _TEXT},
    },
}
"""Schema of Kubernetes' ObjectMeta."""


def problems(metadata: Any) -> Iterator[Problem]:
    """Yield the problems of an object's metadata, except those of its name, for which the API has a rule."""
    yield from structure.problems(SCHEMA, metadata, "metadata")
    if not isinstance(metadata, dict):
        return
    if "name" not in metadata and "generateName" not in metadata:
        yield Problem("metadata.name", Kind.REQUIRED, "name or generateName is required")
    for part in ("labels", "annotations"):
        for key, value in (metadata[part] if isinstance(metadata.get(part), dict) else {}).items():
            field = f"metadata.{part}"
            yield from (Problem(field, Kind.INVALID, why, key) for why in _wrong_with_key(key))
            if part == "labels" and isinstance(value, str):
                yield from (Problem(field, Kind.INVALID, why, value) for why in _wrong_with_value(value))


def _wrong_with_key(key: str) -> Iterator[str]:
    prefix, _, name = key.rpartition("/")
    if "/" in prefix:
        yield f"a qualified name must {_OF_LETTERS}"
        return
    if "/" in key and not re.fullmatch(_SUBDOMAIN, prefix):
        yield (
            "prefix part a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
            "and must start and end with an alphanumeric character"
        )
    if not name:
        yield "name part must be non-empty"
    elif len(name) > MAX_LENGTH:
        yield f"name part must be no more than {MAX_LENGTH} characters"
    elif not re.fullmatch(_NAME, name):
        yield f"name part must {_OF_LETTERS}"


def _wrong_with_value(value: str) -> Iterator[str]:
    if len(value) > MAX_LENGTH:
        yield f"must be no more than {MAX_LENGTH} characters"
    elif not re.fullmatch(_LABEL_VALUE, value):
        yield f"a valid label must be an empty string or {_OF_LETTERS}"
