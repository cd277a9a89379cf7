"""What somebody probably meant: the nearest name, or where the name belongs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from functools import cache
from typing import Any

from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.api.structural import Schema, structural_schema
from finetune_operator.api.training_arguments import LEFT_OUT
from finetune_operator.api.validation.problem import Kind, Problem

TRAINING_ARGUMENTS = "spec.trainingArguments"


def unknown_field(field: str, name: str, schema: Schema) -> Problem:
    """The problem of a name that the object does not have."""
    known = list(schema.get("properties", {}))
    same = [candidate for candidate in known if _plain(candidate) == _plain(name)]
    if match := same or get_close_matches(name, known, n=1, cutoff=0.7):
        return Problem(field, Kind.UNKNOWN, f"did you mean {match[0]}?")
    if reason := next((why for why, names in LEFT_OUT.items() if name in names), None):
        return Problem(field, Kind.UNKNOWN, f"not offered: {reason}")
    if places := [place for place in _places() if place.rpartition(".")[2] == name]:
        return Problem(field, Kind.UNKNOWN, f"did you mean {' or '.join(places[:2])}?")
    if field.startswith("spec.") and (match := get_close_matches(name, known, n=1, cutoff=0.5)):
        return Problem(field, Kind.UNKNOWN, f"did you mean {match[0]}?")
    return Problem(field, Kind.UNKNOWN)


def nearest(value: Any, choices: Iterable[str]) -> str:
    """`; did you mean "x"?` where one of the choices is near."""
    match = get_close_matches(value, list(choices), n=1) if isinstance(value, str) else []
    return f'; did you mean "{match[0]}"?' if match else ""


def _plain(name: str) -> str:
    """A name without what tells snake_case from camelCase."""
    return name.replace("_", "").replace("-", "").lower()


@cache
def _places() -> tuple[str, ...]:
    """The path of every field of spec."""
    return tuple(_paths(structural_schema(FineTuneJobSpec), "spec"))


def _paths(schema: Schema, path: str) -> Iterator[str]:
    for name, child in schema.get("properties", {}).items():
        yield f"{path}.{name}"
        yield from _paths(child, f"{path}.{name}")
        if "items" in child:
            yield from _paths(child["items"], f"{path}.{name}[]")
