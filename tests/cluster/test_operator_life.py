"""A job's life as its objects and its status show it: made, running, done, deleted."""

from __future__ import annotations

from finetune_trainer.contract.prepared import Resolved
from tests.cluster.conftest import StartOperator
from tests.support.api import Api, Manifest
from tests.support.jobs import condition, eventually, finetune_job, phase, status, wait_for_phase
from tests.support.kubelet import PlayedKubelet
from tests.support.operator import Operator

OURS = "finetune.dev/job=yelp"


def test_from_apply_to_succeeded(api: Api, claim: str, kubelet: PlayedKubelet, operator: Operator) -> None:
    made = api.create(finetune_job())
    eventually("two pods", lambda: len(kubelet.pods(1)) == 2)
    wait_for_phase(api, "Starting")

    kubelet.report(1, step=5)
    kubelet.run(1)
    running = wait_for_phase(api, "Running")
    assert running["nodes"] == {"desired": 2, "ready": 2}
    eventually("progress", lambda: status(api).get("progress", {}).get("step") == 5)
    kubelet.report(1, step=8, loss=0.5)
    eventually("more progress", lambda: status(api).get("summary", {}).get("steps") == "8/100")

    kubelet.succeed(1, step=100, evaluation={"accuracy": 0.9})
    done = wait_for_phase(api, "Succeeded")
    assert done["evaluation"] == {"accuracy": 0.9}
    assert done["model"]["claimName"] == claim
    assert condition(api, "Complete")["status"] == "True"
    assert done["observedGeneration"] == made["metadata"]["generation"]
    reasons = [event["reason"] for event in api.list("Event") if event["involvedObject"]["kind"] == "FineTuneJob"]
    assert sorted(reasons) == ["AttemptStarted", "Succeeded", "Training"], "an event for each transition, once"


def test_with_a_prepare_job_of_its_own(api: Api, claim: str, kubelet: PlayedKubelet, operator: Operator) -> None:
    api.create(finetune_job(model={"name": "google-bert/bert-base-cased"}))
    wait_for_phase(api, "Preparing")
    eventually("its pod", lambda: kubelet.pods(1, "prepare"))
    assert api.get("Job", "yelp-train-1") is None, "no training pod before the data are known to be good"
    kubelet.run(1, "prepare")
    kubelet.succeed(1, "prepare", resolved=Resolved(model_revision="0123abc"))
    eventually("two pods", lambda: len(kubelet.pods(1)) == 2)
    started = wait_for_phase(api, "Starting")
    assert started["resolved"]["modelRevision"] == "0123abc"
    assert condition(api, "Prepared")["status"] == "True"


def test_every_child_is_labelled_and_owned(api: Api, claim: str, operator: Operator) -> None:
    job = api.create(finetune_job())
    eventually("the gang", lambda: api.get("Job", "yelp-train-1"))
    wait_for_phase(api, "Starting")
    for kind in ("Job", "Service", "ConfigMap"):
        (child,) = api.list(kind, labelSelector="finetune.dev/job=yelp")
        (owner,) = child["metadata"]["ownerReferences"]
        assert (owner["uid"], owner["controller"], owner["blockOwnerDeletion"]) == (job["metadata"]["uid"], True, True)
    assert phase(api) == "Starting"


def test_the_users_object_stays_the_users(api: Api, claim: str, operator: Operator) -> None:
    applied = api.create(finetune_job())
    wait_for_phase(api, "Starting")
    body = api.get("FineTuneJob", "yelp")
    assert body is not None
    assert body["spec"] == applied["spec"]
    assert not {"annotations", "finalizers", "ownerReferences"} & body["metadata"].keys()
    assert body["metadata"]["generation"] == 1


def test_deletion_leaves_the_retained_claim_alone(api: Api, claim: str, operator: Operator) -> None:
    api.create(finetune_job(storage={"size": "1Gi"}))
    eventually("the gang", lambda: api.get("Job", "yelp-train-1"))
    eventually("its claim", lambda: api.get("PersistentVolumeClaim", "yelp"))
    api.delete("FineTuneJob", "yelp")
    kinds = ("Job", "Service", "ConfigMap", "Pod")
    eventually("all gone", lambda: not any(api.list(kind, labelSelector="finetune.dev/job=yelp") for kind in kinds))
    kept = api.get("PersistentVolumeClaim", "yelp")
    assert kept is not None
    assert "deletionTimestamp" not in kept["metadata"]


def test_a_foreground_deletion_is_over_when_the_pods_are_gone(api: Api, claim: str, operator: Operator) -> None:
    """What a pod holds is free when `kubectl delete --cascade=foreground` returns."""
    api.create(finetune_job(storage={"size": "1Gi"}))
    pods = eventually("two pods", lambda: _two(api.list("Pod", labelSelector=OURS)))
    wait_for_phase(api, "Starting")
    for pod in pods:  # as long as a machine would need to end it
        api.patch("Pod", pod["metadata"]["name"], {"metadata": {"finalizers": ["finetune.dev/machine"]}})

    api.delete("FineTuneJob", "yelp", propagationPolicy="Foreground")
    eventually("the rest is gone", lambda: not api.list("Service") and not api.list("ConfigMap", labelSelector=OURS))
    left = eventually("pods that end", lambda: [pod for pod in api.list("Pod") if _ends(pod)])
    assert len(left) == 2
    assert _ends(api.get("FineTuneJob", "yelp") or {}), "it is not over yet"

    api.patch("Pod", pods[0]["metadata"]["name"], {"metadata": {"finalizers": None}})
    eventually("one pod", lambda: len(api.list("Pod")) == 1)
    assert api.get("FineTuneJob", "yelp") is not None
    api.patch("Pod", pods[1]["metadata"]["name"], {"metadata": {"finalizers": None}})
    eventually("over", lambda: api.get("FineTuneJob", "yelp") is None)
    assert not api.list("Pod")
    assert not api.list("Job")
    kept = api.get("PersistentVolumeClaim", "yelp")
    assert kept is not None
    assert not _ends(kept)


def _two(pods: list[Manifest]) -> list[Manifest] | None:
    return pods if len(pods) == 2 else None


def _ends(item: Manifest) -> bool:
    return "deletionTimestamp" in item.get("metadata", {})


def test_a_claim_that_is_not_retained_goes_with_the_job(api: Api, claim: str, operator: Operator) -> None:
    api.create(finetune_job(storage={"size": "1Gi", "retain": False}))
    eventually("its claim", lambda: api.get("PersistentVolumeClaim", "yelp"))
    api.delete("FineTuneJob", "yelp")
    eventually("no claim", lambda: api.get("PersistentVolumeClaim", "yelp") is None)
    assert api.get("PersistentVolumeClaim", "shared") is not None


def test_sigterm_ends_the_operator_and_jobs_go_on(api: Api, claim: str, start_operator: StartOperator) -> None:
    operator = start_operator()
    api.create(finetune_job())
    wait_for_phase(api, "Starting")
    operator.terminate()
    assert operator.process.returncode == 0
    job = api.get("Job", "yelp-train-1")
    assert job is not None
    assert not job["spec"].get("suspend")
