"""Why a gang ended, from what real clusters show: one case for each fault tried on real nodes, and then some."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from finetune_operator.plan.observed.diagnosis import Verdict, diagnose
from finetune_operator.plan.observed.gang import training_gang
from finetune_operator.plan.observed.objects import owned_objects
from finetune_operator.plan.resolutions import RESOLUTIONS, ClusterReason
from finetune_trainer.contract.records import Cause, Outcome, Reason
from tests.support.simulated import World, begun

Fault = Callable[[World], None]


def verdict(fault: Fault) -> Verdict:
    world = begun()
    world.now += timedelta(seconds=20)
    fault(world)
    observed = world.observed()
    return diagnose(training_gang(observed, owned_objects(observed), 1))


def deleted(world: World, node: int = 1) -> None:
    world.ask_to_end(world.pod(1, node))


def tick(world: World, seconds: float = 1) -> None:
    world.now += timedelta(seconds=seconds)


def both_end(world: World, *, reason: Reason | None = Reason.PEER_LOST, outcome: Outcome | None = None) -> None:
    for node in (0, 1):
        world.end(world.pod(1, node), world.record(1, node, reason=reason, outcome=outcome))


def deleted_by_hand(world: World) -> None:
    deleted(world)
    tick(world)
    world.end(world.pod(1, 1), world.record(1, 1, outcome=Outcome.STOPPED))
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST))
    world.vanish(world.pod(1, 1))


def deleted_and_the_peer_crashed_of_it(world: World) -> None:
    deleted(world)
    tick(world)
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.RANK_FAILED))
    world.end(world.pod(1, 1), world.record(1, 1, outcome=Outcome.STOPPED))


def deleted_and_the_other_by_the_job_in_the_same_second(world: World) -> None:
    """Delete a pod. The Job is suspended for it at once, which deletes the other pod too: that one ends first."""
    deleted(world)
    world.suspend("reviews-train-1")
    world.end(world.pod(1, 0), world.record(1, 0, outcome=Outcome.STOPPED), exit_code=143)
    tick(world)
    world.end(world.pod(1, 1), world.record(1, 1, outcome=Outcome.STOPPED), exit_code=143)


def deleted_first_and_its_peer_lost_it_in_the_same_second(world: World) -> None:
    deleted(world)
    world.suspend("reviews-train-1")
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST))
    world.end(world.pod(1, 1), world.record(1, 1, outcome=Outcome.STOPPED), exit_code=143)


def deleted_last_but_crashed_first_in_the_same_second(world: World) -> None:
    """Crash a pod. The Job is suspended for it, and deletes the pods in any order."""
    for node in (1, 0):
        deleted(world, node)
    world.fail_job("reviews-train-1")
    world.end(world.pod(1, 0), exit_code=1)
    tick(world)
    world.end(world.pod(1, 1), world.record(1, 1, outcome=Outcome.STOPPED), exit_code=143)


def ignores_sigterm(world: World) -> None:
    deleted(world)
    tick(world, 20)
    world.end(world.pod(1, 1), exit_code=137)
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST))


def deleted_before_it_could_speak(world: World) -> None:
    """Delete a pod that ends by SIGTERM, without a record. The clocks of the machines differ by more than that took."""
    world.end(world.pod(1, 1), exit_code=143)
    tick(world)
    deleted(world)
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST))


def deleted_and_ended_well_in_one_second(world: World) -> None:
    """Delete a pod of a plain program, which saves when it is asked to stop. A sidecar of the pod fails."""
    deleted(world)
    world.end(world.pod(1, 1), exit_code=0)
    world.pod(1, 1)["status"]["phase"] = "Failed"
    tick(world)
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST))


def told_to_stop_by_nobody_known(world: World) -> None:
    world.end(world.pod(1, 1), exit_code=143)
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST))


def evicted(world: World) -> None:
    world.disrupt(world.pod(1, 1), "EvictionByEvictionAPI", "Eviction API: evicting")
    tick(world)
    both_end(world)


def preempted(world: World) -> None:
    world.disrupt(world.pod(1, 0), "PreemptionByScheduler", "preempted by a pod of higher priority")
    tick(world)
    both_end(world)


def rank_killed(world: World) -> None:
    world.crash(1, 1, Reason.RANK_KILLED)


def out_of_memory_cgroup_1(world: World) -> None:
    """Let the kernel kill the worker; torchrun and `launch` live on."""
    world.end(world.pod(1, 1), world.record(1, 1, reason=Reason.RANK_KILLED), reason="OOMKilled")
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST))


def out_of_memory_cgroup_2(world: World) -> None:
    """Let the kernel kill `launch` too: there is no record."""
    world.end(world.pod(1, 1), exit_code=137, reason="OOMKilled")
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.RANK_FAILED))


def node_lost_sockets_closed(world: World) -> None:
    """Lose a node. The other node's rank fails first, by a reset connection."""
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.RANK_FAILED))
    tick(world, 10)
    node_lost_silently(world)


def node_silent_since_the_other_fell(world: World) -> None:
    """Silence a node, which may come back and say that the end was not its fault."""
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.RANK_FAILED))
    world.asked_nodes = {"machine-1"}
    world.lose_machine("machine-1")


def node_lost_silently(world: World) -> None:
    world.asked_nodes = {"machine-1"}
    world.lose_machine("machine-1")
    tick(world, world.settings.lost_node_seconds)


def taint_manager_on_a_silent_node(world: World) -> None:
    node_lost_silently(world)
    world.disrupt(world.pod(1, 1), "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")


def node_deleted(world: World) -> None:
    world.asked_nodes = {"machine-1"}
    world.remove_machine("machine-1")


def node_out_of_service(world: World) -> None:
    world.asked_nodes = {"machine-1"}
    world.lose_machine("machine-1", taint="node.kubernetes.io/out-of-service")


def taint_manager(world: World) -> None:
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.RANK_FAILED))
    tick(world, 18)
    world.disrupt(world.pod(1, 1), "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")


def pod_gc(world: World) -> None:
    world.disrupt(world.pod(1, 1), "DeletionByPodGC", "PodGC: node no longer exists")


def killed_from_outside(world: World) -> None:
    world.end(world.pod(1, 1), exit_code=137)
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST))


def ended_without_a_record(world: World) -> None:
    world.end(world.pod(1, 1), exit_code=3, message="segmentation fault")
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST))


def full_volume(world: World) -> None:
    world.crash(1, 0, Reason.VOLUME_FULL)


def crashed_then_the_job_deleted_the_peer(world: World) -> None:
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.RANK_FAILED))
    tick(world)
    world.fail_job("reviews-train-1")
    tick(world)
    world.end(world.pod(1, 1), world.record(1, 1, outcome=Outcome.STOPPED))
    world.vanish(world.pod(1, 1))


def crashed_then_we_suspended(world: World) -> None:
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.RANK_FAILED))
    world.suspend("reviews-train-1")
    tick(world)
    world.end(world.pod(1, 1), world.record(1, 1, outcome=Outcome.STOPPED))


def crashed_and_deleted_for_it_in_one_second(world: World) -> None:
    """Crash a pod that still shows as running when the Job is suspended: the Job controller deletes it with the others."""
    for node in (0, 1):
        deleted(world, node)
    world.fail_job("reviews-train-1")
    world.end(world.pod(1, 0), exit_code=1)
    tick(world)
    world.end(world.pod(1, 1), world.record(1, 1, outcome=Outcome.STOPPED))


def users_error_on_one_node(world: World) -> None:
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.RANK_FAILED))
    tick(world)
    world.end(world.pod(1, 1), world.record(1, 1, reason=Reason.ARGUMENTS_INVALID, cause=Cause.USER))


def two_crashes(world: World) -> None:
    world.end(world.pod(1, 1), world.record(1, 1, reason=Reason.RANK_FAILED))
    tick(world, 3)
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.RANK_KILLED))


def kubelet_evicts_for_its_own_disk(world: World) -> None:
    pod = world.pod(1, 1)
    world.end(pod, exit_code=137)
    pod["status"] |= {"reason": "Evicted", "message": "The node was low on resource: memory."}
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST))


def kubelet_evicts_for_the_pods_disk(world: World) -> None:
    pod = world.pod(1, 1)
    world.end(pod, exit_code=137)
    text = "Pod ephemeral local storage usage exceeds the total limit of containers 1Gi."
    pod["status"] |= {"reason": "Evicted", "message": text}
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST))


def kubelet_refuses(world: World) -> None:
    pod = world.pod(1, 1)
    pod["status"] = {"phase": "Failed", "reason": "UnexpectedAdmissionError", "message": "no healthy devices"}


def machine_shuts_down(world: World) -> None:
    pod = world.pod(1, 1)
    world.end(pod, exit_code=143)
    pod["status"] |= {"reason": "Terminated", "message": "Pod was terminated in response to imminent node shutdown."}
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST))


def init_container_fails(world: World) -> None:
    ended = {"exitCode": 2, "reason": "Error", "message": "no such host"}
    for node in (0, 1):
        pod = world.pod(1, node)
        status = {"name": "fetch", "state": {"terminated": ended}}
        pod["status"] = {"phase": "Failed", "initContainerStatuses": [status], "containerStatuses": []}


def cannot_start(world: World) -> None:
    for node in (0, 1):
        world.end(world.pod(1, node), exit_code=128, reason="StartError", message="failed to create shim task: timeout")


def image_without_python(world: World) -> None:
    message = 'failed to create containerd task: unable to start container process: exec: "python": not found'
    for node in (0, 1):
        world.end(world.pod(1, node), exit_code=128, reason="StartError", message=message)


def gone_without_a_word(world: World) -> None:
    world.vanish(world.pod(1, 1))
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST))


def image_missing_then_deleted(world: World) -> None:
    """Delete a pod whose image is missing. It ends with 137 and ContainerStatusUnknown: that is not a crash."""
    deleted(world)
    world.end(world.pod(1, 1), exit_code=137, reason="ContainerStatusUnknown")
    world.end(world.pod(1, 0), world.record(1, 0, outcome=Outcome.STOPPED))


def nothing_left(world: World) -> None:
    for node in (0, 1):
        del world.objects[world.pod(1, node)["metadata"]["uid"]]


@pytest.mark.parametrize(
    ("fault", "cause", "reason", "node", "final"),
    [
        (deleted_by_hand, Cause.PREEMPTION, ClusterReason.POD_DELETED, 1, True),
        (deleted_and_the_peer_crashed_of_it, Cause.PREEMPTION, ClusterReason.POD_DELETED, 1, True),
        (deleted_and_the_other_by_the_job_in_the_same_second, Cause.PREEMPTION, ClusterReason.POD_DELETED, 1, True),
        (deleted_first_and_its_peer_lost_it_in_the_same_second, Cause.PREEMPTION, ClusterReason.POD_DELETED, 1, True),
        (deleted_last_but_crashed_first_in_the_same_second, Cause.ERROR, ClusterReason.CONTAINER_FAILED, 0, True),
        (ignores_sigterm, Cause.PREEMPTION, ClusterReason.POD_DELETED, 1, True),
        (deleted_before_it_could_speak, Cause.PREEMPTION, ClusterReason.POD_DELETED, 1, True),
        (deleted_and_ended_well_in_one_second, Cause.PREEMPTION, ClusterReason.POD_DELETED, 1, True),
        (told_to_stop_by_nobody_known, Cause.PREEMPTION, Reason.STOPPED, 1, True),
        (evicted, Cause.PREEMPTION, ClusterReason.EVICTED, 1, True),
        (preempted, Cause.PREEMPTION, ClusterReason.PREEMPTED, 0, True),
        (rank_killed, Cause.ERROR, Reason.RANK_KILLED, 1, True),
        (out_of_memory_cgroup_1, Cause.ERROR, Reason.OUT_OF_MEMORY, 1, True),
        (out_of_memory_cgroup_2, Cause.ERROR, Reason.OUT_OF_MEMORY, 1, True),
        (node_lost_sockets_closed, Cause.NODE, ClusterReason.NODE_LOST, 1, True),
        (node_silent_since_the_other_fell, Cause.NODE, ClusterReason.NODE_LOST, 1, False),
        (node_lost_silently, Cause.NODE, ClusterReason.NODE_LOST, 1, False),
        (taint_manager_on_a_silent_node, Cause.NODE, ClusterReason.NODE_LOST, 1, False),
        (node_deleted, Cause.NODE, ClusterReason.NODE_LOST, 1, False),
        (node_out_of_service, Cause.NODE, ClusterReason.NODE_LOST, 1, False),
        (taint_manager, Cause.NODE, ClusterReason.NODE_LOST, 1, False),
        (pod_gc, Cause.NODE, ClusterReason.NODE_LOST, 1, False),
        (killed_from_outside, Cause.ERROR, ClusterReason.CONTAINER_KILLED, 1, True),
        (ended_without_a_record, Cause.ERROR, ClusterReason.CONTAINER_FAILED, 1, True),
        (full_volume, Cause.ERROR, Reason.VOLUME_FULL, 0, True),
        (crashed_then_the_job_deleted_the_peer, Cause.ERROR, Reason.RANK_FAILED, 0, True),
        (crashed_then_we_suspended, Cause.ERROR, Reason.RANK_FAILED, 0, True),
        (crashed_and_deleted_for_it_in_one_second, Cause.ERROR, ClusterReason.CONTAINER_FAILED, 0, True),
        (users_error_on_one_node, Cause.USER, Reason.ARGUMENTS_INVALID, 1, True),
        (two_crashes, Cause.ERROR, Reason.RANK_FAILED, 1, True),
        (kubelet_evicts_for_its_own_disk, Cause.PREEMPTION, ClusterReason.EVICTED, 1, True),
        (kubelet_evicts_for_the_pods_disk, Cause.ERROR, ClusterReason.DISK_LIMIT, 1, True),
        (kubelet_refuses, Cause.NODE, ClusterReason.POD_REFUSED, 1, False),
        (machine_shuts_down, Cause.NODE, ClusterReason.NODE_SHUTDOWN, 1, True),
        (init_container_fails, Cause.ERROR, ClusterReason.INIT_CONTAINER_FAILED, 0, True),
        (cannot_start, Cause.ERROR, ClusterReason.NOT_STARTED, 0, True),
        (image_without_python, Cause.USER, ClusterReason.TRAINER_MISSING, 0, True),
        (gone_without_a_word, Cause.PREEMPTION, ClusterReason.POD_DELETED, 1, True),
        (image_missing_then_deleted, Cause.PREEMPTION, ClusterReason.POD_DELETED, 1, True),
        (nothing_left, Cause.ERROR, ClusterReason.UNKNOWN, None, False),
    ],
)
def test_cause_and_reason(fault: Fault, cause: Cause, reason: str, node: int | None, *, final: bool) -> None:
    judgement = verdict(fault)
    diagnosis = judgement.diagnosis
    assert (diagnosis.cause, diagnosis.reason, diagnosis.node) == (cause, reason, node)
    assert judgement.final is final
    assert node is None or f"node {node}" in diagnosis.message or cause is Cause.USER
    assert diagnosis.resolution == RESOLUTIONS[reason]


def test_what_a_rank_says_is_told_with_its_node() -> None:
    def killed(world: World) -> None:
        record = world.record(1, 1, reason=Reason.RANK_KILLED)
        assert record.failure is not None
        failure = record.failure.model_copy(update={"message": "Rank 1 was ended by SIGKILL."})
        world.end(world.pod(1, 1), record.model_copy(update={"failure": failure}))
        world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST))

    assert verdict(killed).diagnosis.message == "node 1: Rank 1 was ended by SIGKILL."
    assert verdict(rank_killed).diagnosis.message == "RankKilled on node 1", "said already"


def test_every_reason_has_a_resolution() -> None:
    assert {*Reason, *ClusterReason} == RESOLUTIONS.keys()


def test_the_first_that_falls_is_not_blamed_while_the_others_are_silent() -> None:
    """A lost node shows first as an error of the other node's rank."""

    def first_sign(world: World) -> None:
        world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.RANK_FAILED))

    assert verdict(first_sign).final is False


def test_a_record_of_another_attempt_or_run_is_not_believed() -> None:
    def stale(world: World) -> None:
        world.end(world.pod(1, 0), world.record(2, 0, reason=Reason.ARGUMENTS_INVALID, cause=Cause.USER))
        other = world.record(1, 1, reason=Reason.ARGUMENTS_INVALID, cause=Cause.USER)
        world.end(world.pod(1, 1), other.model_copy(update={"uid": "another"}))

    assert verdict(stale).diagnosis.reason == ClusterReason.CONTAINER_FAILED


@pytest.mark.parametrize("message", ["", "Traceback ...", '{"role": "train", "uid": "6f1c', '{"role": "cook"}', "{}"])
def test_a_termination_message_that_is_no_record_does_no_harm(message: str) -> None:
    def broken(world: World) -> None:
        for node in (0, 1):
            world.end(world.pod(1, node), message=message)

    judgement = verdict(broken)
    assert (judgement.diagnosis.cause, judgement.diagnosis.exit_code) == (Cause.ERROR, 1)


def test_messages_are_bounded() -> None:
    def long(world: World) -> None:
        failure: dict[str, Any] = {"reason": Reason.RANK_FAILED, "cause": Cause.ERROR, "message": "x" * 9000}
        record = world.record(1, 0, reason=Reason.RANK_FAILED)
        world.end(world.pod(1, 0), type(record).model_validate({**record.model_dump(), "failure": failure}))

    assert len(verdict(long).diagnosis.message) == 2048
