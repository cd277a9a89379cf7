"""The table of good and bad specs against the real API server; `tests/unit/api` asks `finetune validate` the same."""

import json
import re
import subprocess

import pytest

from finetune_operator.api.validation import Problem, check
from tests.support.cluster.client import Client
from tests.support.schema_cases import schema_cases
from tests.support.spec_cases import RULE_CASES, Case

CASES = {case.name: case for case in (*RULE_CASES, *schema_cases())}
REFUSED = re.compile(r'FineTuneJob\.finetune\.dev "([^"]+)" is invalid: (.*)')
ACCEPTED = re.compile(r"finetunejob\.finetune\.dev/(\S+) created \(server dry run\)")

Answers = dict[str, str]
"""Name of a case and `good` or `bad` -> what the API server said, empty where it accepted."""


@pytest.fixture(scope="module")
def answers(control_plane: Client) -> Answers:
    """Answers to all cases, from two runs of kubectl, as dry runs on the server."""
    by_case: Answers = {}
    for kind in ("good", "bad"):
        names: dict[str, str] = {}
        manifests = []
        for number, case in enumerate(CASES.values()):
            manifest = case.good_manifest() if kind == "good" else case.bad_manifest()
            if kind == "good" or not case.metadata:
                manifest["metadata"]["name"] = f"{kind}-{number}"
            names[manifest["metadata"]["name"]] = f"{case.name} {kind}"
            manifests.append(json.dumps(manifest))
        created = _create(control_plane, manifests)
        by_case |= {names[name]: "" for name in ACCEPTED.findall(created.stdout)}
        by_case |= {names[name]: message for name, message in REFUSED.findall(created.stderr)}
    return by_case


def _create(client: Client, manifests: list[str]) -> subprocess.CompletedProcess[str]:
    # A stream that begins with a brace would be read as JSON alone, up to the first `---`.
    stream = "---\n" + "\n---\n".join(manifests)
    return client.kubectl("create", "--dry-run=server", "--namespace=default", "-f", "-", stdin=stream, check=False)


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_good_is_accepted(case: Case, answers: Answers) -> None:
    assert answers[f"{case.name} good"] == ""


@pytest.mark.parametrize("case", CASES.values(), ids=lambda case: case.name)
def test_bad_is_refused_with_the_field_and_the_way_out(case: Case, answers: Answers) -> None:
    answer = answers[f"{case.name} bad"]

    assert f"{case.field}: " in answer
    assert case.message in answer


def test_validate_says_the_same_in_the_same_words(answers: Answers) -> None:
    """`finetune validate` adds what was meant and how to quote it."""
    other = {
        case.name: str(problem)
        for case in CASES.values()
        for problem in check(case.bad_manifest())
        if problem.field == case.field and _server_part(problem) not in answers[f"{case.name} bad"]
    }

    assert other == {}


def _server_part(problem: Problem) -> str:
    return re.sub(r"^one of .*|; did you mean .*| \((YAML reads|quote it).*", "", problem.message)
