"""What only the operator can know: said within 2 s, and the job goes on by itself once it is mended."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.support.api import Api, ApiFailed, Manifest
from tests.support.cluster.client import REPOSITORY, Client
from tests.support.jobs import condition, eventually, finetune_job, status, wait_for_phase
from tests.support.operator import Operator

CLAIM: Manifest = {
    "apiVersion": "v1",
    "kind": "PersistentVolumeClaim",
    "metadata": {"name": "late"},
    "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""},
}


def refused(api: Api, name: str = "yelp") -> Manifest:
    """The condition Validated, once it is False."""

    def check() -> Manifest | None:
        seen = condition(api, "Validated", name)
        return seen if seen.get("status") == "False" else None

    return eventually("Validated=False", check, show=lambda: status(api, name))


def test_a_missing_claim_is_said_and_waited_for(api: Api, claim: str, operator: Operator) -> None:
    begun = time.monotonic()
    api.create(finetune_job(storage={"claimName": "late"}))
    found = refused(api)
    assert time.monotonic() - begun < 2
    assert "late" in found["message"]
    assert api.get("Job", "yelp-train-1") is None

    api.create(CLAIM)
    wait_for_phase(api, "Starting", seconds=15)
    assert condition(api, "Validated")["status"] == "True"
    reasons = [event["reason"] for event in api.list("Event") if event["involvedObject"]["name"] == "yelp"]
    assert len([one for one in reasons if one == found["reason"]]) == 1, "the transition is told once"


def test_a_claim_that_one_node_only_can_write_to(api: Api, claim: str, operator: Operator) -> None:
    api.create({**CLAIM, "spec": {**CLAIM["spec"], "accessModes": ["ReadWriteOnce"]}})
    begun = time.monotonic()
    api.create(finetune_job(storage={"claimName": "late"}))
    found = refused(api)
    assert time.monotonic() - begun < 2
    assert "ReadWriteOnce" in found["message"]

    api.delete("PersistentVolumeClaim", "late")
    eventually("gone", lambda: api.get("PersistentVolumeClaim", "late") is None)
    api.create(CLAIM)
    wait_for_phase(api, "Starting", seconds=15)


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
    found = refused(api)
    assert "quota" in found["message"]
    assert "yelp-train-1" in found["message"]
    api.delete("ResourceQuota", "q")
    eventually("the gang", lambda: api.get("Job", "yelp-train-1"), 20, show=lambda: status(api))
    eventually("Validated", lambda: condition(api, "Validated").get("status") == "True")


def test_a_bad_job_does_not_disturb_a_good_one(api: Api, claim: str, operator: Operator) -> None:
    for number in range(5):
        api.create(finetune_job(f"bad{number}", storage={"claimName": f"none{number}"}))
    api.create(finetune_job())
    wait_for_phase(api, "Starting", seconds=5)
    for number in range(5):
        assert refused(api, f"bad{number}")["status"] == "False"


@pytest.fixture
def loose_crd(control_plane: Client) -> Iterator[None]:
    """The resource definition of an older version, which lets more pass than the models do."""
    name = "finetunejobs.finetune.dev"
    path = "/spec/versions/0/schema/openAPIV3Schema"
    anything = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    change: list[Manifest] = [{"op": "replace", "path": f"{path}/properties/spec", "value": anything}]
    schema = control_plane.get("crd", name)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    if "x-kubernetes-validations" in schema:
        change.append({"op": "remove", "path": f"{path}/x-kubernetes-validations"})
    control_plane.kubectl("patch", "crd", name, "--type=json", f"--patch={json.dumps(change)}")
    yield
    control_plane.kubectl("replace", "-f", REPOSITORY / "crds" / f"{name}.yaml")
    control_plane.install_crds()


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
    found = refused(api, "nonsense")
    assert found["reason"] == "SpecInvalid"
    assert "spec.nodes" in found["message"]
    api.create(finetune_job())
    wait_for_phase(api, "Starting")
    assert operator.process.poll() is None
    assert api.list("Job", labelSelector="finetune.dev/job=nonsense") == []
