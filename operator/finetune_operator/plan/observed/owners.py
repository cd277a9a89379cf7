"""Owners of pods: a pod's controller is a Job whose controller is the FineTuneJob, by uid. Labels find pods, owners decide. Pure.

Jobs that are gone count too, for their pods' end is evidence, until another Job has their name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import NamedTuple

from finetune_operator.plan import untrusted
from finetune_operator.plan.types import Manifest

INDEX_KEY = "batch.kubernetes.io/job-completion-index"
_NAME = re.compile(r"-(?P<role>prepare|train|publish)-(?P<number>[1-9]\d{0,8})", re.ASCII)


class Controller(NamedTuple):
    """Owner that made an object and ends it."""

    kind: str
    name: str
    uid: str


@dataclass(frozen=True)
class Work:
    """Work of one of the operator's Jobs, as its name tells: names can't be edited, labels can."""

    role: str
    number: int


def controller(item: Manifest) -> Controller | None:
    """Return the owner that controls an object; None where nobody does, or two claim to."""
    owners = untrusted.mappings(untrusted.mapping(item.get("metadata")).get("ownerReferences"))
    controllers = [
        Controller(*(str(owner.get(key) or "") for key in Controller._fields))
        for owner in owners
        if owner.get("controller") is True
    ]
    return controllers[0] if len(controllers) == 1 and controllers[0].uid else None


def work(name: object, job: str) -> Work | None:
    """Return the work of the Job of this name; None where the FineTuneJob `job` has no Job of such a name."""
    if not isinstance(name, str) or not name.startswith(f"{job}-"):
        return None
    parts = _NAME.fullmatch(name, len(job))
    return Work(parts["role"], int(parts["number"])) if parts else None


def jobs(objects: Iterable[Manifest], gone: AbstractSet[str], name: str, uid: str) -> dict[str, tuple[Manifest, Work]]:
    """Find the Jobs of a FineTuneJob by uid: of each name the living one, else the one that was there last."""
    newest: dict[str, tuple[Manifest, Work]] = {}
    for item in objects:
        if item["kind"] != "Job" or (owner := controller(item)) is None or owner.uid != uid:
            continue
        metadata = item["metadata"]
        known = newest.get(metadata["name"])
        if known is not None and metadata["uid"] in gone and known[0]["metadata"]["uid"] not in gone:
            continue
        if (job_work := work(metadata["name"], name)) is not None:
            newest[metadata["name"]] = item, job_work
    return {item["metadata"]["uid"]: (item, job_work) for item, job_work in newest.values()}


def pod_work(pod: Manifest, owners: Mapping[str, tuple[Manifest, Work]]) -> Work | None:
    """Return the work of a pod; None where the pod belongs to none of these Jobs."""
    owner = controller(pod)
    return owners[owner.uid][1] if owner is not None and owner.uid in owners else None


def index(pod: Manifest, role: str, nodes: int) -> int | None:
    """Return the index of a pod's node, from 0; None where the pod names none that exists. Only training pods must name one."""
    metadata = untrusted.mapping(pod.get("metadata"))
    for part in ("annotations", "labels"):
        values = untrusted.mapping(metadata.get(part))
        if INDEX_KEY in values:
            number = untrusted.count(values[INDEX_KEY])
            return number if number is not None and number < (nodes if role == "train" else 1) else None
    return None if role == "train" else 0
