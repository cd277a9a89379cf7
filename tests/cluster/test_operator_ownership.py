"""Whose objects: what lies at a planned name and is not the job's is never touched, and the job says so and waits."""

from __future__ import annotations

import time
from typing import Any

import pytest

from tests.cluster.conftest import StartOperator
from tests.support.api import Api, Manifest
from tests.support.jobs import condition, eventually, finetune_job, phase, status, wait_for_phase
from tests.support.operator import Operator

POD = {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "docker.io/test/pause:1"}]}}
CLAIM = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}

JOB = {"apiVersion": "batch/v1", "kind": "Job", "spec": {"template": POD, "suspend": True}}

FOREIGN: dict[str, Manifest] = {
    "yelp": {"apiVersion": "v1", "kind": "Service", "spec": {"ports": [{"port": 80}]}},
    "yelp-train-1": JOB,
    "yelp-prepare-1": JOB,
    "yelp claim": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "spec": CLAIM},
}
"""Objects of others at the name of each kind of child. A ConfigMap's name holds a digest of the job's uid: nobody can foresee it."""
SPECS: dict[str, dict[str, Any]] = {
    "yelp claim": {"storage": {"size": "1Gi"}},
    "yelp-prepare-1": {"model": {"name": "google-bert/bert-base-cased"}},
}


def foreign(what: str, labels: dict[str, str] | None = None) -> Manifest:
    return {**FOREIGN[what], "metadata": {"name": what.split()[0], "labels": labels or {}}}


def name_taken(api: Api) -> Manifest:
    """Wait for the condition Validated to say that a name is taken, and return it."""

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
@pytest.mark.parametrize("what", FOREIGN)
def test_somebody_elses_object(what: str, labelled: bool, api: Api, claim: str, operator: Operator) -> None:
    before = api.create(foreign(what, {"finetune.dev/job": "yelp"} if labelled else None))
    kind, name = before["kind"], before["metadata"]["name"]
    api.create(finetune_job(**SPECS.get(what, {})))
    validated = name_taken(api)
    assert (validated["status"], name in validated["message"]) == ("False", True)
    assert untouched(api, before)

    api.delete(kind, name)
    eventually("it goes on by itself", lambda: api.list("Pod", labelSelector="finetune.dev/job=yelp"))
    ours = eventually("its own object", lambda: api.get(kind, name))
    assert ours["metadata"]["uid"] != before["metadata"]["uid"]
    eventually("it says so", lambda: condition(api, "Validated")["status"] == "True", show=lambda: status(api))


def test_deleting_the_job_leaves_somebody_elses_object(api: Api, claim: str, operator: Operator) -> None:
    before = api.create(foreign("yelp", {"finetune.dev/job": "yelp"}))
    job = api.create(finetune_job())
    name_taken(api)
    owner = {"apiVersion": job["apiVersion"], "kind": job["kind"], "name": "yelp", "uid": job["metadata"]["uid"]}
    child = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "child", "ownerReferences": [owner]}}
    api.create(child)
    api.delete("FineTuneJob", "yelp")
    eventually("what was its own is collected", lambda: api.get("ConfigMap", "child") is None)
    assert untouched(api, before)


def test_a_kept_claim_belongs_to_the_job_that_made_it(api: Api, claim: str, operator: Operator) -> None:
    api.create(finetune_job(storage={"size": "1Gi"}))
    wait_for_phase(api, "Starting")
    before = api.get("PersistentVolumeClaim", "yelp")
    assert before is not None
    api.delete("FineTuneJob", "yelp")
    eventually("all gone", lambda: not api.list("Job", labelSelector="finetune.dev/job=yelp"))

    api.create(finetune_job(storage={"size": "1Gi"}))
    assert "claimName" in name_taken(api)["message"]
    assert untouched(api, {**before, "kind": "PersistentVolumeClaim"})
    assert api.get("Job", "yelp-train-1") is None


def test_deleted_and_applied_again_at_once(api: Api, claim: str, operator: Operator) -> None:
    """The children of the first are still there when the second comes: they are not taken over."""
    first = api.create(finetune_job())
    wait_for_phase(api, "Starting")
    api.delete("FineTuneJob", "yelp")
    eventually("gone", lambda: api.get("FineTuneJob", "yelp") is None)
    second = api.create(finetune_job())

    def owned_by_second() -> bool:
        job = api.get("Job", "yelp-train-1")
        return job is not None and job["metadata"]["ownerReferences"][0]["uid"] == second["metadata"]["uid"]

    eventually("a gang of its own", owned_by_second, show=lambda: status(api))
    assert first["metadata"]["uid"] != second["metadata"]["uid"]
    eventually("Starting", lambda: phase(api) == "Starting")


def test_two_operators_make_one_gang(api: Api, claim: str, operator: Operator, start_operator: StartOperator) -> None:
    """Names decide: a race ends in a 409, whose object turns out to be ours."""
    start_operator()
    api.create(finetune_job())
    eventually("two pods", lambda: len(api.list("Pod", labelSelector="finetune.dev/job=yelp")) == 2)
    wait_for_phase(api, "Starting")
    time.sleep(1)
    assert [job["metadata"]["name"] for job in api.list("Job")] == ["yelp-train-1"]
    assert condition(api, "Validated")["status"] == "True"
