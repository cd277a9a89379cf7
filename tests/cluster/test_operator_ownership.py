"""Whose objects: what lies at a planned name and is not the job's is never touched, and the job says so and waits."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.cluster.conftest import StartOperator
from tests.support.api import Api, Manifest
from tests.support.jobs import condition, eventually, finetune_job, phase, status, wait_for_phase

POD = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "docker.io/test/pause:1"}]}}
CLAIM = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}

FOREIGN: dict[str, Manifest] = {
    "Service": {"apiVersion": "v1", "spec": {"ports": [{"port": 80}]}},
    "Job": {"apiVersion": "batch/v1", "spec": {"template": POD, "suspend": True}},
    "PersistentVolumeClaim": {"apiVersion": "v1", "spec": CLAIM},
}
NAMES = {"Service": "yelp", "Job": "yelp-train-1", "PersistentVolumeClaim": "yelp"}


def foreign(kind: str, labels: dict[str, str] | None = None) -> Manifest:
    return {**FOREIGN[kind], "kind": kind, "metadata": {"name": NAMES[kind], "labels": labels or {}}}


def storage_for(kind: str) -> dict[str, Any]:
    return {"storage": {"size": "1Gi"}} if kind == "PersistentVolumeClaim" else {}


def told(api: Api) -> Manifest:
    """The condition, once it says that a name is taken."""

    def check() -> Manifest | None:
        seen = condition(api, "Validated")
        return seen if seen.get("reason") == "NameTaken" else None

    return eventually("NameTaken", check, show=lambda: status(api))


def untouched(api: Api, before: Manifest) -> bool:
    now = api.get(before["kind"], before["metadata"]["name"])
    assert now is not None
    return all(
        now["metadata"].get(key) == before["metadata"].get(key) for key in ("uid", "ownerReferences", "labels")
    ) and (now["spec"] == before["spec"])


@pytest.mark.parametrize("labelled", [False, True], ids=["plain", "with our label"])
@pytest.mark.parametrize("kind", FOREIGN)
def test_somebody_elses_object(kind: str, labelled: bool, api: Api, claim: str, start_operator: StartOperator) -> None:
    before = api.create(foreign(kind, {"finetune.dev/job": "yelp"} if labelled else None))
    start_operator()
    begun = time.monotonic()
    api.create(finetune_job(**storage_for(kind)))
    found = told(api)
    assert time.monotonic() - begun < 2 or phase(api) == "Pending"
    assert (found["status"], NAMES[kind] in found["message"]) == ("False", True)
    assert untouched(api, before)

    api.delete(kind, NAMES[kind])
    eventually("it goes on by itself", lambda: status(api).get("attempt") == 1, 15, show=lambda: status(api))
    job = api.get("FineTuneJob", "yelp")
    ours = api.get(kind, NAMES[kind])
    assert job is not None
    assert ours is not None
    assert ours["metadata"]["uid"] != before["metadata"]["uid"]
    eventually("two pods", lambda: len(api.list("Pod", labelSelector="finetune.dev/job=yelp")) == 2)


def test_deleting_the_job_leaves_somebody_elses_object(api: Api, claim: str, start_operator: StartOperator) -> None:
    before = api.create(foreign("Service", {"finetune.dev/job": "yelp"}))
    start_operator()
    api.create(finetune_job())
    told(api)
    api.delete("FineTuneJob", "yelp")
    eventually("gone", lambda: api.get("FineTuneJob", "yelp") is None)
    time.sleep(2)
    assert untouched(api, before)


def test_a_kept_claim_belongs_to_the_job_that_made_it(api: Api, claim: str, start_operator: StartOperator) -> None:
    start_operator()
    api.create(finetune_job(storage={"size": "1Gi"}))
    wait_for_phase(api, "Starting")
    before = api.get("PersistentVolumeClaim", "yelp")
    assert before is not None
    api.delete("FineTuneJob", "yelp")
    eventually("all gone", lambda: not api.list("Job", labelSelector="finetune.dev/job=yelp"), 30)

    api.create(finetune_job(storage={"size": "1Gi"}))
    assert "claimName" in told(api)["message"]
    assert untouched(api, {**before, "kind": "PersistentVolumeClaim"})
    assert api.get("Job", "yelp-train-1") is None


def test_deleted_and_applied_again_at_once(api: Api, claim: str, start_operator: StartOperator) -> None:
    """The children of the first are still there when the second comes: they are not taken over."""
    start_operator()
    first = api.create(finetune_job())
    wait_for_phase(api, "Starting")
    api.delete("FineTuneJob", "yelp")
    eventually("gone", lambda: api.get("FineTuneJob", "yelp") is None)
    second = api.create(finetune_job())

    def owned_by_second() -> bool:
        job = api.get("Job", "yelp-train-1")
        return job is not None and job["metadata"]["ownerReferences"][0]["uid"] == second["metadata"]["uid"]

    eventually("a gang of its own", owned_by_second, 30, show=lambda: status(api))
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    eventually("Starting", lambda: phase(api) == "Starting", 15)


def test_two_operators_make_one_gang(api: Api, claim: str, start_operator: StartOperator) -> None:
    """Names decide: a race ends in a 409, whose object turns out to be ours."""
    start_operator()
    start_operator()
    api.create(finetune_job())
    eventually("two pods", lambda: len(api.list("Pod", labelSelector="finetune.dev/job=yelp")) == 2)
    wait_for_phase(api, "Starting")
    time.sleep(1)
    assert [job["metadata"]["name"] for job in api.list("Job")] == ["yelp-train-1"]
    assert condition(api, "Validated")["status"] == "True"
