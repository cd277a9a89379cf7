"""The cause of a gang's end, from result records, pods and nodes. Pure. The first pod to fall is often not the cause.

The evidence of a pod is a finding. Findings have weights: an error that the user must mend comes before a failure that the
program tells of itself, that before an act of the cluster; a peer's complaint about a lost connection comes last.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from finetune_operator.plan.observed import container_end
from finetune_operator.plan.observed.container_end import MESSAGE_MAX, Diagnosis
from finetune_operator.plan.observed.gang import Gang
from finetune_operator.plan.observed.objects import ContainerView, PodView
from finetune_operator.plan.resolutions import ClusterReason, resolution
from finetune_trainer.contract.records import Cause, Exit, Failure, Outcome, Reason, ResultRecord

__all__ = ["Diagnosis", "Verdict", "diagnose"]

FOREVER = datetime.max.replace(tzinfo=UTC)
LAST = math.inf


@dataclass(frozen=True)
class Verdict:
    """Diagnosis of a gang's end, and whether it is certain."""

    diagnosis: Diagnosis
    final: bool
    """Whether no evidence to come can change the diagnosis."""


class Weight(IntEnum):
    """Weight of a finding. The lower one is the cause, whatever else happened."""

    USER = 0
    """A failure that would come again with every try."""
    EVIDENT = 1
    """A reason that no fall of another pod brings about: out of memory, a full volume, ..."""
    CLUSTER = 2
    """An act that the cluster tells of itself: evicted, preempted, lost with its node."""
    FELL = 3
    """The death of a rank, or the deletion of a pod: whichever came first."""
    VANISHED = 4
    """A pod that is gone without a word."""
    ECHO = 5
    """Something that follows from another pod's end."""
    NOTHING = 6


@dataclass(frozen=True)
class Finding:
    """Evidence of one pod or record: what it says of the gang's end."""

    weight: Weight
    at: datetime
    order: int
    """Order within one second: a deletion comes before the failures that it brings about."""
    diagnosis: Diagnosis
    deletion_order: float = LAST
    """Order in which the watch showed deletions: of two pods that were deleted in one second, the first one fell first."""
    ended: datetime = FOREVER
    """End of the container: where the watch did not show the order, the pod that ended first was told to end first."""


ECHOES = frozenset({Reason.PEER_LOST, Reason.STOPPED, Reason.SUPERSEDED})
AMBIGUOUS = frozenset({Reason.RANK_FAILED, Reason.RANK_KILLED, Reason.INTERNAL})
"""Reasons with which a rank may also end because its peer is gone."""

UNSEEN = (None, "ContainerStatusUnknown")
"""Reasons of an ended container that kubelet lost sight of, or that never ran."""

EVICTIONS = {
    "EvictionByEvictionAPI": (Cause.PREEMPTION, ClusterReason.EVICTED),
    "PreemptionByScheduler": (Cause.PREEMPTION, ClusterReason.PREEMPTED),
    "TerminationByKubelet": (Cause.PREEMPTION, ClusterReason.EVICTED),
    "DeletionByTaintManager": (Cause.NODE, ClusterReason.NODE_LOST),
    "DeletionByPodGC": (Cause.NODE, ClusterReason.NODE_LOST),
}
"""Reasons of the pod condition DisruptionTarget. A NoExecute taint of an administrator looks like a lost node."""

SHUTDOWNS = frozenset({"NodeLost", "Shutdown", "NodeShutdown", "Terminated"})
"""Reasons of a pod whose machine went away in an orderly way."""

REFUSALS = frozenset(
    {"UnexpectedAdmissionError", "NodeAffinity", "OutOfcpu", "OutOfmemory", "OutOfpods", "OutOfephemeral-storage"}
)
"""Reasons of a pod that kubelet did not accept."""


def diagnose(gang: Gang) -> Verdict:
    """Find the cause of a gang's end, as far as the evidence tells; with no evidence at all the reason is `Unknown`."""
    findings = sorted(_findings(gang), key=_sort_key)
    best = findings[0] if findings else _nothing(gang)
    return Verdict(best.diagnosis, final=best.weight <= Weight.EVIDENT or gang.evidence_complete)


def _sort_key(finding: Finding) -> tuple[object, ...]:
    """Return the key by which findings are sorted: the first one is the cause."""
    return finding.weight, finding.at, finding.order, finding.deletion_order, finding.ended


def _findings(gang: Gang) -> Iterator[Finding]:
    shown = {pod.index for pod in gang.pods if pod.record is not None}
    for node, record in gang.records.items():
        if node not in shown:
            yield from _from_record(gang, record, None)
    for pod in gang.pods:
        if pod.succeeded:
            continue
        if pod.record is not None:
            yield from _from_record(gang, pod.record, pod)
        elif (killed := _from_container(pod)) is not None:
            yield killed
        if (cluster := _from_cluster(gang, pod)) is not None:
            yield cluster
        if (deleted := _from_deletion(gang, pod)) is not None:
            yield deleted
    if gang.job is None:  # we delete only what is accounted for, so somebody else did
        yield Finding(
            Weight.VANISHED, FOREVER, 0, _cluster(ClusterReason.JOB_DELETED, Cause.PREEMPTION, "the Job was deleted")
        )


def _from_record(gang: Gang, record: ResultRecord, pod: PodView | None) -> Iterator[Finding]:
    """Yield the finding of a result record, in which `launch` tells of its own end."""
    if record.outcome is Outcome.SUCCEEDED:
        return
    failure = record.failure
    if failure is None or record.outcome is not Outcome.FAILED:
        reason = Reason.SUPERSEDED if record.outcome is Outcome.SUPERSEDED else Reason.STOPPED
        message = failure.message if failure is not None else f"node {record.node} was told to stop"
        diagnosis = Diagnosis(Cause.PREEMPTION, reason, message[:MESSAGE_MAX], resolution(reason), node=record.node)
        # Where the pod shows, its deletion tells who stopped it; a record alone is of a time when nobody looked.
        weight = Weight.VANISHED if pod is None and reason is Reason.STOPPED else Weight.ECHO
        yield Finding(weight, record.finished, 1, diagnosis)
        return
    if pod is not None and _out_of_memory(pod) and failure.cause is not Cause.USER:
        yield Finding(Weight.EVIDENT, _second(record.finished), 0, container_end.out_of_memory(pod, failure))
        return
    weight = _weight(failure)
    at = record.finished if weight is Weight.ECHO else _second(record.finished)
    yield Finding(weight, at, 1, _of_failure(failure, record.node, gang.nodes))


def _weight(failure: Failure) -> Weight:
    if failure.cause is Cause.USER:
        return Weight.USER
    if failure.reason in ECHOES:
        return Weight.ECHO
    if failure.reason in AMBIGUOUS or failure.cause not in (Cause.ERROR, Cause.VOLUME):
        return Weight.FELL
    return Weight.EVIDENT


def _of_failure(failure: Failure, node: int, nodes: int) -> Diagnosis:
    """Diagnose a failure of a record. In a gang of several nodes the text names the node, unless each would fail so."""
    node = node if failure.node is None else failure.node
    message = failure.message
    if nodes > 1 and failure.cause is not Cause.USER and f"node {node}" not in message.lower():
        message = f"node {node}: {message}"
    return Diagnosis(
        cause=failure.cause,
        reason=failure.reason,
        message=message[:MESSAGE_MAX],
        resolution=resolution(failure.reason),
        node=node,
        rank=failure.rank,
        exit_code=failure.exit_code,
    )


def _from_container(pod: PodView) -> Finding | None:
    """Return the finding of a container that ended without a record: one that is out of memory takes `launch` with it."""
    failed = next((container for container in pod.others if container.ended and container.exit_code != 0), None)
    trainer = pod.trainer
    if trainer is None or not trainer.ended:
        if failed is None or pod.phase != "Failed":
            return None
        return Finding(Weight.FELL, failed.ended_at or FOREVER, 1, container_end.of_init_container(pod, failed))
    at = trainer.ended_at or FOREVER
    if _out_of_memory(pod):
        return Finding(Weight.EVIDENT, at, 0, container_end.out_of_memory(pod, None))
    if trainer.ended_reason in UNSEEN or trainer.exit_code == 0:
        return None  # kubelet lost sight of it, or it never ran; a plain program that saved on SIGTERM exits with 0
    if trainer.exit_code == Exit.STOPPED:  # before it could leave a record: who stopped it shows elsewhere
        text = f"{pod.who} was told to stop"
        stopped = Diagnosis(Cause.PREEMPTION, Reason.STOPPED, text, resolution(Reason.STOPPED), node=pod.index)
        return Finding(Weight.VANISHED, at, 1, stopped)
    diagnosis = container_end.without_record(pod, trainer)
    return Finding(Weight.USER if diagnosis.cause is Cause.USER else Weight.FELL, at, 1, diagnosis)


def _from_cluster(gang: Gang, pod: PodView) -> Finding | None:
    """Return the finding of an act on the pod that the cluster tells of; None where there is none."""
    where = pod.who + (f" on {pod.node}" if pod.node else "")
    at = pod.deleted_at or (pod.trainer.ended_at if pod.trainer else None) or FOREVER
    message = (pod.disruption_message or pod.status_message).strip()
    if pod.status_reason == "Evicted" and "exceeds" in pod.status_message:
        diagnosis = _cluster(
            ClusterReason.DISK_LIMIT, Cause.ERROR, f"{where} was evicted: {pod.status_message.strip()}", pod.index
        )
        return Finding(Weight.EVIDENT, at, 0, diagnosis)
    if pod.phase == "Failed" and pod.status_reason in SHUTDOWNS:  # kubelet calls that a disruption too
        text = f"{where}: {message or pod.status_reason}"
        return Finding(Weight.CLUSTER, at, 0, _cluster(ClusterReason.NODE_SHUTDOWN, Cause.NODE, text, pod.index))
    cause, reason = EVICTIONS.get(pod.disruption or "", (Cause.PREEMPTION, ClusterReason.EVICTED))
    unseen = pod.node in gang.lost or pod.node in gang.silent
    if pod.disruption is not None and not (unseen and reason is ClusterReason.NODE_LOST):
        return Finding(
            Weight.CLUSTER, at, 0, _cluster(reason, cause, f"{where}: {message or pod.disruption}", pod.index)
        )
    if pod.disruption is not None or gang.on_lost_node(pod) or pod in gang.silent_pods:
        # Until the time of a silent node is over, this is a guess, and the best one.
        lost = "" if pod.node in gang.silent else " is lost"
        text = f"{where}{lost}: the machine does not answer any more"
        return Finding(Weight.CLUSTER, at, 0, _cluster(ClusterReason.NODE_LOST, Cause.NODE, text, pod.index))
    if pod.phase != "Failed" or pod.status_reason is None:
        return None
    if pod.status_reason in REFUSALS:
        text = f"{where} was refused by its machine ({pod.status_reason}): {pod.status_message}"
        return Finding(Weight.CLUSTER, at, 0, _cluster(ClusterReason.POD_REFUSED, Cause.NODE, text, pod.index))
    if pod.status_reason == "Evicted":
        return Finding(
            Weight.CLUSTER, at, 0, _cluster(ClusterReason.EVICTED, Cause.PREEMPTION, f"{where}: {message}", pod.index)
        )
    return None


def _from_deletion(gang: Gang, pod: PodView) -> Finding | None:
    """Return the finding of a deleted pod; None where the Job controller deleted it, after the Job had failed or was suspended."""
    if pod.deleted_at is None and not pod.gone:
        return None
    deletion_order = LAST if pod.deletion_order is None else pod.deletion_order
    if pod.deleted_at is None:
        gone = _cluster(ClusterReason.POD_DELETED, Cause.PREEMPTION, f"{pod.pod} is gone", pod.index)
        ended_before = pod.trainer is not None and pod.trainer.ended
        return None if ended_before else Finding(Weight.VANISHED, FOREVER, 0, gone, deletion_order)
    stops = [moment for moment in (gang.job.suspended_at, gang.job.failing_at) if moment] if gang.job else []
    if stops and pod.deleted_at > min(stops):
        return None
    trainer = pod.trainer
    if trainer and trainer.ended_at and trainer.ended_at <= pod.deleted_at and not _tells_nothing(trainer):
        # The container ended first, if only within the same second. For its end the Job was suspended, and that deletes a pod
        # that still shows as running.
        return None
    same_second = bool(stops) and pod.deleted_at == min(stops)
    others = (
        other
        for other in gang.pods
        if other is not pod and (same_second or not _echoes(other)) and not _follows(other, pod)
    )
    stopped = bool(stops) or (gang.job is not None and not gang.job.active)
    if stopped and any(_ended_by(other, pod.deleted_at) for other in others):
        return (
            None  # another pod fell first, and the Job was stopped for it: a Job deletes pods before its status says so
        )
    text = f"{pod.pod} was deleted"
    diagnosis = _cluster(ClusterReason.POD_DELETED, Cause.PREEMPTION, text, pod.index)
    ended = pod.trainer.ended_at if pod.trainer is not None else None
    return Finding(Weight.FELL, _second(pod.deleted_at), 0, diagnosis, deletion_order, ended or FOREVER)


def _tells_nothing(trainer: ContainerView) -> bool:
    """Return whether a container's end does not tell its cause: it was told to stop, or kubelet did not see the end."""
    return trainer.exit_code in (Exit.STOPPED, 0) or trainer.ended_reason in UNSEEN


def _ended_by(pod: PodView, moment: datetime) -> bool:
    return pod.trainer is not None and pod.trainer.ended_at is not None and pod.trainer.ended_at <= moment


def _follows(other: PodView, pod: PodView) -> bool:
    """Return whether another pod was deleted after this one, as the watch showed it, and its end has no cause of its own."""
    other_order, order = other.deletion_order, pod.deletion_order
    later = other_order is not None and order is not None and other_order > order
    return later and ((other.trainer is not None and _tells_nothing(other.trainer)) or _echoes(other))


def _echoes(pod: PodView) -> bool:
    """Return whether a pod says itself that it ended because of another one."""
    failure = pod.record.failure if pod.record is not None else None
    return failure is not None and _weight(failure) is Weight.ECHO


def _nothing(gang: Gang) -> Finding:
    """Guess an error where nothing is known: `backoffLimit` bounds errors, so that no job restarts for ever."""
    text = f"attempt {gang.number} ended, and nothing is left that tells why"
    diagnosis = _cluster(ClusterReason.UNKNOWN, Cause.ERROR, text)
    return Finding(Weight.NOTHING, FOREVER, 0, diagnosis)


def _cluster(reason: ClusterReason, cause: Cause, message: str, node: int | None = None) -> Diagnosis:
    return Diagnosis(cause, reason, message[:MESSAGE_MAX], resolution(reason), node=node)


def _out_of_memory(pod: PodView) -> bool:
    return pod.trainer is not None and pod.trainer.ended_reason == "OOMKilled"


def _second(moment: datetime) -> datetime:
    """Cut a moment to the seconds in which the API server's clock ticks."""
    return moment.replace(microsecond=0)
