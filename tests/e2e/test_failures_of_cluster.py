"""What the cluster does to jobs: pods evicted, deleted and preempted, a machine lost, a volume that fills up.

All side by side on real nodes, the lost machine last: each is told as the cause, and costs the job nothing that is not
its own. `UPDATE_GOLDEN=1` keeps what the cluster showed as cases for the unit tests.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from tests.support import e2e, failures
from tests.support.api import Api, Manifest
from tests.support.broken_claims import BrokenClaims
from tests.support.cluster.nodes import NodeCluster
from tests.support.commands import wait_for
from tests.support.installed import InstalledOperator
from tests.support.patience import PATIENCE_SECONDS
from tests.support.recorder import Recorder, restricted_namespace

CLAIM = "models"
SMALL = "small"


@dataclass(frozen=True)
class Fall:
    """A way to fall, and what is said of it."""

    name: str
    reason: str
    message: str
    spec: Manifest = field(default_factory=dict)
    by: str = ""
    """What the cluster does to the pod once it runs."""


def _on(node: str, **template: str) -> Manifest:
    return {"template": {"spec": {"nodeSelector": {"kubernetes.io/hostname": node}, **template}}}


FALLS = (
    Fall("volume-full-while-training", "VolumeFull", "The volume is full", {"storage": {"claimName": SMALL}}),
    Fall("pod-evicted", "Evicted", "node 0 on node1: Eviction API", _on("node1"), by="evict"),
    Fall("pod-deleted", "PodDeleted", "the pod of node 0 was deleted", _on("node1"), by="delete"),
    Fall("pod-preempted", "Preempted", "node 0 on node1", _on("node1", priorityClassName="spare"), by="preempt"),
    Fall("node-lost", "NodeLost", "is lost: the machine does not answer any more", by="kill_node"),
)
CLUSTERS = [fall for fall in FALLS if fall.by]


@dataclass
class Scene:
    cluster: NodeCluster
    api: Api
    recorder: Recorder
    victim: str
    """The node that no operator runs on."""
    fallen_jobs: dict[str, Manifest] = field(default_factory=dict)
    cases: dict[str, failures.Case] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)


@pytest.fixture(scope="module")
def scene(cluster: NodeCluster, operator: InstalledOperator) -> Iterator[Scene]:
    """Apply all jobs, and follow each until it has fallen."""
    operator.pod()
    with restricted_namespace(cluster, "fall") as namespace:
        api = Api(cluster.kubeconfig, namespace)
        e2e.make_data(cluster, namespace)
        claims = BrokenClaims(cluster, namespace)
        claims.small(SMALL)
        priority = {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": "spare"}}
        cluster.apply(
            e2e.claim_manifest(CLAIM),
            {**priority, "value": -10, "description": "gives way to all others"},
            namespace=namespace,
        )
        with Recorder(api) as recorder:
            scene = Scene(cluster, api, recorder, _without_operator(cluster))
            for fall in FALLS:
                api.create(manifest(fall, scene.victim))
            _follow(scene)
            yield scene
        cluster.kubectl("delete", "priorityclass", "spare", "--ignore-not-found")
        if "node-lost" in scene.done:
            index = cluster.node_names.index(scene.victim) + 1
            cluster.start_node(index)
            cluster.wait_ready([index])
    claims.remove()
    cluster.recycle_volumes()


def _without_operator(cluster: NodeCluster) -> str:
    pods = cluster.get("pods", "--all-namespaces", "--selector=app.kubernetes.io/name=finetune-operator")["items"]
    taken = {pod["spec"].get("nodeName") for pod in pods}
    return next(name for name in reversed(cluster.node_names) if name not in taken)


def manifest(fall: Fall, victim: str) -> Manifest:
    """A job on one node; those that the cluster is to fell do not get far by themselves."""
    saving = {"max_steps": 20000, "save_steps": 500} if fall.by else {"max_steps": 400, "save_steps": 10}
    job = e2e.job_manifest(fall.name, nodes=1, arguments={**saving, "eval_steps": 20000})
    spec: Manifest = {**job["spec"], "backoffLimit": 0, "storage": {"claimName": CLAIM}, **fall.spec}
    if fall.by == "kill_node":
        spec |= _on(victim)
    if fall.by == "preempt":
        spec["resources"] = {"requests": {"cpu": "1200m", "memory": "64Mi"}}
    return {**job, "spec": spec}


# --- what the cluster does -------------------------------------------------------------------------------------------


def _evict(scene: Scene, pod: Manifest) -> None:
    name = pod["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    scene.api.request("POST", f"{scene.api.path('Pod', name)}/eviction", eviction)


def _delete(scene: Scene, pod: Manifest) -> None:
    scene.api.delete("Pod", pod["metadata"]["name"])


def _preempt(scene: Scene, pod: Manifest) -> None:
    """Create somebody's pod of the usual priority, which fits only when the job's pod is gone."""
    container: dict[str, Any] = {
        "name": "pause",
        "image": "docker.io/finetune/pause:1",
        "resources": {"requests": {"cpu": "1200m"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }
    spec = {
        "containers": [container],
        "nodeSelector": {"kubernetes.io/hostname": pod["spec"]["nodeName"]},
        "securityContext": {"runAsNonRoot": True, "runAsUser": 1, "seccompProfile": {"type": "RuntimeDefault"}},
        "terminationGracePeriodSeconds": 0,
    }
    scene.api.create({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "important"}, "spec": spec})


def _kill_node(scene: Scene, pod: Manifest) -> None:
    scene.cluster.kill_node(scene.cluster.node_names.index(pod["spec"]["nodeName"]) + 1)


ACTS: dict[str, Callable[[Scene, Manifest], None]] = {
    "evict": _evict,
    "delete": _delete,
    "preempt": _preempt,
    "kill_node": _kill_node,
}


def _follow(scene: Scene) -> None:
    """Fell what is to be felled, and keep what the cluster shows when a job says why it fell. The node goes last."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and (left := [fall for fall in FALLS if fall.name not in scene.fallen_jobs]):
        for fall in left:
            last = all(other.by == "kill_node" or other.name in scene.fallen_jobs for other in FALLS)
            if fall.by and fall.name not in scene.done and (fall.by != "kill_node" or last):
                running = [pod for pod in scene.recorder.pods(fall.name) if pod["status"].get("phase") == "Running"]
                if running:
                    ACTS[fall.by](scene, running[0])
                    scene.done.add(fall.name)
            body = scene.recorder.first(fall.name, partial(_has_failed, fall))
            if body is not None:
                nodes = scene.cluster.get("nodes")["items"] if fall.by == "kill_node" else ()
                case = failures.record(fall.name, scene.recorder, fall.name, recorded=failures.HERE, nodes=tuple(nodes))
                scene.fallen_jobs[fall.name], scene.cases[fall.name] = body, case
                scene.api.delete("FineTuneJob", fall.name)
                if fall.by == "preempt":
                    scene.api.delete("Pod", "important")
        time.sleep(0.1)


def _has_failed(fall: Fall, job: Manifest) -> bool:
    failure = (job.get("status") or {}).get("failure") or {}
    return failure.get("reason") == fall.reason and fall.message in failure["message"]


# --- tests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fall", FALLS, ids=lambda fall: fall.name)
def test_the_cause_is_told_everywhere_in_the_same_words(scene: Scene, fall: Fall) -> None:
    job = scene.fallen_jobs.get(fall.name)
    assert job is not None, scene.recorder.newest(fall.name).get("status")

    failure = job["status"].get("failure") or {}
    case = scene.cases[fall.name]
    recorded = case.said()["failure"]
    assert (recorded["reason"], fall.message in recorded["message"]) == (fall.reason, True), (
        recorded,
        case.document["objects"],
    )
    assert len(recorded["message"].splitlines()) <= 16
    if job["status"]["phase"] == "Failed":
        assert failure["reason"] == job["status"]["summary"]["reason"] == fall.reason
        assert failure["resolution"] == recorded["resolution"]
    uid = job["metadata"]["uid"]
    wait_for("the event", lambda: any(fall.message in event["message"] for event in scene.recorder.events_about(uid)))


def test_what_is_no_fault_of_the_job_costs_it_nothing(scene: Scene) -> None:
    for fall in CLUSTERS:
        versions = scene.recorder.versions[fall.name]
        restarts = [version["status"]["restarts"] for version in versions if version.get("status", {}).get("restarts")]
        assert all(counts["error"] == 0 for counts in restarts), fall.name
        assert scene.fallen_jobs[fall.name]["status"]["phase"] in ("Restarting", "Starting")
