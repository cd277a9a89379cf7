"""A cluster in memory: objects that look like real ones, and events that can happen to them. Tests of decisions drive it.

It knows only the parts of Kubernetes that decisions read: Jobs make pods, suspended Jobs end theirs, deleted objects go.
The cluster and e2e tiers test real components.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from finetune_operator.api.resource import LABEL_ATTEMPT, LABEL_JOB, LABEL_ROLE
from finetune_operator.plan.types import Manifest
from finetune_trainer.contract.records import (
    Cause,
    CheckpointRef,
    Failure,
    Outcome,
    PodPhase,
    Progress,
    Reason,
    ResultRecord,
)

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
UID = "6f1c5d1e-0000-4000-8000-000000000001"
NAMESPACE = "team"
IMAGE = "registry.example/finetune/trainer@sha256:abc"
HUB = {"repo_id": "me/reviews", "url": "https://huggingface.co/me/reviews", "commit": "c" * 40}
"""Report of a publish pod about the model on the Hub."""
UNREACHABLE = "node.kubernetes.io/unreachable"
INDEX = "batch.kubernetes.io/job-completion-index"


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def condition(kind: str, moment: datetime, status: str = "True", reason: str = "", message: str = "") -> Manifest:
    return {"type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": stamp(moment)}


def claim(name: str, modes: tuple[str, ...] = ("ReadWriteMany",), **metadata: Any) -> Manifest:
    return {
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": f"uid-{name}", **metadata},
        "spec": {"accessModes": list(modes)},
        "status": {"phase": "Bound"},
    }


def well_machine(name: str) -> Manifest:
    return {"metadata": {"name": name}, "status": {"conditions": [condition("Ready", START)]}}


@dataclass
class SimulatedCluster:
    """The children of one FineTuneJob, and the machines that they run on."""

    name: str = "reviews"
    now: datetime = START
    objects: dict[str, Manifest] = field(default_factory=dict)
    """All objects by uid; deleted pods stay as they were last seen."""
    gone: set[str] = field(default_factory=set)
    deletions: dict[str, int] = field(default_factory=dict)
    """Pods that were deleted, by uid, in the order in which a watch has shown it."""
    nodes: dict[str, Manifest] | None = field(default_factory=dict)
    """Machines that tests have made silent; None where they can't be read."""
    progress: Progress | None = None
    """Answer of node 0."""
    made: int = 0

    # --- the cluster ----------------------------------------------------------------------------------------------

    def find(self, kind: str, name: str) -> Manifest | None:
        living = (item for uid, item in self.objects.items() if uid not in self.gone)
        return next((item for item in living if (item["kind"], item["metadata"]["name"]) == (kind, name)), None)

    def names(self, kind: str) -> list[str]:
        return sorted(
            i["metadata"]["name"] for u, i in self.objects.items() if i["kind"] == kind and u not in self.gone
        )

    def create(self, manifest: Manifest) -> Manifest:
        """POST an object. A name that is taken answers 409, which is a success where the object is ours."""
        existing = self.find(manifest["kind"], manifest["metadata"]["name"])
        if existing is not None:
            return existing
        self.made += 1
        item = copy.deepcopy(manifest)
        item["metadata"] |= {"uid": f"uid-{self.made}", "creationTimestamp": stamp(self.now)}
        self.objects[item["metadata"]["uid"]] = item
        if item["kind"] == "Job":
            for index in range(item["spec"]["completions"]):
                self._make_pod(item, index)
        return item

    def _make_pod(self, job: Manifest, index: int) -> None:
        self.made += 1
        name, uid = job["metadata"]["name"], f"uid-{self.made}"
        self.objects[uid] = {
            "kind": "Pod",
            "metadata": {
                "name": f"{name}-{index}-x{self.made}",
                "namespace": NAMESPACE,
                "uid": uid,
                "creationTimestamp": stamp(self.now),
                "labels": dict(job["metadata"]["labels"]),
                "annotations": {INDEX: str(index)},
                "ownerReferences": [
                    {"kind": "Job", "name": name, "uid": job["metadata"]["uid"], "controller": True},
                ],
            },
            "spec": {},
            "status": {"phase": "Pending"},
        }

    def suspend(self, name: str) -> None:
        job = self.find("Job", name)
        assert job is not None, name
        job["spec"]["suspend"] = True
        self._conditions(job).append(condition("Suspended", self.now))
        for pod in self.pods_of(name):
            if pod["status"]["phase"] in ("Pending", "Running"):
                self.ask_to_end(pod)

    def delete(self, kind: str, name: str) -> None:
        item = self.find(kind, name)
        if item is None:
            return
        if kind == "Job":
            for member in (item, *self.pods_of(name)):
                self.gone.add(member["metadata"]["uid"])
        else:
            del self.objects[item["metadata"]["uid"]]

    def pods_of(self, job: str) -> list[Manifest]:
        """Return the living pods of a Job."""
        living = [item for uid, item in self.objects.items() if item["kind"] == "Pod" and uid not in self.gone]
        return [pod for pod in living if pod["metadata"]["ownerReferences"][0]["name"] == job]

    def pod(self, attempt: int, node: int, role: str = "train") -> Manifest:
        """Return the newest pod of a node, gone or not."""
        labels = {LABEL_JOB: self.name, LABEL_ROLE: role, LABEL_ATTEMPT: str(attempt)}
        pods = [
            i for i in self.objects.values() if i["kind"] == "Pod" and i["metadata"]["labels"].items() >= labels.items()
        ]
        return [pod for pod in pods if pod["metadata"]["annotations"][INDEX] == str(node)][-1]

    # --- what happens to pods -------------------------------------------------------------------------------------

    def run(self, attempt: int, role: str = "train") -> None:
        """Start all pods of a gang."""
        for pod in self.pods_of(f"{self.name}-{role}-{attempt}"):
            self.start(pod)

    def start(self, pod: Manifest) -> None:
        index = pod["metadata"]["annotations"][INDEX]
        pod["spec"]["nodeName"] = f"machine-{index}"
        state = {"running": {"startedAt": stamp(self.now)}}
        pod["status"] = {
            "phase": "Running",
            "podIP": f"10.0.0.{index}",
            "conditions": [condition("Ready", self.now)],
            "containerStatuses": [{"name": "trainer", "state": state, "imageID": IMAGE}],
        }

    def end(
        self,
        pod: Manifest,
        record: ResultRecord | None = None,
        *,
        exit_code: int = 1,
        reason: str = "Error",
        message: str = "",
    ) -> None:
        """End the container; the record is its termination message."""
        ended = {
            "exitCode": exit_code,
            "reason": reason,
            "message": record.to_json() if record else message,
            "finishedAt": stamp(self.now),
        }
        pod["status"].setdefault("containerStatuses", [{"name": "trainer", "imageID": ""}])
        pod["status"]["containerStatuses"][0]["state"] = {"terminated": ended}
        pod["status"]["phase"] = "Failed" if exit_code else "Succeeded"
        job = self.find("Job", pod["metadata"]["ownerReferences"][0]["name"])
        if job is not None:
            pods = self.pods_of(job["metadata"]["name"])
            if len(pods) == job["spec"]["completions"] and all(
                sibling["status"]["phase"] == "Succeeded" for sibling in pods
            ):
                self.finish_job(job["metadata"]["name"])

    def ask_to_end(self, pod: Manifest, grace: int = 30) -> None:
        """DELETE the pod, as anybody may do it."""
        self.deletions.setdefault(pod["metadata"]["uid"], len(self.deletions) + 1)
        pod["metadata"].setdefault("deletionTimestamp", stamp(self.now + timedelta(seconds=grace)))
        pod["metadata"].setdefault("deletionGracePeriodSeconds", grace)

    def vanish(self, pod: Manifest) -> None:
        self.gone.add(pod["metadata"]["uid"])

    def disrupt(self, pod: Manifest, reason: str, message: str = "") -> None:
        self._conditions(pod).append(condition("DisruptionTarget", self.now, reason=reason, message=message))
        self.ask_to_end(pod)

    def finish_job(self, name: str, kind: str = "Complete") -> None:
        job = self.find("Job", name)
        assert job is not None, name
        if not any(known["type"] == kind for known in self._conditions(job)):
            self._conditions(job).append(condition(kind, self.now))

    def fail_job(self, name: str) -> None:
        """Fail the Job, as its controller does with backoffLimit 0: it gives up, and deletes what still runs."""
        self.finish_job(name, "FailureTarget")
        for pod in self.pods_of(name):
            if pod["status"]["phase"] in ("Pending", "Running"):
                self.ask_to_end(pod)

    def lose_machine(self, name: str, *, taint: str = UNREACHABLE, counted: bool = True) -> None:
        """Silence a machine: its pods stay as they are, but for Ready. Where too many are silent, no time is counted."""
        assert self.nodes is not None
        taints = [{"key": taint, "effect": "NoExecute"}] if counted else []
        ready = "Unknown" if taint == UNREACHABLE else "True"
        self.nodes[name] = {"metadata": {"name": name}, "spec": {"taints": taints}, "status": {"conditions": []}}
        self.nodes[name]["status"]["conditions"].append(condition("Ready", self.now, status=ready))
        for pod in self.objects.values():
            if pod["kind"] == "Pod" and pod["spec"].get("nodeName") == name:
                pod["status"]["conditions"] = [condition("Ready", self.now, status="False")]

    def remove_machine(self, name: str) -> None:
        """Delete the Node object of a machine."""
        self.lose_machine(name)
        assert self.nodes is not None
        self.nodes[name] = {"metadata": {"name": name}}

    def find_machine(self, name: str) -> None:
        """Let the machine answer again."""
        assert self.nodes is not None
        del self.nodes[name]
        for pod in self.objects.values():
            if pod["kind"] == "Pod" and pod["spec"].get("nodeName") == name:
                pod["status"]["conditions"] = [condition("Ready", self.now)]

    @staticmethod
    def _conditions(item: Manifest) -> list[Manifest]:
        conditions: list[Manifest] = item.setdefault("status", {}).setdefault("conditions", [])
        return conditions

    # --- what pods say --------------------------------------------------------------------------------------------

    def tell(self, attempt: int, *, begun: bool = True, phase: PodPhase = PodPhase.TRAINING, **fields: Any) -> None:
        """Set what node 0's /progress answers."""
        before = self.progress.begun if self.progress and self.progress.attempt == attempt else None
        moment = (before or self.now) if begun else None
        self.progress = Progress(uid=UID, attempt=attempt, begun=moment, phase=phase, updated=self.now, **fields)

    def record(
        self,
        attempt: int,
        node: int = 0,
        *,
        reason: Reason | None = None,
        cause: Cause = Cause.ERROR,
        outcome: Outcome | None = None,
        role: str = "train",
        **fields: Any,
    ) -> ResultRecord:
        if outcome is Outcome.STOPPED:
            reason, cause = Reason.STOPPED, Cause.PREEMPTION
        failure = Failure(reason=reason, cause=cause, message=f"{reason.value} on node {node}") if reason else None
        return ResultRecord.model_validate(
            {
                "role": role,
                "uid": UID,
                "attempt": attempt,
                "node": node,
                "outcome": outcome or (Outcome.FAILED if failure else Outcome.SUCCEEDED),
                "failure": failure,
                "started": self.now,
                "finished": self.now,
                **fields,
            }
        )

    def succeed(self, attempt: int) -> None:
        """End all nodes of an attempt well, node 0 with the model."""
        path = f"/output/{self.name}/runs/{UID}/attempts/{attempt}/model"
        for pod in self.pods_of(f"{self.name}-train-{attempt}"):
            node = int(pod["metadata"]["annotations"][INDEX])
            of_node_0: dict[str, Any] = {"model_path": path, "evaluation": {"accuracy": 0.9}, "step": 100}
            record = self.record(attempt, node, **(of_node_0 if node == 0 else {}))
            self.end(pod, record, exit_code=0, reason="Completed")
        self.finish_job(f"{self.name}-train-{attempt}")

    def publish(self, number: int) -> None:
        """End the publish Job of this number with success."""
        pod = self.pod(number, 0, "publish")
        self.end(pod, self.record(number, role="publish", hub=HUB), exit_code=0, reason="Completed")

    def crash(self, attempt: int, node: int = 0, reason: Reason = Reason.RANK_FAILED, **fields: Any) -> None:
        """Let one node's rank die; its peers lose it."""
        for pod in self.pods_of(f"{self.name}-train-{attempt}"):
            index = int(pod["metadata"]["annotations"][INDEX])
            self.end(pod, self.record(attempt, index, reason=reason if index == node else Reason.PEER_LOST, **fields))
        self.finish_job(f"{self.name}-train-{attempt}", "Failed")


def checkpoint(step: int, attempt: int = 1) -> CheckpointRef:
    path = f"/output/reviews/runs/{UID}/attempts/{attempt}/checkpoints/checkpoint-{step}"
    return CheckpointRef(step=step, path=path, time=START, attempt=attempt)
