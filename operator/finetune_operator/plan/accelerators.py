"""Which of the resources that a job asks for are accelerators, and how many. Pure."""

from __future__ import annotations

from fnmatch import fnmatchcase

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.plan.types import PlanSettings


def is_accelerator(resource: str, settings: PlanSettings) -> bool:
    return any(fnmatchcase(resource, pattern) for pattern in settings.accelerator_resources)


def accelerator_resources(job: FineTuneJob, settings: PlanSettings) -> dict[str, int]:
    """Resource name -> count per node. Kubernetes takes extended resources in whole numbers only."""
    resources = job.spec.resources
    counts: dict[str, int] = {}
    for asked in (resources.requests, resources.limits):
        for name, quantity in asked.items():
            if is_accelerator(name, settings):
                counts[name] = int(float(quantity))
    return {name: count for name, count in counts.items() if count > 0}


def accelerators(job: FineTuneJob, settings: PlanSettings) -> int:
    """Accelerators per node, of all kinds."""
    return sum(accelerator_resources(job, settings).values())
