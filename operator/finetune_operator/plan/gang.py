"""A gang: the pods of one attempt (or the one pod of a Job that prepares or publishes) as a whole, with all evidence of how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from finetune_operator.plan.types import Manifest, Observed, Ref
from finetune_operator.plan.view import Family, JobView, PodView
from finetune_trainer.config import Outcome, Progress, ResultRecord

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"


@dataclass(frozen=True)
class Gang:
    role: str
    number: int
    nodes: int
    """Pods that belong to it."""
    job: JobView | None
    pods: tuple[PodView, ...]
    lost: frozenset[str] = frozenset()
    """Names of nodes that are lost."""
    earlier: Mapping[int, ResultRecord] = field(default_factory=dict)
    """Result records by node, as the next attempt read them on the volume."""
    earlier_known: bool = False
    """Whether the next attempt has read the volume: what is not in `earlier` was never written."""

    @property
    def records(self) -> dict[int, ResultRecord]:
        """Result records by node."""
        shown = {pod.index: pod.record for pod in self.pods if pod.record is not None}
        return {**self.earlier, **shown}

    @property
    def success(self) -> ResultRecord | None:
        """The record of node 0, where it says that the model is there."""
        record = self.records.get(0)
        return record if record is not None and record.outcome is Outcome.SUCCEEDED else None

    @property
    def succeeded(self) -> bool:
        return self.success is not None or (self.job is not None and self.job.complete)

    @property
    def fallen(self) -> bool:
        """Whether a pod is failed, being deleted, gone or on a lost node, or the Job has been stopped."""
        if self.succeeded:
            return False
        stopped = self.job is not None and not self.job.active
        return stopped or any(pod.fallen or self.on_lost_node(pod) for pod in self.pods)

    @property
    def living(self) -> tuple[PodView, ...]:
        return tuple(pod for pod in self.pods if not pod.gone)

    @property
    def first(self) -> PodView | None:
        """The pod of node 0, while it runs."""
        return next((pod for pod in self.pods if pod.index == 0 and pod.running and pod.deleted_at is None), None)

    def on_lost_node(self, pod: PodView) -> bool:
        return pod.node in self.lost and not pod.succeeded and not pod.ended

    def ready(self, now: datetime, patience: timedelta) -> int:
        """Nodes whose container runs. Some alone show after `patience`: a gang that starts together is one write."""
        since = {
            pod.index: pod.trainer.running_since or now for pod in self.pods if pod.running and pod.trainer is not None
        }
        if len(since) >= self.nodes:
            return self.nodes
        return sum(now - start >= patience for start in since.values())

    @property
    def evidence_complete(self) -> bool:
        """Whether how each of its pods ended is known, or will never be."""
        by_index: dict[int, list[PodView]] = {}
        for pod in self.pods:
            by_index.setdefault(pod.index, []).append(pod)
        return all(self._known(index, by_index.get(index, [])) for index in range(self.nodes))

    def _known(self, index: int, pods: list[PodView]) -> bool:
        if index in self.records:
            return True
        if not pods:
            return self.earlier_known
        return all(pod.ended or self.on_lost_node(pod) or _never_started(pod) for pod in pods)


def training_gang(observed: Observed, members: Family, attempt: int) -> Gang:
    progress = observed.progress
    told = progress if progress is not None and _is_of(progress, observed, attempt + 1) and progress.begun else None
    earlier = {record.node: record for record in told.earlier if record.attempt == attempt} if told else {}
    return Gang(
        role="train",
        number=attempt,
        nodes=observed.job.spec.nodes,
        job=members.job("train", attempt),
        pods=members.pods_of("train", attempt),
        lost=lost_nodes(observed),
        earlier=earlier,
        earlier_known=told is not None,
    )


def single_gang(observed: Observed, members: Family, role: str, number: int) -> Gang:
    """The one pod of a Job that prepares or publishes."""
    return Gang(
        role=role,
        number=number,
        nodes=1,
        job=members.job(role, number),
        pods=members.pods_of(role, number),
        lost=lost_nodes(observed),
    )


def progress_of(observed: Observed, attempt: int) -> Progress | None:
    """What node 0 says, if it is of this attempt."""
    progress = observed.progress
    return progress if progress is not None and _is_of(progress, observed, attempt) else None


def lost_nodes(observed: Observed) -> frozenset[str]:
    """Nodes that don't answer any more. A node that was not looked up is taken for well."""
    return frozenset(name for name, node in (observed.nodes or {}).items() if _is_lost(node))


def doubtful_nodes(observed: Observed, gang: Gang) -> tuple[Ref, ...]:
    """Nodes to look at: of pods that run and are not ready. A node fell silent, or a probe of the pod's own fails."""
    if observed.nodes is None:
        return ()
    doubted = {pod.node for pod in gang.pods if pod.node and pod.running and pod.ready is False}
    return tuple(Ref("Node", name) for name in sorted(doubted))


def _is_lost(node: Manifest) -> bool:
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready = next((condition["status"] for condition in conditions if condition["type"] == "Ready"), "Unknown")
    taints = (node.get("spec") or {}).get("taints") or ()
    return ready != "True" or any(taint["key"] == OUT_OF_SERVICE for taint in taints)


def _never_started(pod: PodView) -> bool:
    """Nothing to be learnt from a pod that was told to end before its container had begun."""
    return pod.deleted_at is not None and pod.phase == "Pending" and (pod.trainer is None or not pod.trainer.running)


def _is_of(progress: Progress, observed: Observed, attempt: int) -> bool:
    return (progress.uid, progress.attempt) == (observed.job.metadata.uid, attempt)
