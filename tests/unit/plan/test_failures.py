"""Golden cases: what a real cluster showed when something went wrong, and the words that users read about it.

Those that this project's machines can't bring about are written by hand, and say so under `recorded`.
"""

from __future__ import annotations

import re

import pytest

from finetune_operator.api.spec import FineTuneJobSpec
from finetune_operator.api.training_arguments import TrainingArguments
from finetune_operator.plan.observed.pod_blockers import ADVICE, Obstacle
from finetune_operator.plan.resolutions import RESOLUTIONS, ClusterReason
from finetune_trainer.contract.records import Reason
from tests.support.failures import Case, cases

COMMANDS = {"kubectl logs", "kubectl logs -c", "kubectl describe pod", "kubectl describe pvc", "kubectl edit pvc"}
OUTSIDE = {"fsGroup", "chown", "chgrp 10001", "chmod g+rwx", "owner/name", "auto", "never", "required", "read -r"}
"""Words in code style that are neither a field nor one of kubectl's."""


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_what_is_said_of_a_recorded_case(case: Case) -> None:
    case.assert_said()
    assert case.document["recorded"].startswith(("on a real cluster", "by hand"))


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_a_recorded_case_holds_nothing_of_the_machine_that_it_is_from(case: Case) -> None:
    text = str(case.document)
    assert not re.search(r"/root/|/work/|/tmp/|finetune-e\d+|bad-[0-9a-f]{8}", text)


def test_every_reason_has_a_way_out() -> None:
    assert {*Reason, *ClusterReason} == RESOLUTIONS.keys()
    assert {*Obstacle} <= ADVICE.keys()
    assert all(text.endswith(".") for text in RESOLUTIONS.values())


@pytest.mark.parametrize("reason", [*RESOLUTIONS, *ADVICE])
def test_a_way_out_names_fields_and_commands_that_exist(reason: str) -> None:
    named = re.findall(r"`([^`]+)`", {**ADVICE, **RESOLUTIONS}[reason])
    assert [name for name in named if not _exists(name)] == []


def _exists(name: str) -> bool:
    path = name.split(":")[0].split(".")
    if path[0] == "spec":
        return _is_field(path[1:])
    template = {"imagePullSecrets", "nodeSelector", "affinity", "priorityClassName", "ephemeral-storage", "memory"}
    return (
        name in COMMANDS | OUTSIDE | template
        or path[0] in TrainingArguments.model_fields
        or name == "registry/repository:tag"
    )


def _is_field(path: list[str]) -> bool:
    schema = FineTuneJobSpec.model_json_schema(by_alias=True)
    place = schema
    for name in path:
        if "properties" not in place:
            return False
        place = place["properties"].get(name, {})
        if not place:
            return False
        for reference in (place, *place.get("anyOf", ()), *place.get("allOf", ())):
            if "$ref" in reference:
                place = schema["$defs"][reference["$ref"].rpartition("/")[2]]
    return True
