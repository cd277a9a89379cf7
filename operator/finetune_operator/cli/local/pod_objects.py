"""Jobs and Pods as the API server would show them, made from the state of local processes.

Only fields that decisions read are filled in. Nothing here starts or ends anything.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from finetune_operator.plan.desired.merge import TRAINER
from finetune_operator.plan.observed.objects import INDEX_KEY
from finetune_operator.plan.types import Manifest
from finetune_trainer.contract.records import RESULT_RECORD_MAX_BYTES

FINAL_PHASES = ("Succeeded", "Failed")
INTERRUPTED = "`finetune run` was interrupted"


def timestamp() -> str:
    return datetime.now(UTC).isoformat()


def created(manifest: Manifest) -> Manifest:
    """Return the object that a POST of `manifest` makes."""
    metadata = {**manifest["metadata"], "uid": str(uuid.uuid4()), "creationTimestamp": timestamp()}
    return {**manifest, "metadata": metadata}


def bound(claim: Manifest) -> Manifest:
    """Return a claim that has its volume: a folder exists at once, and any number of nodes may write to it."""
    modes = claim["spec"]["accessModes"]
    return {**claim, "status": {"phase": "Bound", "accessModes": modes}}


def existing_claim(name: str, namespace: str) -> Manifest:
    """Return the claim that a folder of the user's stands for."""
    metadata = {"name": name, "namespace": namespace, "uid": f"claim-{name}"}
    spec = {"accessModes": ["ReadWriteMany"]}
    return bound({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec})


def pods_of(job: Manifest) -> list[Manifest]:
    """Return the pods that the Job controller makes for a new Job, before they start."""
    template, name = job["spec"]["template"], job["metadata"]["name"]
    owner = {"apiVersion": "batch/v1", "kind": "Job", "name": name, "uid": job["metadata"]["uid"], "controller": True}
    pods = []
    for index in range(job["spec"]["completions"]):
        metadata = {
            **template["metadata"],
            "name": f"{name}-{index}",
            "namespace": job["metadata"]["namespace"],
            "ownerReferences": [owner],
        }
        metadata["annotations"] = {**(metadata.get("annotations") or {}), INDEX_KEY: str(index)}
        spec = {**template["spec"], "nodeName": "local"}
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec, "status": {"phase": "Pending"}}
        pods.append(created(pod))
    return pods


def running(pod: Manifest) -> Manifest:
    """Return the pod with its container started."""
    now = timestamp()
    container = {"name": TRAINER, "ready": True, "restartCount": 0, "state": {"running": {"startedAt": now}}}
    status = {
        "phase": "Running",
        "startTime": now,
        "podIP": "127.0.0.1",
        "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
        "containerStatuses": [container],
    }
    return {**pod, "status": status}


def ended(pod: Manifest, ending: dict[str, Any] | None, message: str, seen: datetime) -> Manifest:
    """Return the pod with its container terminated. `ending` is what its supervisor wrote; None where it was killed before.

    `seen` is the last time at which the pod was known to run.
    """
    terminated: dict[str, Any] = {"exitCode": 137, "reason": "ContainerStatusUnknown", "finishedAt": seen.isoformat()}
    if ending is not None:
        code = ending["exitCode"]
        terminated = {"exitCode": code, "reason": "Completed" if code == 0 else "Error"}
        terminated |= {key: ending[key] for key in ("signal", "startedAt", "finishedAt") if ending[key] is not None}
    terminated["message"] = message[:RESULT_RECORD_MAX_BYTES]
    conditions = [condition for condition in pod["status"].get("conditions", ()) if condition["type"] != "Ready"]
    status = {
        **pod["status"],
        "phase": "Succeeded" if terminated["exitCode"] == 0 else "Failed",
        "conditions": [*conditions, {"type": "Ready", "status": "False", "lastTransitionTime": timestamp()}],
        "containerStatuses": [
            {"name": TRAINER, "ready": False, "restartCount": 0, "state": {"terminated": terminated}}
        ],
    }
    return {**pod, "status": status}


def deleted(pod: Manifest, grace_seconds: int, at: datetime) -> Manifest:
    """Return the pod after a DELETE: it shows when its grace period will be over."""
    end = (at + timedelta(seconds=grace_seconds)).isoformat()
    metadata = {**pod["metadata"], "deletionTimestamp": end, "deletionGracePeriodSeconds": grace_seconds}
    return {**pod, "metadata": metadata}


def disrupted(pod: Manifest) -> Manifest:
    """Return the pod as an eviction leaves it: an interrupted run does not spend its budget of crashes."""
    condition = {
        "type": "DisruptionTarget",
        "status": "True",
        "reason": "EvictionByEvictionAPI",
        "message": INTERRUPTED,
        "lastTransitionTime": timestamp(),
    }
    conditions = [*pod["status"].get("conditions", ()), condition]
    return {**pod, "status": {**pod["status"], "conditions": conditions}}


def with_job_status(job: Manifest, pods: Sequence[Manifest]) -> Manifest:
    """Return the Job with the status that its controller gives it."""
    phases = [pod["status"]["phase"] for pod in pods]
    before = {condition["type"]: condition for condition in (job.get("status") or {}).get("conditions", ())}
    suspended = bool(job["spec"].get("suspend"))
    holds = {
        "Complete": phases.count("Succeeded") == job["spec"]["completions"],
        "Failed": "Failed" in before or ("Failed" in phases and not suspended),
        "Suspended": suspended,
    }
    conditions = [
        before.get(name) or {"type": name, "status": "True", "lastTransitionTime": timestamp()}
        for name, holds_now in holds.items()
        if holds_now
    ]
    counts = {
        "active": phases.count("Running"),
        "succeeded": phases.count("Succeeded"),
        "failed": phases.count("Failed"),
    }
    return {**job, "status": {**counts, "conditions": conditions}}


def is_final(pod: Manifest) -> bool:
    return pod["status"]["phase"] in FINAL_PHASES
