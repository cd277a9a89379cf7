"""A job that is being written: what a manifest will say, before it has its form. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetune_operator.api.resource import API_VERSION, KIND
from finetune_operator.api.rules.fields import NAME_MAX_LENGTH, NAME_PATTERN
from finetune_operator.cli.command_errors import CommandError
from finetune_operator.cli.init.remarks import Remark

HUB_SECRET = {"name": "hf", "key": "token"}
STORAGE_SIZE = "50Gi"
GPU = "nvidia.com/gpu"
Comments = dict[tuple[str, ...], str]
"""Path of a field -> comment behind it."""


@dataclass(frozen=True)
class Draft:
    """A FineTuneJob, with what its writer has to tell about it."""

    name: str
    title: str
    """What is trained, for the manifest's first line."""
    task: str | None = None
    script: Mapping[str, Any] | None = None
    program_files: Mapping[str, Path] = field(default_factory=dict)
    """Key of the ConfigMap -> file of this machine."""
    model: Mapping[str, str] = field(default_factory=dict)
    dataset: Mapping[str, Any] = field(default_factory=dict)
    nodes: int = 1
    processes_per_node: int | None = None
    gpus: int | None = None
    """GPUs of each node; None where it is not known how many."""
    env: tuple[Mapping[str, Any], ...] = ()
    volumes: tuple[Mapping[str, Any], ...] = ()
    data_folder: Path | None = None
    """Folder of this machine whose files belong on the volume `data`."""
    runs_here: bool = True
    """Whether `finetune run` finds the files: it has no paths of volumes in arguments."""
    storage_size: str = STORAGE_SIZE
    endpoint: str = ""
    needs_hub_token: bool = False
    publish: Mapping[str, Any] | None = None
    comments: Comments = field(default_factory=dict)
    remarks: tuple[Remark, ...] = ()
    secrets: tuple[str, ...] = ()
    """Values that must be written nowhere."""


def document(draft: Draft) -> dict[str, Any]:
    """Return the FineTuneJob."""
    gpus = 1 if draft.gpus is None else draft.gpus
    hub: dict[str, Any] = {"endpoint": draft.endpoint} if draft.endpoint else {}
    if draft.needs_hub_token:
        hub["tokenSecretRef"] = HUB_SECRET
    fields: dict[str, Any] = {
        "task": draft.task,
        "script": draft.script,
        "model": draft.model,
        "dataset": draft.dataset,
        "nodes": draft.nodes,
        "processesPerNode": draft.processes_per_node,
        "resources": {"limits": {GPU: gpus}} if gpus else {},
        "env": list(draft.env),
        "volumes": list(draft.volumes),
        "storage": {"size": draft.storage_size},
        "hub": hub,
        "publish": draft.publish,
    }
    spec = {key: value for key, value in fields.items() if value not in (None, {}, [])}
    return {"apiVersion": API_VERSION, "kind": KIND, "metadata": {"name": draft.name}, "spec": spec}


def comments(draft: Draft) -> Comments:
    """Return what stands beside the fields."""
    result = dict(draft.comments)
    if draft.gpus is None:
        result["spec", "resources"] = "for each node: as many as it has; leave it out for the CPU"
    elif draft.gpus and draft.nodes > 1:
        result["spec", "resources"] = "for each node"
    if draft.nodes > 1:
        result["spec", "storage"] = "all nodes write to it: needs a storageClassName that offers ReadWriteMany"
    if draft.needs_hub_token:
        result["spec", "hub"] = "a Secret with your access token"
    return result


def job_name(text: str) -> str:
    """Return a name for a job after a program, a module or a model."""
    stem = re.sub("[^a-z0-9]+", "-", text.lower()).strip("-")
    stem = stem if stem[:1].isalpha() else f"train-{stem}".strip("-")
    return stem[:NAME_MAX_LENGTH].strip("-")


def checked_name(name: str) -> str:
    """Return the name that a user gives a job. Raise CommandError where a job can't have it."""
    if not re.fullmatch(NAME_PATTERN, name) or len(name) > NAME_MAX_LENGTH:
        raise CommandError(
            f"--name: at most {NAME_MAX_LENGTH} lower case letters, digits and hyphens, beginning with a letter and ending with a "
            "letter or digit"
        )
    return name
