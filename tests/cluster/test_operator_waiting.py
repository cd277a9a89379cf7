"""What keeps the operator itself waiting, or a namespace's quota a job. Users' mistakes are in `test_bad_input_operator`."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.api import Api, ApiFailed, Manifest
from tests.support.cluster.client import Client
from tests.support.definition import DEFINITION, SCHEMA, change_definition, restore_definition
from tests.support.jobs import condition, eventually, finetune_job, status, wait_for_phase
from tests.support.operator import Operator


def refused(api: Api, name: str = "yelp") -> Manifest:
    """Wait until the condition Validated is False, and return it."""

    def check() -> Manifest | None:
        seen = condition(api, "Validated", name)
        return seen if seen.get("status") == "False" else None

    return eventually("Validated=False", check, show=lambda: status(api, name))


def test_quota_refuses_and_is_raised(api: Api, claim: str, operator: Operator) -> None:
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": {"name": "q"},
        "spec": {"hard": {"count/jobs.batch": "0"}},
    }
    api.create(quota)
    eventually("quota is counted", lambda: (api.get("ResourceQuota", "q") or {}).get("status", {}).get("hard"))
    api.create(finetune_job())
    refusal = refused(api)
    assert "quota" in refusal["message"]
    assert "yelp-train-1" in refusal["message"]
    api.delete("ResourceQuota", "q")
    eventually("the gang", lambda: api.get("Job", "yelp-train-1"), show=lambda: status(api))
    eventually("Validated", lambda: condition(api, "Validated").get("status") == "True")


@pytest.fixture
def loose_crd(control_plane: Client) -> Iterator[None]:
    """The resource definition of an older version, which lets more pass than the models do."""
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    change: list[Manifest] = [{"op": "replace", "path": f"{SCHEMA}/properties/spec", "value": anything}]
    schema = control_plane.get("crd", DEFINITION)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    if "x-kubernetes-validations" in schema:
        change.append({"op": "remove", "path": f"{SCHEMA}/x-kubernetes-validations"})
    change_definition(control_plane, *change)
    yield
    restore_definition(control_plane)


def test_what_the_models_refuse_is_said_and_ends_nothing(
    loose_crd: None, api: Api, claim: str, operator: Operator
) -> None:
    nonsense = finetune_job("nonsense")
    nonsense["spec"] |= {"nodes": "two", "surprise": True}

    def accepted() -> bool:
        try:
            api.create(nonsense)
        except ApiFailed as error:  # the API server takes a moment to serve the other schema
            print(error)
            return False
        return True

    eventually("the loose schema is served", accepted)
    refusal = refused(api, "nonsense")
    assert refusal["reason"] == "SpecInvalid"
    assert "spec.nodes" in refusal["message"]
    api.create(finetune_job())
    wait_for_phase(api, "Starting")
    assert operator.process.poll() is None
    assert api.list("Job", labelSelector="finetune.dev/job=nonsense") == []
