"""Jobs that train and fall: what status, event and `kubectl get` say is the cause, not what follows from it.

Each trains on two nodes, and the rank of node 1 falls: node 0's loses its connection and says so, often first.
Faults happen side by side on real nodes, by a module on a ConfigMap that Python imports by itself.
`UPDATE_GOLDEN=1` keeps what the cluster showed as cases for the unit tests.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.support import e2e, failures
from tests.support.api import Api, Manifest
from tests.support.cluster.nodes import NodeCluster
from tests.support.commands import wait_for
from tests.support.installed import InstalledOperator
from tests.support.patience import PATIENCE_SECONDS
from tests.support.recorder import Recorder, restricted_namespace

CLAIM = "models"
FAULTS = """
import os

if os.environ.get("RANK") == "1" and os.environ.get("FAULT"):
    import torch.optim

    def fall(optimizer, *args, **kwargs):
        match os.environ["FAULT"]:
            case "exception":
                raise RuntimeError("the team's own loss function has no value here")
            case "abort":
                os.abort()
            case "kill":
                os.kill(os.getpid(), 9)
            case "memory":
                kept = [b"x" * (64 << 20) for _ in range(1000)]

    torch.optim.AdamW.step = fall
"""


@dataclass(frozen=True)
class Fall:
    """A way to fall, and what is said of it."""

    name: str
    reason: str
    message: str
    spec: Manifest = field(default_factory=dict)


def _fault(kind: str) -> Manifest:
    return {"env": [{"name": "FAULT", "value": kind}]}


FALLS = (
    Fall(
        "rank-raises", "RankFailed", "RuntimeError: the team's own loss function has no value here", _fault("exception")
    ),
    Fall("rank-aborts", "RankKilled", "Rank 1 was ended by SIGABRT.", _fault("abort")),
    Fall("rank-killed", "RankKilled", "Rank 1 was ended by SIGKILL.", _fault("kill")),
    Fall(
        "rank-out-of-memory",
        "OutOfMemory",
        "node 1 ran out of memory and was killed, its limit is 1200Mi (`resources.limits.memory`)",
        {**_fault("memory"), "resources": {"requests": {"cpu": "100m"}, "limits": {"memory": "1200Mi"}}},
    ),
)


@dataclass
class Scene:
    recorder: Recorder
    failed_jobs: dict[str, Manifest] = field(default_factory=dict)
    cases: dict[str, failures.Case] = field(default_factory=dict)


@pytest.fixture(scope="module")
def scene(cluster: NodeCluster, operator: InstalledOperator) -> Iterator[Scene]:
    """Apply all jobs, and follow each until it has fallen."""
    operator.pod()
    with restricted_namespace(cluster, "fall") as namespace:
        api = Api(cluster.kubeconfig, namespace)
        e2e.make_data(cluster, namespace)
        faults = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "faults"}}
        cluster.apply(e2e.claim_manifest(CLAIM), {**faults, "data": {"sitecustomize.py": FAULTS}}, namespace=namespace)
        with Recorder(api) as recorder:
            scene = Scene(recorder)
            for fall in FALLS:
                api.create(manifest(fall))
            _follow(scene)
            yield scene
    cluster.recycle_volumes()


def manifest(fall: Fall) -> Manifest:
    """A job on two nodes; the rank of node 1 falls at its first step."""
    job = e2e.job_manifest(fall.name, nodes=2)
    spec: Manifest = {**job["spec"], "backoffLimit": 0, "storage": {"claimName": CLAIM}, **fall.spec}
    path = {"name": "PYTHONPATH", "value": "/faults:/opt/app"}
    spec["env"] = [*job["spec"]["env"], path, *fall.spec.get("env", [])]
    spec["volumes"] = [*job["spec"]["volumes"], {"name": "faults", "mountPath": "/faults", "configMap": "faults"}]
    return {**job, "spec": spec}


def _follow(scene: Scene) -> None:
    """Keep what the cluster shows when a job says why it fell."""
    deadline = time.monotonic() + PATIENCE_SECONDS * len(FALLS)  # they share the cores of this machine
    while time.monotonic() < deadline and (left := [fall for fall in FALLS if fall.name not in scene.failed_jobs]):
        for fall in left:
            body = scene.recorder.first(fall.name, partial(_has_failed, fall))
            if body is not None:
                scene.failed_jobs[fall.name] = body
                scene.cases[fall.name] = failures.record(fall.name, scene.recorder, fall.name, recorded=failures.HERE)
        time.sleep(0.1)


def _has_failed(fall: Fall, job: Manifest) -> bool:
    failure = (job.get("status") or {}).get("failure") or {}
    return failure.get("reason") == fall.reason and fall.message in failure["message"]


# --- tests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fall", FALLS, ids=lambda fall: fall.name)
def test_the_cause_is_told_everywhere_in_the_same_words(scene: Scene, fall: Fall) -> None:
    job = scene.failed_jobs.get(fall.name)
    assert job is not None, scene.recorder.newest(fall.name).get("status")

    failure = job["status"]["failure"]
    recorded = scene.cases[fall.name].said()["failure"]
    assert (recorded["reason"], fall.message in recorded["message"]) == (fall.reason, True)
    assert len(recorded["message"].splitlines()) <= 16
    assert job["status"]["phase"] == "Failed"
    assert failure["reason"] == job["status"]["summary"]["reason"] == fall.reason
    assert (failure["node"], failure.get("rank", 1)) == (1, 1)
    assert failure["resolution"] == recorded["resolution"]
    uid = job["metadata"]["uid"]
    wait_for("the event", lambda: any(fall.message in event["message"] for event in scene.recorder.events_about(uid)))
