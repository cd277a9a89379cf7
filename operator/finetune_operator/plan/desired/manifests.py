"""The child objects of a FineTuneJob as complete manifests.

Pure functions from the job and an administrator's settings to the objects that are POSTed: names are deterministic, so that
a stale view ends in a 409. `pod_template` makes the pods, `job_run_config` the run config; `decide` says when a child is made.
"""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any, cast

from finetune_operator.api.resource import (
    API_VERSION,
    KIND,
    LABEL_ATTEMPT,
    LABEL_JOB,
    LABEL_ROLE,
    LABEL_UID,
    FineTuneJob,
)
from finetune_operator.plan.desired.accelerators import accelerator_problems, accelerators
from finetune_operator.plan.desired.job_run_config import addresses, needs_prepare_job, processes_per_node, run_config
from finetune_operator.plan.desired.merge import PORT_NAME, TRAINER
from finetune_operator.plan.desired.pod_template import (
    CONFIG_KEY,
    Role,
    pod_template,
    template_off_limits,
)
from finetune_operator.plan.desired.template_checks import template_problems
from finetune_operator.plan.types import Manifest, PlanSettings
from finetune_trainer.contract.run_config import PORT, Env

__all__ = [
    "accelerator_problems",
    "accelerators",
    "addresses",
    "claim",
    "claim_name",
    "config_map",
    "config_map_name",
    "is_controlled_by",
    "needs_prepare_job",
    "prepare_job",
    "prepare_job_name",
    "processes_per_node",
    "publish_job",
    "publish_job_name",
    "retained_for",
    "run_config",
    "service",
    "template_off_limits",
    "template_problems",
    "train_job",
    "train_job_name",
]


def claim_name(job: FineTuneJob) -> str:
    """Return the name of the claim that the job writes to: the user's, or the one that is made for it."""
    return job.spec.storage.claim_name or job.metadata.name


def config_map_name(job: FineTuneJob, settings: PlanSettings) -> str:
    """Name the ConfigMap after its content: another run config is another object, and a Job never reads one that changed under it."""
    digest = hashlib.sha256(run_config(job, settings).to_json().encode()).hexdigest()
    return f"{job.metadata.name}-{digest[:8]}"


def prepare_job_name(job: FineTuneJob, number: int) -> str:
    return f"{job.metadata.name}-prepare-{number}"


def publish_job_name(job: FineTuneJob, number: int) -> str:
    return f"{job.metadata.name}-publish-{number}"


def train_job_name(job: FineTuneJob, attempt: int) -> str:
    return f"{job.metadata.name}-train-{attempt}"


def config_map(job: FineTuneJob, settings: PlanSettings) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(job, config_map_name(job, settings)),
        "immutable": True,
        "data": {CONFIG_KEY: run_config(job, settings).to_json()},
    }


def service(job: FineTuneJob) -> Manifest | None:
    """Make the Service that gives nodes stable names before they are ready; None for one node, which has nobody to find."""
    if job.spec.nodes == 1:
        return None
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": _metadata(job, job.metadata.name),
        "spec": {
            "clusterIP": "None",
            "publishNotReadyAddresses": True,
            "selector": _labels(job, Role.TRAIN),
            "ports": [{"name": PORT_NAME, "port": PORT, "targetPort": PORT_NAME, "protocol": "TCP"}],
        },
    }


def claim(job: FineTuneJob) -> Manifest | None:
    """Make the claim; None where the user brings one. One that is retained carries the job's uid as a label and has no owner."""
    storage = job.spec.storage
    if storage.claim_name is not None:
        return None
    metadata = _metadata(job, job.metadata.name)
    metadata["labels"][LABEL_UID] = job.metadata.uid
    if storage.retain:
        del metadata["ownerReferences"]
    default_mode = "ReadWriteMany" if job.spec.nodes > 1 else "ReadWriteOnce"
    spec: dict[str, Any] = {
        "accessModes": [storage.access_mode or default_mode],
        "resources": {"requests": {"storage": storage.size}},
    }
    if storage.storage_class_name is not None:
        spec["storageClassName"] = storage.storage_class_name
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}


def prepare_job(job: FineTuneJob, settings: PlanSettings, number: int) -> Manifest:
    """Make the Job that prepares: one pod without accelerators, placed where training can run: a volume that binds late binds there."""
    return _single_pod_job(job, settings, Role.PREPARE, prepare_job_name(job, number), number)


def publish_job(job: FineTuneJob, settings: PlanSettings, number: int, deadline: datetime | None = None) -> Manifest:
    """Make the Job that publishes: one pod without accelerators, where training ran. `deadline`: when it ends its tries."""
    job_manifest = _single_pod_job(job, settings, Role.PUBLISH, publish_job_name(job, number), number)
    if deadline is not None:
        moment = deadline.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        _trainer(job_manifest["spec"]["template"])["env"].append({"name": Env.DEADLINE.value, "value": moment})
    return job_manifest


def _trainer(template: dict[str, Any]) -> dict[str, Any]:
    """Find the training container in a pod template."""
    (trainer,) = (container for container in template["spec"]["containers"] if container["name"] == TRAINER)
    return cast("dict[str, Any]", trainer)


def train_job(
    job: FineTuneJob, settings: PlanSettings, attempt: int, first_attempt: int = 1, checkpoint: int | None = None
) -> Manifest:
    """Make the Job of an attempt: one pod per node. A pod that falls ends the gang; the operator, not the Job, makes the next one.

    `first_attempt`: the first one since the job began, or was started again. `checkpoint`: step of the checkpoint to be found.

    No podFailurePolicy: with one, it takes four times as long to notice a lost node.
    """
    labels = _labels(job, Role.TRAIN, attempt)
    template = _pods(job, settings, Role.TRAIN, attempt, labels)
    variables = {Env.FIRST_ATTEMPT: first_attempt, Env.CHECKPOINT_STEP: checkpoint}
    _trainer(template)["env"] += [
        {"name": name.value, "value": str(value)} for name, value in variables.items() if value is not None
    ]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(job, train_job_name(job, attempt), labels),
        "spec": {
            "completionMode": "Indexed",
            "completions": job.spec.nodes,
            "parallelism": job.spec.nodes,
            "backoffLimit": 0,
            "template": template,
        },
    }


def is_controlled_by(manifest: Manifest, job: FineTuneJob) -> bool:
    """Return whether an object of a planned name is this job's: by its controller, or by the uid label on a claim."""
    metadata = manifest.get("metadata") or {}
    owners = metadata.get("ownerReferences") or ()
    if any(owner.get("controller") and owner.get("uid") == job.metadata.uid for owner in owners):
        return True
    return retained_for(manifest) == job.metadata.uid


def retained_for(manifest: Manifest) -> str | None:
    """Return the uid of the job that a retained claim was made for; None where the object is no such claim."""
    if manifest.get("kind") != "PersistentVolumeClaim":
        return None
    uid: str | None = ((manifest.get("metadata") or {}).get("labels") or {}).get(LABEL_UID)
    return uid


def _single_pod_job(job: FineTuneJob, settings: PlanSettings, role: Role, name: str, number: int) -> Manifest:
    labels = _labels(job, role, number)
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": _metadata(job, name, labels),
        "spec": {
            "backoffLimit": 0,
            "completions": 1,
            "parallelism": 1,
            "template": _pods(job, settings, role, number, labels),
        },
    }


def _pods(job: FineTuneJob, settings: PlanSettings, role: Role, number: int, labels: dict[str, str]) -> dict[str, Any]:
    return pod_template(
        job,
        settings,
        role=role,
        number=number,
        labels=labels,
        config_map=config_map_name(job, settings),
        claim=claim_name(job),
    )


def _labels(job: FineTuneJob, role: Role | None = None, number: int | None = None) -> dict[str, str]:
    labels = {LABEL_JOB: job.metadata.name}
    if role is not None:
        labels[LABEL_ROLE] = role.value
    if number is not None:
        labels[LABEL_ATTEMPT] = str(number)
    return labels


def _metadata(job: FineTuneJob, name: str, labels: dict[str, str] | None = None) -> dict[str, Any]:
    return {
        "name": name,
        "namespace": job.metadata.namespace,
        "labels": dict(labels or _labels(job)),
        "ownerReferences": [
            {
                "apiVersion": API_VERSION,
                "kind": KIND,
                "name": job.metadata.name,
                "uid": job.metadata.uid,
                "controller": True,
                "blockOwnerDeletion": True,
            }
        ],
    }
