"""The accelerators among the resources that a job asks for, and how many ranks they are for. Pure.

Only a resource's name tells what it is: device plugins choose the name, and administrators may choose another. By its name
a resource is a device, a part of one (a rank computes on one part, however many there are), or an amount of something that a
device has (its memory, thousandths of its time), which is no device at all. Devices may also come by ResourceClaims, which do
not tell here how many there are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Any

from finetune_operator.api.quantity import amount
from finetune_operator.api.resource import FineTuneJob
from finetune_operator.plan.desired.merge import TRAINER
from finetune_operator.plan.types import PlanSettings
from finetune_operator.plan.untrusted import mapping, mappings

_AMOUNT = re.compile(r"mem|core|percent|ratio|priority|monitor", re.IGNORECASE)
"""Parts of the name of a resource that counts something other than devices: `gpumem`, `millicores`, `gpu-core.percentage`."""
_PART = re.compile(r"^mig-|[.]shared$")
"""Pattern of a part of a device, in the name behind the domain."""
_LOOKS_LIKE_ACCELERATOR = re.compile(
    r"gpu|cuda|accelerator|nvidia[.]com/mig|"
    r"(?<![a-z0-9])([nthp]pu|[mdg]cu|mlu|[abhlv]\d{2,3}s?|g[bh]200|mi\d{3}\w?|rtx\w*)(?![a-z0-9])",
    re.IGNORECASE,
)
"""Pattern of a name that device plugins give to accelerators alone."""

_MIG_MEMORY = re.compile(r"/mig-\w+[.](\d{1,4})gb")
_PRODUCT_MEMORY = re.compile(r"-(\d{1,4})GB", re.IGNORECASE)
"""Memory in what makers call their products: `NVIDIA-A100-SXM4-80GB`, `nvidia-h100-80gb`; in a MIG profile: `mig-3g.40gb`."""
_DIGITS_MAX = 10
_SLACK_BYTES = 1 << 30


def is_accelerator(resource: str, settings: PlanSettings) -> bool:
    """Return whether the administrator counts a resource among the accelerators."""
    return any(fnmatchcase(resource, pattern) for pattern in settings.accelerator_resources)


def accelerator_resources(job: FineTuneJob, settings: PlanSettings) -> dict[str, int]:
    """Return resource name -> number per node, of devices, parts and amounts alike."""
    return {name: number for name, number in _asked(job) if is_accelerator(name, settings)}


def accelerators(job: FineTuneJob, settings: PlanSettings) -> int:
    """Count the devices per node that ranks can compute on, as far as names tell: a ResourceClaim counts as one."""
    numbers = accelerator_resources(job, settings)
    claims = claimed(job, settings)
    if claims and not any(map(_is_device, numbers)):
        return job.spec.processes_per_node or len(claims)
    return devices_among(numbers)


def devices_among(numbers: Mapping[str, int]) -> int:
    """Count the devices among accelerators (name -> number) that ranks can compute on: parts and amounts alone are one device."""
    return sum(number for name, number in numbers.items() if _is_device(name)) or (1 if numbers else 0)


def unknown_accelerators(job: FineTuneJob, settings: PlanSettings) -> dict[str, int]:
    """Find the resources that look like accelerators, and their numbers, in a job without an accelerator that the operator knows."""
    if accelerators(job, settings):
        return {}
    return {name: number for name, number in _asked(job) if _LOOKS_LIKE_ACCELERATOR.search(name)}


def device_memory_bytes(job: FineTuneJob, settings: PlanSettings) -> int | None:
    """Return the memory of each of the job's devices, at most; None where neither names nor the node selector tell."""
    if not accelerators(job, settings):
        return None
    names = [name for name in accelerator_resources(job, settings) if not _AMOUNT.search(name.rpartition("/")[2])]
    sizes = [_memory_by_name(name, settings) for name in names]
    by_names = max((size for size in sizes if size is not None), default=None) if None not in sizes else None
    by_labels = _memory_by_labels(_node_selector(job, settings))
    return max((size for size in (by_names, by_labels) if size is not None), default=None)


def _memory_by_name(resource: str, settings: PlanSettings) -> int | None:
    sizes = [size for name, size in settings.accelerator_memory_bytes.items() if fnmatchcase(resource, name)]
    profile = _MIG_MEMORY.search(resource)
    return max((*sizes, *([_nominal_bytes(profile[1])] if profile else [])), default=None)


def _memory_by_labels(selector: Mapping[str, Any]) -> int | None:
    """Return the memory of a device that NVIDIA's and Google's node labels tell, at most."""
    megabytes, sizes = selector.get("nvidia.com/gpu.memory"), []
    if isinstance(megabytes, str) and megabytes.isascii() and megabytes.isdigit() and len(megabytes) < _DIGITS_MAX:
        sizes.append((int(megabytes) << 20) + _SLACK_BYTES)
    for label in ("nvidia.com/gpu.product", "cloud.google.com/gke-accelerator"):
        value = selector.get(label)
        if isinstance(value, str) and (size := _PRODUCT_MEMORY.search(value)):
            sizes.append(_nominal_bytes(size[1]))
    return max(sizes, default=None)


def _node_selector(job: FineTuneJob, settings: PlanSettings) -> dict[str, Any]:
    """Return the node selector of the job, with what the administrator adds to it."""
    default, own = (
        mapping(mapping(template.get("spec")).get("nodeSelector"))
        for template in (settings.pod_template, job.spec.template)
    )
    return {**default, **own}


def _nominal_bytes(gigabytes: str) -> int:
    """Return the bytes that `80GB` in a name is at most: makers count in powers of two, and round."""
    return (int(gigabytes) << 30) + _SLACK_BYTES


def accelerator_problems(job: FineTuneJob, settings: PlanSettings) -> tuple[str, ...]:
    """Say why training would run on the CPU of a pod that holds an accelerator; each text names field, value and way out."""
    known = ", ".join(settings.accelerator_resources) or "none"
    return tuple(
        f"spec.resources.limits[{name}]: looks like an accelerator, and the operator does not know it as one: training would "
        f"run on the CPU of a pod that holds it. Ask your administrator to add {name!r} to the operator's setting "
        f"`acceleratorResources` (now: {known}), ask for one that is there, or leave it out"
        for name in unknown_accelerators(job, settings)
    )


def claimed(job: FineTuneJob, settings: PlanSettings) -> tuple[str, ...]:
    """List the names of the ResourceClaims that the training container has: the job's, and those that the administrator gives."""
    names = (*_claims_of(settings.pod_template), *_claims_of(job.spec.template))
    return tuple(dict.fromkeys(names))


def without_claims(template: Mapping[str, Any]) -> dict[str, Any]:
    """Take the ResourceClaims out of a (partial) pod template: for pods that compute on nothing, and machines that have none."""
    spec = mapping(template.get("spec"))
    if not spec:
        return dict(template)
    kept = _without(spec, "resourceClaims")
    for kind in ("containers", "initContainers"):
        if isinstance(kept.get(kind), list):
            kept[kind] = [
                _unclaiming(container) if isinstance(container, dict) else container for container in kept[kind]
            ]
    return {**template, "spec": kept}


def _unclaiming(container: Mapping[str, Any]) -> dict[str, Any]:
    resources = mapping(container.get("resources"))
    if "claims" not in resources:
        return dict(container)
    kept = _without(resources, "claims")
    return {**container, "resources": kept} if kept else _without(container, "resources")


def _without(holder: Mapping[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in holder.items() if key != name}


def _claims_of(template: Mapping[str, Any]) -> Iterator[str]:
    """List the claims of the training container. The template is not checked yet: it may be one that can't be merged."""
    for container in mappings(mapping(template.get("spec")).get("containers")):
        if container.get("name") == TRAINER:
            claims = mappings(mapping(container.get("resources")).get("claims"))
            yield from (name for claim in claims if isinstance(name := claim.get("name"), str))


def _asked(job: FineTuneJob) -> Iterator[tuple[str, int]]:
    """List the extended resources of the job and their numbers, above 0. Kubernetes takes them in whole numbers only."""
    resources = job.spec.resources
    for name, quantity in {**resources.requests, **resources.limits}.items():
        if "/" in name and (number := int(amount(quantity) or 0)) > 0:
            yield name, number


def _is_device(resource: str) -> bool:
    name = resource.rpartition("/")[2]
    return not _AMOUNT.search(name) and not _PART.search(name)
