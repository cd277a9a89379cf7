"""The objects that benchmarks create: FineTuneJobs, and the Jobs that they are compared with."""

from __future__ import annotations

from typing import Any

from benchmarks.cluster import CLAIM, NAMESPACE
from finetune_operator.api.resource import FineTuneJob
from finetune_operator.plan.desired.manifests import config_map, service, train_job
from finetune_operator.plan.types import PlanSettings

Manifest = dict[str, Any]
SETTINGS = PlanSettings(trainer_image="docker.io/finetune/trainer:dev")


def finetune_job(name: str) -> Manifest:
    """Make a FineTuneJob of two nodes, with an existing claim and model and data on a volume: nothing to prepare in a Job of its own."""
    spec = {
        "task": "text-classification",
        "model": {"name": "/data/model"},
        "dataset": {"files": {"train": ["/data/train.csv"]}, "columns": {"text": "review", "label": "stars"}},
        "nodes": 2,
        "volumes": [{"name": "data", "mountPath": "/data", "readOnly": True, "claimName": CLAIM}],
        "storage": {"claimName": CLAIM},
    }
    return _named(name, "finetune.dev/v1alpha1", "FineTuneJob", spec)


def bare_job(name: str) -> Manifest:
    """Make the baseline: an Indexed Job of two pods, and nothing else."""
    container = {"name": "main", "image": "docker.io/finetune/pause:1"}
    return indexed_job(name, {"spec": {"restartPolicy": "Never", "containers": [container]}})


def indexed_job(name: str, template: Manifest) -> Manifest:
    """Make a Job of two pods, none of which is replaced."""
    spec = {"completionMode": "Indexed", "completions": 2, "parallelism": 2, "backoffLimit": 0, "template": template}
    return _named(name, "batch/v1", "Job", spec)


def _named(name: str, api_version: str, kind: str, spec: Manifest) -> Manifest:
    metadata = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec}


def same_pods(name: str) -> Manifest:
    """Make another baseline: the pods of a FineTuneJob, from a Job that a script creates."""
    manifest = train_job(_planned(name), SETTINGS, 1)
    del manifest["spec"]["template"]["metadata"]
    return {**manifest, "metadata": {"name": name, "namespace": NAMESPACE}}


def same_children(name: str) -> tuple[Manifest, ...]:
    """Make all that the operator makes for a FineTuneJob, owned by nobody, as a script would make it."""
    job = _planned(name)
    children = (config_map(job, SETTINGS), service(job), train_job(job, SETTINGS, 1))
    return tuple(
        {**child, "metadata": {"name": child["metadata"]["name"], "namespace": NAMESPACE}}
        for child in children
        if child is not None
    )


def _planned(name: str) -> FineTuneJob:
    job = finetune_job(name)
    metadata = {"uid": f"uid-of-{name}", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return FineTuneJob.parse({**job, "metadata": {**job["metadata"], **metadata}})
