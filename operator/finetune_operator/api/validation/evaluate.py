"""Evaluation of the rules of a FineTuneJob outside the API server: the same CEL text, with the functions that Kubernetes adds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fractions import Fraction
from functools import cache
from typing import Any

from finetune_operator.api.quantity import is_quantity, parse
from finetune_operator.api.rules import RULES, Rule
from finetune_operator.api.validation.cel_library import cel
from finetune_operator.api.validation.problem import Kind, Problem
from finetune_operator.api.validation.structure import type_name

_KINDS = {
    "FieldValueInvalid": Kind.INVALID,
    "FieldValueForbidden": Kind.FORBIDDEN,
    "FieldValueRequired": Kind.REQUIRED,
}


def broken_rules(manifest: dict[str, Any], bad_fields: tuple[str, ...]) -> Iterator[Problem]:
    """Yield the rules that the manifest breaks, except rules about a value that is, or holds, one of `bad_fields`."""
    for rule in RULES:
        if rule.is_transition:
            continue
        for field, value in _values(manifest, rule.at.split(".") if rule.at else [], ""):
            blamed_field = field + rule.field if field else rule.field.removeprefix(".")
            checked_field = field if rule.at else blamed_field
            if not any(_within(bad, checked_field) for bad in bad_fields) and not _holds(rule.rule, value):
                yield Problem(blamed_field, _KINDS[rule.reason], _message(rule, value), _shown(value, rule.field))


def _values(value: Any, path: list[str], field: str) -> Iterator[tuple[str, Any]]:
    """Yield every value that a rule's path leads to, with its field."""
    if not path:
        yield field, value
        return
    name, *rest = path
    holder = value.get(name.removesuffix("[]")) if isinstance(value, dict) else None
    if holder is None:
        return
    inner = f"{field}.{name}".removeprefix(".").removesuffix("[]")
    if not name.endswith("[]"):
        yield from _values(holder, rest, inner)
    elif isinstance(holder, list):
        for index, item in enumerate(holder):
            yield from _values(item, rest, f"{inner}[{index}]")
    elif isinstance(holder, dict):
        for key, item in holder.items():
            yield from _values(item, rest, f"{inner}[{key}]")


def _within(field: str, holder: str) -> bool:
    """Tell whether a field is another one, or lies in it. The API server writes a map's key as `.key` or as `[key]`."""
    plain, outer = (path.replace("[", ".").replace("]", "") for path in (field, holder))
    return plain == outer or plain.startswith(f"{outer}.")


def _holds(rule: str, value: Any) -> bool:
    """Tell whether a rule holds. As on the API server, a rule that cannot be evaluated does not."""
    try:
        return _program(rule).execute(_context(value)) is True
    except (RuntimeError, TypeError, ValueError):
        return False


def _message(rule: Rule, value: Any) -> str:
    if not rule.message_expression:
        return rule.message
    try:
        return str(_program(rule.message_expression).execute(_context(value)))
    except (RuntimeError, TypeError, ValueError):
        return rule.message


def _shown(value: Any, field: str) -> Any:
    """Return the value to blame: a scalar as it is, anything else by the name of its type."""
    for name in field.split(".")[1:]:
        value = value.get(name) if isinstance(value, dict) else None
    return type_name(value) if isinstance(value, dict | list) else value


@cache
def _program(expression: str) -> Any:
    return cel.compile(expression)


def _context(value: Any) -> Any:
    context = cel.Context(variables={"self": value, "oldSelf": ""})
    for name, function in _FUNCTIONS.items():
        context.add_function(name, function)
    return context


# A quantity travels through the CEL library as the text of a fraction: exact, and a type that the library knows.
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "isQuantity": is_quantity,
    "quantity": lambda text: str(parse(text)),
    "isInteger": lambda number: Fraction(number).denominator == 1,
    "asInteger": lambda number: int(Fraction(number)),
    "isLessThan": lambda number, other: Fraction(number) < Fraction(other),
    "isGreaterThan": lambda number, other: Fraction(number) > Fraction(other),
    "compareTo": lambda number, other: (Fraction(number) > Fraction(other)) - (Fraction(number) < Fraction(other)),
    "sum": sum,
    "format": lambda text, values: text % tuple(values),
    # `oldSelf` of a rule that is evaluated at creation too: there is none.
    "hasValue": lambda _: False,
}
