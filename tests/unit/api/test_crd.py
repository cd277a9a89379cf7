"""The CustomResourceDefinition is what its sources say, and its rules have the form that the API server needs."""

import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml

from finetune_operator.api import crd
from finetune_operator.api.rules import RULES, Rule
from tests.support.cluster.client import REPOSITORY

FILE = REPOSITORY / "crds" / "finetunejobs.finetune.dev.yaml"


def test_the_checked_in_file_is_what_the_generator_writes() -> None:
    checked = subprocess.run([sys.executable, REPOSITORY / "scripts" / "generate_crds.py", "--check"], check=False)

    assert checked.returncode == 0, "run `make generate`"
    assert yaml.safe_load(FILE.read_text()) == crd.manifest()


def test_names() -> None:
    names = crd.manifest()["spec"]["names"]

    assert (names["shortNames"], names["categories"]) == (["ftj"], ["all"])


def test_status_is_a_subresource() -> None:
    (version,) = crd.manifest()["spec"]["versions"]

    assert version["subresources"] == {"status": {}}
    assert [column["name"] for column in version["additionalPrinterColumns"] if "priority" not in column] == [
        *("Phase", "Reason", "Nodes", "Steps", "Loss", "Left", "Restarts", "Age")
    ]


def test_spec_has_no_defaults() -> None:
    """The API server would write defaults to the user's object."""

    def nodes(node: object) -> Iterator[dict[str, object]]:
        children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
        if isinstance(node, dict):
            yield node
        for child in children:
            yield from nodes(child)

    assert [node for node in nodes(crd.schema()) if "default" in node] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.at}{rule.field}")
def test_a_rule_has_one_line_of_message_and_a_field(rule: Rule) -> None:
    assert rule.message
    assert "\n" not in rule.message + rule.message_expression + rule.rule
    assert rule.at or rule.field, "the API server would call it <nil>"


@pytest.mark.parametrize("rule", [rule for rule in RULES if not rule.at], ids=lambda rule: rule.field)
def test_a_rule_about_the_whole_object_compares_with_what_was(rule: Rule) -> None:
    """A rule that does not would block the status writes of every object that breaks it."""
    assert "oldSelf" in rule.rule
