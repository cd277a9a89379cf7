"""One CEL rule as data, and small pieces of CEL that rules share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal


@dataclass(frozen=True)
class Rule:
    """A rule, the schema node that has it, and the message to a user who breaks it."""

    at: str
    """Dotted path of the schema node that `self` is, `[]` for the items of a list or map; empty for the whole object.

    The narrowest node that the rule needs: the API server tolerates an unchanged node that breaks a newer rule."""
    rule: str
    """The condition in CEL. One that speaks of `oldSelf` holds wherever `self.spec == oldSelf.spec`, or status could not be written."""
    message: str
    """Problem and way out, without the field: the API server puts the field's path before the message."""
    value: str = ""
    """CEL of the wrong value, with which the message then begins: the API server itself shows `self` alone, and only
    its type where it is an object or a list."""
    detail: str = ""
    """CEL of the end of the message, after a colon: the choices, where they depend on the object."""
    field: str = ""
    """Path below `at` of the field that is to blame: `.name`."""
    reason: Literal["FieldValueInvalid", "FieldValueForbidden", "FieldValueRequired"] = "FieldValueInvalid"
    optional_old_self: bool = False
    """Whether the rule is evaluated at creation too; `oldSelf` is an optional then."""

    @property
    def message_expression(self) -> str:
        """CEL of the message with the value in it; empty without a value. Where it fails, the API server uses `message`."""
        if not self.value:
            return ""
        shown = ", ".join(part for part in (self.value, self.detail) if part)
        escaped = self.message.replace("%", "%%")
        text = json.dumps(f'"%s" {escaped}' + (": %s" if self.detail else ""))
        return f"{text}.format([{shown}])"

    @property
    def is_transition(self) -> bool:
        """Whether only a change of an existing object can break the rule."""
        return "oldSelf" in self.rule and not self.optional_old_self

    def validation(self) -> dict[str, str | bool]:
        """Return the entry of `x-kubernetes-validations`."""
        entry: dict[str, str | bool] = {"rule": self.rule, "message": self.message}
        if self.message_expression:
            entry["messageExpression"] = self.message_expression
        if self.field:
            entry["fieldPath"] = self.field
        if self.reason != "FieldValueInvalid":
            entry["reason"] = self.reason
        if self.optional_old_self:
            entry["optionalOldSelf"] = True
        return entry


def of_tasks(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Let rules that are attached to spec speak of jobs with a task alone, whose dataset another rule asks for."""
    return tuple(
        replace(rule, rule=f"!has(self.task) || !has(self.dataset) || ({rule.rule})") if rule.at == "spec" else rule
        for rule in rules
    )


def cel_list(values: Iterable[str]) -> str:
    """Write a CEL list of strings."""
    return "[" + ", ".join(f"'{value}'" for value in values) + "]"


def cel_map(values: Mapping[str, str]) -> str:
    """Write a CEL map; its keys are strings, its values CEL expressions."""
    return "{" + ", ".join(f"'{key}': {value}" for key, value in values.items()) + "}"


def listed(values: Iterable[str], word: str = "and") -> str:
    """Write `a, b and c`, for a message."""
    *first_ones, last = values
    return f"{', '.join(first_ones)} {word} {last}" if first_ones else last


def starts_with_any(value: str, prefixes: Iterable[str]) -> str:
    """Write in CEL that the string begins with one of the prefixes."""
    return "(" + " || ".join(f"{value}.startsWith('{prefix}')" for prefix in prefixes) + ")"


def exactly_one(*names: str) -> str:
    """Write in CEL that one of the fields of self is given, and no other."""
    return " + ".join(f"(has(self.{name}) ? 1 : 0)" for name in names) + " == 1"


def at_least_zero(value: str) -> str:
    """Write in CEL that a quantity is not below 0."""
    return f"!quantity(string({value})).isLessThan(quantity('0'))"


def first(holder: str, condition: str) -> str:
    """Write in CEL the first key `k` of a map for which a condition holds. To list all such keys would cost too much."""
    return f"{holder}.filter(k, {condition})[0]"


def whole(value: str) -> str:
    """Write in CEL that a quantity is a plain whole number, without a unit."""
    return f"string({value}).matches('^[0-9]+$')"
