"""Pods that do not start: what keeps them is said within seconds, and asked for no more often than it costs."""

from __future__ import annotations

import pytest

from finetune_operator.plan.types import Manifest, PodEvent
from tests.support.simulated import HUB_SPEC, World


def waiting(world: World, node: int, reason: str, message: str) -> None:
    status = {"name": "trainer", "state": {"waiting": {"reason": reason, "message": message}}}
    world.pod(1, node)["status"] = {"phase": "Pending", "containerStatuses": [status]}


def unschedulable(world: World) -> None:
    text = "0/2 nodes are available: 2 Insufficient nvidia.com/gpu."
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": text}
    for node in (0, 1):
        world.pod(1, node)["status"]["conditions"] = [condition]


def uid(item: Manifest) -> str:
    return str(item["metadata"]["uid"])


def test_an_unschedulable_pod_says_what_is_missing() -> None:
    world = World()
    world.wake()
    unschedulable(world)
    world.after(1)
    assert world.condition("Running")["reason"] == "Starting"
    world.after(2)
    running = world.condition("Running")
    assert (world.phase, running["status"], running["reason"]) == ("Starting", "False", "FailedScheduling")
    assert "2 of 2 machines have too little nvidia.com/gpu" in running["message"]
    assert "What to do" in running["message"]
    assert world.condition("Reconciling")["message"] == running["message"]
    assert world.reasons() == ["AttemptStarted", "FailedScheduling"]


def test_too_large_prepare_pod_names_its_field() -> None:
    """A pod that prepares and is too large is made smaller by its own field."""
    world = World(spec=HUB_SPEC)
    world.wake()
    text = "0/2 nodes are available: 2 Insufficient memory."
    world.pod(1, 0, "prepare")["status"]["conditions"] = [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": text}
    ]
    world.after(3)
    prepared = world.condition("Prepared")
    assert prepared["reason"] == "FailedScheduling"
    assert "correct `spec.helperResources`: the edit starts the job again" in prepared["message"]


@pytest.mark.parametrize(
    "reason",
    ["InvalidImageName", "CreateContainerConfigError", "CreateContainerError", "RunContainerError"],
)
def test_a_container_that_cannot_be_made_says_why(reason: str) -> None:
    world = World()
    world.wake()
    world.start(world.pod(1, 0))
    waiting(world, 1, reason, "the kubelet's own words")
    world.after(3)
    running = world.condition("Running")
    assert running["reason"] == reason
    assert "node 1" in running["message"]
    assert "the kubelet's own words" in running["message"]


def test_image_pulled_again_and_again_is_one_event() -> None:
    """The kubelet changes between the two reasons for hours."""
    world = World()
    world.wake()
    error = 'failed to pull image "registry.example/x:1": not found'
    for second in range(10):
        again = f'Back-off pulling image "registry.example/x:1": ErrImagePull: {error}'
        reason, message = ("ImagePullBackOff", again) if second % 2 else ("ErrImagePull", error)
        waiting(world, 0, reason, message)
        waiting(world, 1, reason, message)
        world.after(5)
    assert world.reasons() == ["AttemptStarted", "ImagePullFailed"]
    assert world.writes == 2
    assert "can't pull the image 'registry.example/x:1'" in world.condition("Running")["message"]


def test_a_missing_secret_is_found_in_the_pods_events() -> None:
    world = World()
    world.wake()
    text = 'MountVolume.SetUp failed for volume "data" : secret "data" not found'
    world.events[uid(world.pod(1, 0))] = (PodEvent("Unknown", "something else"), PodEvent("FailedMount", text, 5))
    world.after(3)
    running = world.condition("Running")
    assert running["reason"] == "SecretNotFound"
    assert "there is no Secret 'data' in namespace 'team'" in running["message"]


def test_a_warning_that_keeps_no_pod_is_not_told() -> None:
    """The kubelet posts this warning about every volume that belongs to root, and the pod starts a moment later."""
    world = World()
    world.wake()
    text = "The requested fsGroup is 10001, but the volume shared has GID 0. The volume may not be shareable."
    world.events[uid(world.pod(1, 0))] = (PodEvent("AlreadyMountedVolume", text),)
    world.after(3)
    assert world.condition("Running")["reason"] == "Starting"


def test_a_sidecar_that_ends_again_and_again_is_one_event() -> None:
    """The sidecar's state goes from end to back-off and on; the words stay."""
    world = World()
    world.wake()
    ended = {"exitCode": 3, "reason": "Error", "message": "no route", "finishedAt": "2026-03-01T12:00:01Z"}
    states: list[Manifest] = [{"terminated": ended}, {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}}]
    for second in range(6):
        proxy = {"name": "proxy", "restartCount": 2, "state": states[second % 2], "lastState": {"terminated": ended}}
        for node in (0, 1):
            world.pod(1, node)["status"] = {"phase": "Pending", "initContainerStatuses": [proxy]}
        world.after(5)
    assert world.reasons() == ["AttemptStarted", "SidecarFails"]
    assert "proxy of node 0 ends again and again with exit code 3: no route" in world.condition("Running")["message"]


def test_pods_that_a_quota_forbids_are_found_in_the_jobs_events() -> None:
    world = World()
    world.wake()
    job = world.find("Job", "reviews-train-1")
    assert job is not None
    for pod in world.pods_of("reviews-train-1"):
        del world.objects[uid(pod)]
    text = 'pods "reviews-train-1-0-abc" is forbidden: exceeded quota: few'
    world.events[uid(job)] = (PodEvent("FailedCreate", text, 2),)
    world.after(3)
    running = world.condition("Running")
    assert (running["reason"], "exceeded quota" in running["message"]) == ("FailedCreate", True)
    assert "2 of 2 pods" in running["message"]


def test_events_are_asked_for_at_growing_distances() -> None:
    """Each answer is a request; between two of them what was said still stands."""
    world = World()
    world.wake()
    text = "secret not found"
    world.events[uid(world.pod(1, 0))] = (PodEvent("FailedMount", text),)
    asked: list[float] = []
    seen: set[str] = set()
    for _ in range(14):
        before = dict(world.read_events)
        pause = world.decision.requeue_after_seconds
        assert pause is not None
        assert pause > 0
        world.after(pause)
        if world.read_events != before or uid(world.pod(1, 0)) in world.read_events:
            asked.append((world.now - world.job().metadata.creation_timestamp).total_seconds())
        seen.add(world.condition("Running")["reason"])
    assert len(asked) <= 8
    assert seen == {"FailedMount"}


def test_polling_node_0_does_not_ask_for_events_every_second() -> None:
    world = World()
    world.wake()
    world.start(world.pod(1, 0))
    asked = 0
    for _ in range(60):
        world.after(1)
        asked += bool(world.asked_events)
        world.asked_events = 0
    assert asked <= 5


def test_nothing_is_said_of_pods_that_start_quickly() -> None:
    world = World()
    world.wake()
    world.after(1)
    world.run(1)
    world.after(5)
    assert world.asked_events == 0
    assert world.condition("Running")["reason"] == "Starting"


def test_once_the_pods_run_the_reason_goes() -> None:
    world = World()
    world.wake()
    unschedulable(world)
    world.after(3)
    world.run(1)
    world.after(1)
    assert world.condition("Running")["reason"] == "Starting"
    assert world.status["nodes"] == {"desired": 2, "ready": 2}


def test_nodes_that_start_together_are_one_write() -> None:
    world = World()
    world.wake()
    writes = world.writes
    world.start(world.pod(1, 0))
    world.after(1)
    assert world.writes == writes
    world.start(world.pod(1, 1))
    world.after(1)
    assert (world.writes, world.status["nodes"]["ready"]) == (writes + 1, 2)


def test_a_straggler_shows_after_a_moment() -> None:
    world = World()
    world.wake()
    world.start(world.pod(1, 0))
    world.after(1)
    world.after(1)
    assert world.status["summary"]["nodes"] == "1/2"


def test_pods_that_run_and_cannot_be_asked_are_said_to() -> None:
    """The phase would stay Starting for ever without a word."""
    world = World()
    world.wake()
    world.run(1)
    world.after(30)
    assert world.condition("Running")["reason"] == "Starting"
    world.after(30)
    assert world.condition("Running")["reason"] == "ProgressUnknown"
    assert "port 8080" in world.condition("Running")["message"]
    world.tell(1, step=1, total_steps=9)
    world.after(1)
    assert world.condition("Running")["reason"] == "Training"
