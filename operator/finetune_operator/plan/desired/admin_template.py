"""The administrator's partial pod template: what every job's pods have unless the job says otherwise. Pure.

It is merged like a job's own template, and before it. The system's pods have the job's `spec.env` and `spec.volumes` already,
so that variables and volumes of the same names in the administrator's template are left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.plan.desired.merge import TRAINER, merge_template
from finetune_operator.plan.desired.template_checks import partial_template_problems

FIELD = "podTemplate"
"""Name of the setting in messages about it."""


def merge_defaults(system: dict[str, Any], defaults: Mapping[str, Any], job: FineTuneJob) -> dict[str, Any]:
    """Merge the administrator's pod template into the system's; the job's own comes after it."""
    return merge_template(system, _without(defaults, job)) if defaults else system


def default_problems(defaults: Mapping[str, Any]) -> tuple[str, ...]:
    """List the problems of the administrator's template, by the rules for a job's own."""
    problems = [problem.replace("spec.template", FIELD, 1) for problem in partial_template_problems(defaults)]
    if not problems and any("image" in container for container in (defaults.get("spec") or {}).get("containers") or ()):
        problems.append(f"{FIELD}.spec.containers[{TRAINER}].image: can't be set (set the trainer's image)")
    return tuple(problems)


def _without(defaults: Mapping[str, Any], job: FineTuneJob) -> dict[str, Any]:
    spec = defaults.get("spec")
    if not spec:
        return dict(defaults)
    variables = {variable.name for variable in job.spec.env}
    paths = {volume.mount_path for volume in job.spec.volumes}
    names = {volume.name for volume in job.spec.volumes}
    spec = dict(spec)
    if "volumes" in spec:
        spec["volumes"] = [volume for volume in spec["volumes"] if volume["name"] not in names]
    if "containers" in spec:
        spec["containers"] = [_without_named(container, variables, paths) for container in spec["containers"]]
    return {**defaults, "spec": spec}


def _without_named(container: Mapping[str, Any], variables: set[str], paths: set[str]) -> dict[str, Any]:
    if container["name"] != TRAINER:
        return dict(container)
    kept = dict(container)
    if "env" in kept:
        kept["env"] = [variable for variable in kept["env"] if variable["name"] not in variables]
    if "volumeMounts" in kept:
        kept["volumeMounts"] = [mount for mount in kept["volumeMounts"] if mount["mountPath"] not in paths]
    return kept
