"""Checks of a value by a structural schema: types, bounds, enums, required and unknown fields. Pure.

The schema is the one in the CustomResourceDefinition and the words are the API server's: a value that passes here passes
there, and one that does not is refused with the same sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from finetune_operator.api.structural import INT_OR_STRING, PRESERVE_UNKNOWN, Schema
from finetune_operator.api.validation.problem import Kind, Problem
from finetune_operator.api.validation.suggest import nearest, unknown_field

_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
}
_WORDS_READ_AS_BOOLEANS = {True: "yes", False: "no"}


def problems(schema: Schema, value: Any, field: str) -> Iterator[Problem]:
    """Yield the problems of a value and of all values in it."""
    if (problem := _type_problem(schema, value, field)) is not None:
        yield problem
        return
    if isinstance(value, dict):
        yield from _object_problems(schema, value, field)
    elif isinstance(value, list):
        yield from _list_problems(schema, value, field)
    elif isinstance(value, str):
        yield from _string_problems(schema, value, field)
    elif not isinstance(value, bool):
        yield from _number_problems(schema, value, field)
    if "enum" in schema and value not in schema["enum"]:
        allowed = ", ".join(f'"{choice}"' for choice in schema["enum"])
        yield Problem(field, Kind.UNSUPPORTED, f"supported values: {allowed}{nearest(value, schema['enum'])}", value)


def without_nulls(schema: Schema, value: Any) -> Any:
    """Return a value without the fields that are null: `kubectl apply` leaves them out."""
    if isinstance(value, dict) and not schema.get(PRESERVE_UNKNOWN):
        return {
            name: without_nulls(child_schema(schema, name) or {}, child)
            for name, child in value.items()
            if child is not None
        }
    if isinstance(value, list):
        return [without_nulls(schema.get("items", {}), item) for item in value]
    return value


def child_schema(schema: Schema, name: str) -> Schema | None:
    """Return the schema of a field of an object; None where the object has no such field."""
    child: Schema | None = schema.get("properties", {}).get(name, schema.get("additionalProperties"))
    return child


def type_name(value: Any) -> str:
    """Return the JSON type of a value, in the API server's word."""
    for name in ("boolean", "object", "array", "string", "integer", "number"):
        if isinstance(value, _TYPES[name]):
            return name
    return "null"


def _type_problem(schema: Schema, value: Any, field: str) -> Problem | None:
    wanted = ("integer", "string") if schema.get(INT_OR_STRING) else (schema["type"],)
    actual = type_name(value)
    if actual in wanted or (actual == "integer" and "number" in wanted):
        return None
    advice = ""
    if isinstance(value, bool) and "no" in schema.get("enum", ()):
        word = _WORDS_READ_AS_BOOLEANS[value]
        advice = f' (YAML reads {word} without quotes as {str(value).lower()}: write "{word}")'
    elif isinstance(value, bool) and wanted == ("string",):
        words = "y, yes, on and true" if value else "n, no, off and false"
        advice = f" (YAML reads {words} without quotes as {str(value).lower()}: write the word in quotes)"
    elif actual == "number" and INT_OR_STRING in schema:
        advice = f' (quote it: "{value}")'
    elif actual in ("integer", "number") and wanted == ("string",):
        advice = f' (quote it: "{value}", or as it is written in the manifest)'
    return Problem(
        field, Kind.INVALID, f'{field} in body must be of type {",".join(wanted)}: "{actual}"{advice}', actual
    )


def _object_problems(schema: Schema, value: dict[str, Any], field: str) -> Iterator[Problem]:
    limit = schema.get("maxProperties")
    if limit is not None and len(value) > limit:
        yield Problem(field, Kind.TOO_MANY, f"must have at most {limit} items", len(value))
    for name in schema.get("required", ()):
        if value.get(name) is None:
            choices = (child_schema(schema, name) or {}).get("enum", ())
            advice = f"one of {', '.join(choices)}" if choices else ""
            yield Problem(f"{field}.{name}", Kind.REQUIRED, advice)
    if schema.get(PRESERVE_UNKNOWN):
        return
    for name, child in value.items():
        inner = child_schema(schema, name)
        if inner is None:
            yield unknown_field(f"{field}.{name}", name, schema)
        elif child is not None:
            yield from problems(inner, child, f"{field}.{name}")


def _list_problems(schema: Schema, value: list[Any], field: str) -> Iterator[Problem]:
    most, least = schema.get("maxItems"), schema.get("minItems", 0)
    if most is not None and len(value) > most:
        yield Problem(field, Kind.TOO_MANY, f"must have at most {most} items", len(value))
    if len(value) < least:
        yield Problem(field, Kind.INVALID, f"{field} in body should have at least {least} items", len(value))
    for index, item in enumerate(value):
        yield from problems(schema["items"], item, f"{field}[{index}]")
    keys = schema.get("x-kubernetes-list-map-keys", ())
    seen: list[dict[str, Any]] = []
    for index, item in enumerate(value):
        key = {name: item.get(name) for name in keys} if isinstance(item, dict) else {}
        if key and key in seen:
            yield Problem(f"{field}[{index}]", Kind.DUPLICATE, value=key)
        seen.append(key)


def _string_problems(schema: Schema, value: str, field: str) -> Iterator[Problem]:
    """Yield the first problem of a string: the API server reports no more."""
    most, least = schema.get("maxLength"), schema.get("minLength", 0)
    if most is not None and len(value) > most:
        yield Problem(field, Kind.TOO_LONG, f"may not be more than {most} bytes")
    elif len(value) < least:
        yield Problem(field, Kind.INVALID, f"{field} in body should be at least {least} chars long", value)
    elif "pattern" in schema and not re.search(schema["pattern"], value):
        yield Problem(field, Kind.INVALID, f"{field} in body should match '{schema['pattern']}'", value)


def _number_problems(schema: Schema, value: float, field: str) -> Iterator[Problem]:
    least, most = schema.get("minimum"), schema.get("maximum")
    if least is not None and (value < least or (value == least and schema.get("exclusiveMinimum"))):
        bound = "greater than" if schema.get("exclusiveMinimum") else "greater than or equal to"
        yield Problem(field, Kind.INVALID, f"{field} in body should be {bound} {_number(least)}", value)
    if most is not None and (value > most or (value == most and schema.get("exclusiveMaximum"))):
        bound = "less than" if schema.get("exclusiveMaximum") else "less than or equal to"
        yield Problem(field, Kind.INVALID, f"{field} in body should be {bound} {_number(most)}", value)


def _number(bound: float) -> str:
    """Write a bound without a useless fraction."""
    return str(int(bound)) if bound == int(bound) else repr(bound)
