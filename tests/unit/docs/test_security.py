"""The page about security says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from finetune_operator.api.resource import LABEL_JOB
from finetune_operator.plan.template_policy import DEFAULT_ALLOWED, MEANINGS, Capability
from finetune_trainer.contract.run_config import PORT

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs/security.md").read_text()


def test_what_a_template_may_ask_for_is_all_there() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.*) \| (yes|no) \|$", PAGE, flags=re.MULTILINE)
    wanted = [
        (str(capability), MEANINGS[capability], "yes" if capability in DEFAULT_ALLOWED else "no")
        for capability in Capability
    ]
    assert rows == wanted


def test_every_test_that_is_named_is_there() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", PAGE)
    assert len(named) > 20
    missing = [
        f"{path}::{name}"
        for path, name in named
        if not (ROOT / path).exists()
        or not re.search(rf"^(async )?def {name}\(", (ROOT / path).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_every_protection_names_a_test() -> None:
    section = PAGE.split("## What protects")[1].split("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert len(rows) > 10
    assert [row for row in rows if "`tests/" not in row] == []


def test_the_network_policy_is_one() -> None:
    block = PAGE.split("\n        apiVersion: networking.k8s.io/v1\n")[1].split("\n\n   ")[0]
    policy = yaml.safe_load(f"        apiVersion: networking.k8s.io/v1\n{block}")
    assert policy["kind"] == "NetworkPolicy"
    assert {"key": LABEL_JOB, "operator": "Exists"} in policy["spec"]["podSelector"]["matchExpressions"]
    ports = [port["port"] for rule in policy["spec"]["ingress"] for port in rule.get("ports", ())]
    assert ports == [PORT]
