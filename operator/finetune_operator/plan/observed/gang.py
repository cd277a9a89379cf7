"""A gang: the pods of one attempt (or the one pod of a Job that prepares or publishes) as a whole, with all evidence of how it ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from finetune_operator.plan import untrusted
from finetune_operator.plan.observed.objects import JobView, OwnedObjects, PodView
from finetune_operator.plan.types import Manifest, Observed, Ref
from finetune_trainer.contract.records import Outcome, Progress, ResultRecord

OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
UNREACHABLE = frozenset({"node.kubernetes.io/unreachable", "node.kubernetes.io/not-ready"})
"""Taints by which the cluster counts the time of a silent node. It takes them away, and moves no pod, while too many nodes
are silent at once: then the control plane was cut off."""
NODE_LOOK_SECONDS = 5.0
LOOK_LEAST_SECONDS = 0.1
EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True)
class Gang:
    """The pods of one attempt, or the one pod of a Job that prepares or publishes."""

    role: str
    number: int
    nodes: int
    """Number of pods that belong to the gang."""
    job: JobView | None
    pods: tuple[PodView, ...]
    lost: frozenset[str] = frozenset()
    """Names of nodes that are lost."""
    silent: Mapping[str, datetime | None] = field(default_factory=dict)
    """Nodes that do not answer the control plane and are not lost -> time until which they are waited for; None: until
    the cluster itself tells more."""
    earlier: Mapping[int, ResultRecord] = field(default_factory=dict)
    """Result records by node, as the next attempt read them on the volume."""
    earlier_known: bool = False
    """Whether the next attempt has read the volume: a record that is not in `earlier` was never written."""

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

    @property
    def silent_pods(self) -> tuple[PodView, ...]:
        """Pods of which nothing is heard now: they may train, or be gone with their node."""
        return tuple(pod for pod in self.pods if pod.node in self.silent and not pod.succeeded and not pod.ended)

    def ready(self, now: datetime, patience: timedelta) -> int:
        """Count the nodes whose container runs. While others are missing, a node counts after `patience`: a quick start is one write."""
        since = {
            pod.index: pod.trainer.running_since or now for pod in self.pods if pod.running and pod.trainer is not None
        }
        if len(since) >= self.nodes:
            return self.nodes
        return sum(now - start >= patience for start in since.values())

    @property
    def evidence_complete(self) -> bool:
        """Whether the end of each pod is known, or will never be."""
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


def training_gang(observed: Observed, owned: OwnedObjects, attempt: int) -> Gang:
    """Make the gang of a training attempt, with its records that the next attempt has read on the volume."""
    progress = observed.progress
    later = progress if progress is not None and _is_of(progress, observed, attempt + 1) and progress.begun else None
    earlier = {record.node: record for record in later.earlier if record.attempt == attempt} if later else {}
    own_progress = progress_of(observed, attempt)
    lost, silent = silence(observed, trained=own_progress.updated if own_progress is not None else None)
    return Gang(
        role="train",
        number=attempt,
        nodes=observed.job.spec.nodes,
        job=owned.job("train", attempt),
        pods=owned.pods_of("train", attempt),
        lost=lost,
        silent=silent,
        earlier=earlier,
        earlier_known=later is not None,
    )


def single_gang(observed: Observed, owned: OwnedObjects, role: str, number: int) -> Gang:
    """Make the gang of a Job that prepares or publishes: one pod."""
    lost, silent = silence(observed)
    return Gang(
        role=role,
        number=number,
        nodes=1,
        job=owned.job(role, number),
        pods=owned.pods_of(role, number),
        lost=lost,
        silent=silent,
    )


def progress_of(observed: Observed, attempt: int) -> Progress | None:
    """Return what node 0 says, if it is of this attempt."""
    progress = observed.progress
    return progress if progress is not None and _is_of(progress, observed, attempt) else None


def silence(
    observed: Observed, *, trained: datetime | None = None
) -> tuple[frozenset[str], dict[str, datetime | None]]:
    """Find the lost nodes, and the silent ones with the end of their time. A node that was not looked up counts as healthy.

    A node that does not answer the control plane may train on: its kubelet or its network is restarted, or the control
    plane was cut off. So it is lost when the cluster gave it up, or `lost_node_seconds` after it fell silent; but not
    while node 0 tells of training (`trained`: when it did last): a gang makes no step without each of its nodes.
    """
    patience = timedelta(seconds=observed.settings.lost_node_seconds)
    lost: set[str] = set()
    silent: dict[str, datetime | None] = {}
    for name, node in (observed.nodes or {}).items():
        ready = _ready_condition(node)
        if ready is None or OUT_OF_SERVICE in _taints(node):
            lost.add(name)
        elif ready.get("status") != "True":
            until = _silent_since(ready, trained) + patience if UNREACHABLE & _taints(node) else None
            if until is not None and observed.now >= until:
                lost.add(name)
            else:
                silent[name] = until
    return frozenset(lost), silent


def lost_nodes(observed: Observed) -> frozenset[str]:
    return silence(observed)[0]


def doubtful_nodes(observed: Observed, gang: Gang) -> tuple[Ref, ...]:
    """List the nodes to look up, those of pods that run and are not ready: the node is silent, or a probe of the pod's own fails."""
    if observed.nodes is None:
        return ()
    doubted = {pod.node for pod in gang.pods if pod.node and pod.running and pod.ready is False}
    return tuple(Ref("Node", name) for name in sorted(doubted))


def look_at_nodes_again(observed: Observed, gang: Gang) -> float | None:
    """Return the seconds until doubtful nodes are to be looked at again: no watch shows them. None where no node is doubtful."""
    if not doubtful_nodes(observed, gang):
        return None
    due = [(until - observed.now).total_seconds() for until in gang.silent.values() if until is not None]
    return max(LOOK_LEAST_SECONDS, min(NODE_LOOK_SECONDS, *due)) if due else NODE_LOOK_SECONDS


def _ready_condition(node: Manifest) -> Manifest | None:
    """Return the condition Ready of a node; None where the node exists no longer."""
    conditions = (node.get("status") or {}).get("conditions") or ()
    ready: Manifest | None = next((condition for condition in conditions if condition["type"] == "Ready"), None)
    return ready


def _taints(node: Manifest) -> set[str]:
    """Return the keys of the taints by which pods are taken from the node."""
    taints = (node.get("spec") or {}).get("taints") or ()
    return {taint["key"] for taint in taints if taint.get("effect") == "NoExecute" or taint["key"] == OUT_OF_SERVICE}


def _silent_since(ready: Manifest, trained: datetime | None) -> datetime:
    """Return since when nothing is heard of the node, neither by the control plane nor by way of node 0."""
    since = untrusted.moment(ready.get("lastTransitionTime")) or EPOCH
    return max(since, trained) if trained is not None else since


def _never_started(pod: PodView) -> bool:
    """Return whether a pod was told to end before its container had begun: nothing can be learnt from it."""
    return pod.deleted_at is not None and pod.phase == "Pending" and (pod.trainer is None or not pod.trainer.running)


def _is_of(progress: Progress, observed: Observed, attempt: int) -> bool:
    return (progress.uid, progress.attempt) == (observed.job.metadata.uid, attempt)
