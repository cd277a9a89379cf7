"""The accelerators of this machine, and the job as it can run with them.

The devices are those that nvidia-smi lists: to ask torch would take the seconds of its import.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Collection
from dataclasses import dataclass

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.plan.desired.accelerators import (
    accelerator_resources,
    accelerators,
    devices_among,
    unknown_accelerators,
    without_claims,
)
from finetune_operator.plan.types import PlanSettings

HERE = "nvidia.com/gpu"
"""Resource name of the devices of this machine."""


@dataclass(frozen=True)
class Placement:
    """A job as it runs on this machine."""

    job: FineTuneJob
    devices: tuple[tuple[str, ...], ...]
    """Devices of each node."""
    warning: str | None = None
    """Difference from the manifest, for the user."""


def present() -> tuple[str, ...]:
    """Return the indices or ids of the CUDA devices that may be used."""
    allowed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if allowed is not None:
        return tuple(device for device in allowed.split(",") if device and device != "-1")
    program = shutil.which("nvidia-smi")
    if program is None:
        return ()
    query = [program, "--query-gpu=index", "--format=csv,noheader"]
    answer = subprocess.run(query, capture_output=True, text=True, timeout=20, check=False)
    return tuple(answer.stdout.split()) if answer.returncode == 0 else ()


def place(job: FineTuneJob, settings: PlanSettings, devices: tuple[str, ...]) -> Placement:
    """Return the job with the accelerators of this machine in place of those that it asks for, whatever they are called."""
    unknown = unknown_accelerators(job, settings)
    wanted, nodes = accelerators(job, settings) or devices_among(unknown), job.spec.nodes
    if wanted == 0:
        return Placement(job, ((),) * nodes)
    each = min(len(devices) // nodes, wanted)
    shares = tuple(tuple(devices[node * each : (node + 1) * each]) for node in range(nodes))
    requested = {*accelerator_resources(job, settings), *unknown}
    local_job = _with_accelerators(job, requested, each)
    if each == wanted:
        return Placement(local_job, shares)
    per_node = f"{wanted} accelerator{'s' if wanted > 1 else ''} per node"
    if each == 0:
        text = f"{per_node} asked for, {len(devices)} here for {nodes} node(s): training runs on the CPU, in fp32"
    else:
        text = f"{per_node} asked for, {each} here: each node trains with {each}"
    return Placement(local_job, shares, text)


def _with_accelerators(job: FineTuneJob, requested: Collection[str], count: int) -> FineTuneJob:
    """Return the job with `count` devices in place of those that it asks for, also by claims. It may have fewer ranks."""
    resources = job.spec.resources
    plain = {name: quantity for name, quantity in resources.limits.items() if name not in requested}
    requests = {name: quantity for name, quantity in resources.requests.items() if name not in requested}
    limits = {**plain, HERE: count} if count else plain
    processes = job.spec.processes_per_node
    spec = job.spec.model_copy(
        update={
            "resources": resources.model_copy(update={"limits": limits, "requests": requests}),
            "processes_per_node": min(processes, count) if processes and count else processes,
            "template": without_claims(job.spec.template),
        }
    )
    return job.model_copy(update={"spec": spec})
