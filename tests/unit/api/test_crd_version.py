"""What an older definition of FineTuneJob lacks, told by field."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from finetune_operator.api import crd
from finetune_operator.api.crd_version import in_short, spec_lacks, status_lacks


def document(schema: Any) -> dict[str, Any]:
    """Make the document in which the API server describes a group and version."""
    others = {"io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta": {"type": "object"}}
    return {"components": {"schemas": {**others, "dev.finetune.v1alpha1.FineTuneJob": schema}}}


def test_the_own_definition_lacks_nothing() -> None:
    assert status_lacks(document(crd.schema())) == ()
    assert spec_lacks(document(crd.schema())) == ()


def test_fields_and_values_that_are_missing_are_named() -> None:
    older = deepcopy(crd.schema())
    status, spec = (older["properties"][part]["properties"] for part in ("status", "spec"))
    del status["budget"], status["conditions"]["items"]["properties"]["observedGeneration"], spec["trainingArguments"]
    status["phase"]["enum"].remove("Publishing")

    assert set(status_lacks(document(older))) == {
        "status.budget",
        "status.conditions[].observedGeneration",
        "status.phase: Publishing",
    }
    assert spec_lacks(document(older)) == ("spec.trainingArguments",)


def test_a_newer_definition_lacks_nothing() -> None:
    newer = deepcopy(crd.schema())
    newer["properties"]["status"]["properties"]["later"] = {"type": "string"}
    newer["properties"]["status"]["properties"]["phase"]["enum"].append("Later")

    assert status_lacks(document(newer)) == ()


def test_what_keeps_everything_or_says_nothing_lacks_nothing() -> None:
    loose = {"type": "object", "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}}

    assert spec_lacks(document(loose)) == ()
    assert status_lacks(document(loose)) == ("status",)
    assert status_lacks({}) == ()


def test_many_are_told_in_short() -> None:
    assert in_short(("a", "b")) == "a, b"
    assert in_short(tuple("abcdefg")) == "a, b, c, d, e and 2 more"
