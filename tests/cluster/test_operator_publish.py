"""Publishing on a real control plane: after the training pods, again without training, by whichever operator lives.

Each test has an operator of its own namespace: one for the whole cluster would carry on where another is killed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetune_trainer.contract.records import Cause, Failure, Outcome, PublishedModel, Reason
from tests.cluster.conftest import StartOperator
from tests.support.api import Api, Manifest
from tests.support.cluster.client import Client
from tests.support.faults import Fault, FaultProxy
from tests.support.jobs import condition, eventually, finetune_job, status, wait_for_phase
from tests.support.kubelet import PlayedKubelet

HUB = PublishedModel(repo_id="me/yelp", url="https://huggingface.co/me/yelp", commit="c" * 40)
DENIED = Failure(reason=Reason.ACCESS_DENIED, cause=Cause.USER, message="this token may not write to me/yelp")


def training(api: Api, kubelet: PlayedKubelet, **spec: Any) -> None:
    """Let the job `yelp`, which publishes, train on two nodes."""
    token = {"tokenSecretRef": {"name": "hf", "key": "token"}}
    api.create(finetune_job(hub=token, publish={"repoId": "me/yelp"}, **spec))
    eventually("a prepare pod", lambda: kubelet.pods(1, "prepare"))
    kubelet.run(1, "prepare")
    kubelet.succeed(1, "prepare")
    eventually("two pods", lambda: len(kubelet.pods(1)) == 2)
    kubelet.report(1, step=3)
    kubelet.run(1)
    wait_for_phase(api, "Running")


def publish_pod(kubelet: PlayedKubelet, number: int) -> Manifest:
    (pod,) = eventually(f"publish pod {number}", lambda: kubelet.pods(number, "publish"))
    return pod


def columns(client: Client, namespace: str) -> dict[str, str]:
    """What `kubectl get` shows of the one job, by column."""
    header, row = client.kubectl("get", "ftj", f"--namespace={namespace}").stdout.splitlines()
    starts = [(name, header.index(name)) for name in header.split()]
    ends = [start for _, start in starts[1:]] + [len(row) + 1]
    return {name: row[start:end].strip() for (name, start), end in zip(starts, ends, strict=True)}


def jobs(api: Api) -> list[str]:
    return sorted(job["metadata"]["name"] for job in api.list("Job"))


def events(api: Api) -> list[str]:
    job_events = [event for event in api.list("Event") if event["involvedObject"]["kind"] == "FineTuneJob"]
    return sorted(event["reason"] for event in job_events)


def test_accelerators_are_given_back_before_the_model_is_published(
    api: Api, claim: str, kubelet: PlayedKubelet, start_operator: StartOperator, control_plane: Client
) -> None:
    start_operator()
    training(api, kubelet)
    first, second = kubelet.pods(1)
    kubelet.end(first, kubelet.record(1, "train", 0, Outcome.SUCCEEDED, step=100))
    published = wait_for_phase(api, "Publishing")
    assert published["model"]["claimName"] == claim
    assert "yelp-publish-1" not in jobs(api)
    kubelet.end(second, kubelet.record(1, "train", 1, Outcome.SUCCEEDED))
    pod = publish_pod(kubelet, 1)
    assert all(train_pod["status"]["phase"] == "Succeeded" for train_pod in kubelet.pods(1))
    assert pod["spec"]["containers"][0]["args"] == ["publish"]
    kubelet.run(1, "publish")
    eventually("it says so", lambda: "Job yelp-publish-1" in condition(api, "Published")["message"])
    seen = columns(control_plane, api.namespace)
    assert (seen["PHASE"], seen["REASON"], seen["NODES"], seen["STEPS"]) == ("Publishing", "", "2/2", "100/100")
    kubelet.succeed(1, "publish", hub=HUB)
    end = wait_for_phase(api, "Succeeded")
    assert end["model"]["hub"] == HUB.model_dump(by_alias=True)
    assert condition(api, "Published")["status"] == condition(api, "Complete")["status"] == "True"
    assert jobs(api) == ["yelp-prepare-1", "yelp-publish-1", "yelp-train-1"]
    assert events(api) == ["AttemptStarted", "Prepared", "Published", "Publishing", "Succeeded", "Training"]


def test_publishing_that_failed_is_repeated_without_training(
    api: Api, claim: str, kubelet: PlayedKubelet, start_operator: StartOperator, control_plane: Client
) -> None:
    start_operator()
    training(api, kubelet)
    kubelet.succeed(1, step=100)
    pod = publish_pod(kubelet, 1)
    kubelet.end(pod, kubelet.record(1, "publish", 0, Outcome.FAILED, failure=DENIED))
    failed = wait_for_phase(api, "Failed")
    assert (failed["failure"]["reason"], failed["model"]["claimName"]) == ("AccessDenied", claim)
    assert "may not write to me/yelp" in condition(api, "Failed")["message"]
    assert columns(control_plane, api.namespace)["REASON"] == "AccessDenied"
    assert {"PublishFailed", "AccessDenied"} <= set(events(api))
    api.patch("FineTuneJob", "yelp", {"spec": {"retry": 1, "publish": {"repoId": "team/yelp"}}})
    pod = publish_pod(kubelet, 2)
    assert wait_for_phase(api, "Publishing").get("failure") is None
    kubelet.remove(pod)  # as an eviction does; another pod takes its place
    publish_pod(kubelet, 3)
    kubelet.succeed(3, "publish", hub=HUB)
    end = wait_for_phase(api, "Succeeded")
    assert (end["attempt"], end["prepareAttempt"], end["publishAttempt"]) == (1, 1, 3)
    assert jobs(api) == ["yelp-prepare-1", "yelp-publish-2", "yelp-publish-3", "yelp-train-1"]


def test_an_operator_that_is_killed_at_every_change_publishes_once(
    api: Api,
    operator_kubeconfig: Path,
    claim: str,
    kubelet: PlayedKubelet,
    start_operator: StartOperator,
    tmp_path: Path,
) -> None:
    with FaultProxy(Api(operator_kubeconfig, api.namespace)) as proxy:
        kubeconfig = proxy.kubeconfig(tmp_path)
        operators = [start_operator(kubeconfig, pod_diagnosis_seconds=600)]
        training(api, kubelet)
        changes: set[tuple[str, ...]] = set()

        def at_first_sight(method: str, path: str, body: Manifest) -> Fault | None:
            if operators[-1].process.poll() is not None:
                return Fault.UNAVAILABLE  # the next one is starting: nobody could kill it yet
            new_status = body.get("status", {})
            what = body["reason"] if path.endswith("/events") else body.get("metadata", {}).get("name")
            change = (method, str(what), str(new_status.get("phase")), str(new_status.get("publishAttempt")))
            first = change not in changes
            changes.add(change)
            return Fault.CUT_AFTER if first else None

        def step() -> bool:
            if operators[-1].process.poll() is not None:
                operators.append(start_operator(kubeconfig, pod_diagnosis_seconds=600))
                proxy.cut = operators[-1].kill
            seen = status(api)
            number = seen.get("publishAttempt") if seen["phase"] == "Publishing" else None
            if number == 1 and (pods := kubelet.pods(1, "publish")):
                kubelet.remove(pods[0])
            elif number == 2 and kubelet.pods(2, "publish"):
                kubelet.succeed(2, "publish", hub=HUB)
            return bool(seen["phase"] == "Succeeded")

        proxy.cut, proxy.fault = operators[-1].kill, at_first_sight
        kubelet.succeed(1, step=100)
        eventually("the end", step, show=lambda: status(api))
    assert len(operators) >= 6
    assert jobs(api) == ["yelp-prepare-1", "yelp-publish-1", "yelp-publish-2", "yelp-train-1"]
    deadlines = {
        variable["value"]
        for job in api.list("Job", labelSelector="finetune.dev/role=publish")
        for variable in job["spec"]["template"]["spec"]["containers"][0]["env"]
        if variable["name"] == "FINETUNE_DEADLINE"
    }
    assert len(deadlines) == 1
    assert status(api)["model"]["hub"]["commit"] == HUB.commit
    assert events(api) == [
        *("AttemptStarted", "Prepared", "Published", "Publishing", "PublishingAgain", "Succeeded", "Training")
    ]
