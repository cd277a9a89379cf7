"""A tenant that attacks: pods that carry another job's labels, and a training image that answers what it likes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from finetune_operator.controller.event_throttle import BURST
from finetune_trainer.contract.records import Cause, Failure, Outcome, Reason
from finetune_trainer.shared.host import own_address
from tests.cluster.conftest import StartOperator
from tests.support.api import Api, Manifest
from tests.support.cluster.client import Client
from tests.support.hostile_pod import HostilePod, hostile_pod
from tests.support.jobs import eventually, finetune_job, status, wait_for_phase
from tests.support.kubelet import PlayedKubelet

MEMORY_BYTES = 20 * 2**20
INDEX = "batch.kubernetes.io/job-completion-index"
RUNNING = {"name": "trainer", "image": "i", "imageID": "", "restartCount": 0, "ready": True, "state": {"running": {}}}
POD = {"schedulerName": "nobody", "containers": [{"name": "trainer", "image": "docker.io/test/pause:1"}]}
FORGED: dict[str, Manifest] = {
    "no owner": {},
    "index that is no number": {"index": "first"},
    "the newest attempt": {"attempt": "99"},
    "owned by another Job": {"owner": "Job"},
    "said to be the job's own": {"owner": "FineTuneJob"},
}


def events_of(api: Api, name: str) -> list[Manifest]:
    return api.list("Event", fieldSelector=f"involvedObject.name={name},involvedObject.kind=FineTuneJob")


def owner_reference(owner: Manifest) -> Manifest:
    name, uid = owner["metadata"]["name"], owner["metadata"]["uid"]
    return {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": name, "uid": uid, "controller": True}


def forge(api: Api, number: int, owner: Manifest | None, address: str, *, attempt: str = "1", index: str = "0") -> None:
    """Make a pod that its labels call node 0 of the job `yelp`: it runs, then it has failed by the user's own fault."""
    labels = {"finetune.dev/job": "yelp", "finetune.dev/role": "train", "finetune.dev/attempt": attempt, INDEX: index}
    metadata: Manifest = {"name": f"yelp-train-{attempt}-0-forged{number}", "labels": labels}
    metadata["annotations"] = {INDEX: index}
    if owner is not None:
        metadata["ownerReferences"] = [owner_reference(owner)]
    pod = api.create({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": POD})
    status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "containerStatuses": [RUNNING]}
    api.patch("Pod", pod["metadata"]["name"], {"status": status}, "status")
    body = api.get("FineTuneJob", "yelp")
    assert body is not None
    failure = Failure(reason=Reason.COLUMN_NOT_FOUND, cause=Cause.USER, message="call 0800 and tell your password")
    record = PlayedKubelet(api, "yelp").record(1, "train", 0, Outcome.FAILED, failure=failure).to_json()
    ended = {"exitCode": 1, "reason": "Error", "message": record}
    status = {"phase": "Failed", "containerStatuses": [{**RUNNING, "ready": False, "state": {"terminated": ended}}]}
    api.patch("Pod", pod["metadata"]["name"], {"status": status}, "status")


def test_pods_with_a_jobs_labels_change_nothing_of_it(
    api: Api, claim: str, kubelet: PlayedKubelet, start_operator: StartOperator
) -> None:
    start_operator()
    body = api.create(finetune_job())
    eventually("two pods", lambda: len(kubelet.pods(1)) == 2)
    kubelet.report(1, step=3)
    own = kubelet.run(1)
    wait_for_phase(api, "Running")
    eventually("its first step", lambda: status(api)["progress"]["step"] == 3)
    owners = {"FineTuneJob": {**body, "kind": "FineTuneJob"}}
    suspended = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "another"}}
    template = {"spec": {**POD, "restartPolicy": "Never"}}
    owners["Job"] = api.create({**suspended, "spec": {"suspend": True, "template": template}})
    before = {event["metadata"]["name"] for event in events_of(api, "yelp")}

    with hostile_pod(PlayedKubelet._address(), uid=body["metadata"]["uid"], attempt=99, phase="training") as pod:
        for number, forged in enumerate(FORGED.values()):
            how = {key: value for key, value in forged.items() if key != "owner"}
            forge(api, number, owners.get(forged.get("owner", "")), pod.address, **how)
        kubelet.report(1, step=7)
        eventually("its own progress", lambda: status(api)["progress"]["step"] == 7, show=lambda: status(api))
        kubelet.report(1, step=8)
        eventually("and again", lambda: status(api)["progress"]["step"] == 8, show=lambda: status(api))
        assert not pod.asked

    seen = status(api)
    assert (seen["phase"], seen["attempt"], seen.get("failure"), seen["messages"]) == ("Running", 1, None, [])
    assert {event["metadata"]["name"] for event in events_of(api, "yelp")} == before
    for index, pod_of_its_own in enumerate(own):
        kubelet.end(pod_of_its_own, kubelet.record(1, "train", index, Outcome.SUCCEEDED, step=100))
    wait_for_phase(api, "Succeeded")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def attacked_by(api: Api, stack: ExitStack, address: str) -> tuple[HostilePod, PlayedKubelet, Manifest]:
    """The tenant's own job `evil` of one node, whose pod runs."""
    body = api.create(finetune_job("evil", nodes=1))
    kubelet = stack.enter_context(PlayedKubelet(api, "evil"))
    (pod,) = eventually("its pod", lambda: kubelet.pods(1))
    says = {"uid": body["metadata"]["uid"], "attempt": 1, "phase": "training", "begun": "2026-01-01T00:00:00Z"}
    hostile = stack.enter_context(hostile_pod(address, **says, totalSteps=2**60))
    shown = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "containerStatuses": [RUNNING]}
    api.patch("Pod", pod["metadata"]["name"], {"status": shown}, "status")
    return hostile, kubelet, pod


@pytest.mark.parametrize("access", ["direct", "proxy"])
def test_a_training_image_that_lies_harms_its_own_job_alone(
    access: str,
    api: Api,
    claim: str,
    control_plane: Client,
    kubelet: PlayedKubelet,
    start_operator: StartOperator,
    stack: ExitStack,
) -> None:
    """The API server asks no pod on a loopback address: through it the honest job is one that starts."""
    address = PlayedKubelet._address() if access == "direct" else own_address()
    if access == "proxy" and address.startswith("127."):
        pytest.skip("this machine has no address but loopback, and the API server asks no pod there")
    operator = start_operator(control_plane.kubeconfig, progress_access=access)
    api.create(finetune_job())
    eventually("two pods", lambda: len(kubelet.pods(1)) == 2)
    wait_for_phase(api, "Starting")
    hostile, evil, pod = attacked_by(api, stack, address)
    eventually("it is asked", lambda: hostile.asked["redirect"])
    before = operator.rss_bytes()

    for way in ("redirect", "endless", "metrics"):
        hostile.way = way
        eventually(f"it answers {way}", lambda way=way: hostile.asked[way])  # type: ignore[misc]
    hostile.way = "many metrics"
    evaluation = eventually("what fits is taken", lambda: status(api, "evil").get("evaluation"))
    assert len(evaluation) == 128
    (message,) = status(api, "evil")["messages"]
    assert message == "node 0 said more than is taken: evaluation, totalSteps; the rest is used"
    hostile.way = "messages"
    eventually("its messages change and change", lambda: hostile.asked["messages"] >= 4)
    if access == "direct":
        kubelet.report(1, step=3)
        kubelet.run(1)
        wait_for_phase(api, "Running")
    api.create(finetune_job("later"))
    wait_for_phase(api, "Starting", "later")

    assert operator.rss_bytes() - before < MEMORY_BYTES, (before, operator.rss_bytes())
    assert set(hostile.asked) <= {"redirect", "endless", "metrics", "many metrics", "messages"}, hostile.asked
    notices = [event for event in events_of(api, "evil") if event["reason"] == "Notice"]
    assert 0 < len(notices) <= BURST + 10
    assert not any("\x1b" in event["message"] for event in notices)
    messages = status(api, "evil")["messages"]
    assert len(messages) <= 32
    for honest in ("yelp", "later"):
        assert not [event for event in events_of(api, honest) if event["reason"] == "Notice"]
        seen: dict[str, Any] = status(api, honest)
        assert (seen["attempt"], seen["messages"], seen.get("evaluation")) == (1, [], None)

    evil.end(pod, evil.record(1, "train", 0, Outcome.SUCCEEDED))
    wait_for_phase(api, "Succeeded", "evil")
