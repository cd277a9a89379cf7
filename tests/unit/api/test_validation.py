"""The table of good and bad specs against `finetune validate`; the cluster tier asks the API server the same."""

import re

import pytest

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.rules import RULES, Rule
from finetune_operator.api.validation import check
from finetune_operator.api.validation.evaluate import broken_rules
from tests.support.schema_cases import schema_cases
from tests.support.spec_cases import RULE_CASES, Case

CASES = (*RULE_CASES, *schema_cases())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_good_is_accepted(case: Case) -> None:
    """The model that the operator parses with accepts whatever the API server does."""
    manifest = case.good_manifest()

    assert check(manifest) == ()
    manifest["metadata"] |= {"namespace": "n", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    assert FineTuneJob.parse(manifest).spec.task == manifest["spec"].get("task")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_bad_is_refused_with_the_field_and_the_way_out(case: Case) -> None:
    problems = [str(problem) for problem in check(case.bad_manifest())]

    assert any(line.startswith(f"{case.field}: ") and case.message in line for line in problems), problems


def test_every_rule_has_a_case() -> None:
    """A rule is one that a bad case breaks; rules about a change are the cluster tier's."""
    broken = {
        (re.sub(r"\[[^]]*\]", "[]", problem.field), problem.message)
        for case in RULE_CASES
        for problem in broken_rules(case.bad_manifest(), ())
    }

    without = [rule for rule in RULES if not rule.is_transition and not _is_broken(rule, broken)]

    assert without == []


def _is_broken(rule: Rule, broken: set[tuple[str, str]]) -> bool:
    """Return whether the rule's message was given, also where an expression put the value before it."""
    blamed = f"{rule.at}{rule.field}".removeprefix(".")
    return any(field == blamed and rule.message in message for field, message in broken)
