"""A good FineTuneJob, and cases: changes of it that are accepted, each with one that is refused."""

from __future__ import annotations

import dataclasses
from copy import deepcopy
from typing import Any

from finetune_operator.api.resource import FineTuneJob

Patch = dict[str, Any]
"""Dotted path below spec -> value; None takes the field away."""

BASE: dict[str, Any] = {
    "apiVersion": "finetune.dev/v1alpha1",
    "kind": "FineTuneJob",
    "metadata": {"name": "reviews"},
    "spec": {
        "task": "text-classification",
        "model": {"name": "google-bert/bert-base-cased"},
        "dataset": {"name": "yelp_review_full"},
        "storage": {"size": "10Gi"},
    },
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A spec that is accepted, and one near it that is refused with a message."""

    name: str
    good: Patch
    bad: Patch
    field: str
    """Beginning of the message."""
    message: str
    """Part of the message."""
    metadata: dict[str, Any] = dataclasses.field(default_factory=dict)
    """Metadata of the bad job, in place of a spec."""

    def good_manifest(self) -> dict[str, Any]:
        return manifest(self.good)

    def bad_manifest(self) -> dict[str, Any]:
        return manifest(self.bad, self.metadata)


def manifest(patch: Patch, metadata: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return the base with some fields changed."""
    job = deepcopy(BASE)
    job["metadata"].update(metadata or {})
    for path, value in patch.items():
        *holders, last = path.split(".")
        target = job["spec"]
        for holder in holders:
            target = target.setdefault(holder, {})
        if value is None:
            target.pop(last, None)
        else:
            target[last] = deepcopy(value)
    return job


FILES: Patch = {"dataset.name": None, "dataset.files": {"train": ["/data/train.csv"], "validation": ["/data/test.csv"]}}
TRAIN_ONLY: Patch = {"dataset.name": None, "dataset.files": {"train": ["/data/train.csv"]}}
ARGUMENTS = "trainingArguments"
GPU = "nvidia.com/gpu"


def of_arguments(**arguments: Any) -> Patch:
    """Return a spec with these training arguments."""
    return {ARGUMENTS: arguments}


def job(**patch: Any) -> FineTuneJob:
    """Return the base with some fields changed, as the operator reads it."""
    body = manifest(patch)
    body["metadata"] |= {"namespace": "default", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return FineTuneJob.parse(body)
