"""The pods of a FineTuneJob: container, volumes, environment, security, and the user's template merged in.

Pure. The paths here are the contract with the training image: the trainer reads them from its run config.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from finetune_operator.api.quantity import amount, parse
from finetune_operator.api.resource import FineTuneJob
from finetune_operator.api.spec import EnvVar, Resources, Volume
from finetune_operator.plan.desired.accelerators import accelerator_resources, without_claims
from finetune_operator.plan.desired.admin_template import merge_defaults
from finetune_operator.plan.desired.merge import PORT_NAME, SYSTEM_VOLUME_PREFIX, TRAINER, merge_template
from finetune_operator.plan.template_policy import Capability, off_limits, with_safe_defaults
from finetune_operator.plan.types import PlanSettings
from finetune_trainer.contract.records import TERMINATION_LOG
from finetune_trainer.contract.run_config import PORT, Env

CONFIG_KEY = "run.json"
CONFIG_PATH = "/etc/finetune"
OUTPUT_PATH = "/output"
TOKEN_FILE = "/var/run/finetune/hub/token"
SCRIPT_PATH = "/var/run/finetune/script"
"""Folder of the user's own program, where a ConfigMap holds it."""

USER_ID = 10001
"""uid and gid of the pods, and the group that volumes are handed to."""

ENVIRONMENT = {
    "HOME": "/tmp",  # the root file system is read-only; caches of libraries go here
    "PYTHONUNBUFFERED": "1",
    "PYTHONFAULTHANDLER": "1",
    "TOKENIZERS_PARALLELISM": "false",  # forked data loader workers deadlock or warn otherwise
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "NCCL_DEBUG": "WARN",
}
"""Defaults in every pod; `spec.env` overrides them by name."""


HELPER_REQUESTS = {"cpu": "4", "memory": "8Gi", "ephemeral-storage": "16Gi"}
"""Requests of a pod that prepares or publishes, at most, unless the job says otherwise: tokenising and uploading
need no more, and more would fill a machine with accelerators, or start one."""


class Role(StrEnum):
    """Work of a pod, and the value of its label."""

    PREPARE = "prepare"
    TRAIN = "train"
    PUBLISH = "publish"


COMMANDS = {Role.PREPARE: "prepare", Role.TRAIN: "launch", Role.PUBLISH: "publish"}
"""Command of the training image by role."""
TALKS_TO_HUB = frozenset({Role.PREPARE, Role.PUBLISH})
"""Roles whose pods see the token; ranks run offline."""


def pod_template(
    job: FineTuneJob,
    settings: PlanSettings,
    *,
    role: Role,
    number: int,
    labels: dict[str, str],
    config_map: str,
    claim: str,
) -> dict[str, Any]:
    """Make the pod template of a Job of this role, the administrator's and the job's merged in. `number`: of the attempt, or of the Job.

    Only training has devices, be it by resources or by ResourceClaims.
    """
    system = _system_template(
        job, settings, role=role, number=number, labels=labels, config_map=config_map, claim=claim
    )
    merged = _with_users(merge_defaults(system, settings.pod_template, job), job, settings)
    return merged if role is Role.TRAIN else without_claims(merged)


def template_off_limits(job: FineTuneJob, settings: PlanSettings) -> tuple[str, ...]:
    """List the rights that the job's template asks for and jobs may not use. The template must be one that can be merged."""
    if not job.spec.template and not settings.pod_template:
        return ()
    system = _system_template(job, settings, role=Role.TRAIN, number=1, labels={}, config_map="", claim="")
    without_users = merge_defaults(system, settings.pod_template, job)
    return off_limits(
        without_users,
        _with_users(without_users, job, settings),
        users=job.spec.template,
        defaults=settings.pod_template,
        allows=settings.template_allows,
    )


def _with_users(template: dict[str, Any], job: FineTuneJob, settings: PlanSettings) -> dict[str, Any]:
    """Merge the job's template in. Where jobs may not be privileged, neither are its containers that say nothing about it."""
    merged = merge_template(template, job.spec.template)
    if Capability.PRIVILEGED in settings.template_allows:
        return merged
    return with_safe_defaults(merged, job.spec.template)


def _system_template(
    job: FineTuneJob,
    settings: PlanSettings,
    *,
    role: Role,
    number: int,
    labels: dict[str, str],
    config_map: str,
    claim: str,
) -> dict[str, Any]:
    """Make the pod template of a role, before the administrator's and the job's part are merged in."""
    spec: dict[str, Any] = {
        "restartPolicy": "Never",
        "terminationGracePeriodSeconds": settings.of_job(job).grace_period_seconds,
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": _tolerations(job, settings),
        "containers": [_container(job, settings, role, number, claim)],
        "volumes": _volumes(job, role, config_map, claim),
    }
    if role is Role.TRAIN and job.spec.nodes > 1:
        spec["subdomain"] = job.metadata.name
    return {"metadata": {"labels": dict(labels)}, "spec": spec}


def _container(job: FineTuneJob, settings: PlanSettings, role: Role, number: int, claim: str) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": TRAINER,
        "image": job.spec.image or settings.trainer_image,
        "command": ["python", "-m", "finetune_trainer"],
        "args": [COMMANDS[role]],
        "env": _environment(job.spec.env, number),
        **_credentials(job, role),
        "resources": _resources(job, role),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        },
        "terminationMessagePath": TERMINATION_LOG,
        "terminationMessagePolicy": "FallbackToLogsOnError",  # the last lines of the log where no record was written
        "volumeMounts": _mounts(job, role, claim),
    }
    if role is Role.TRAIN:
        container["ports"] = [{"name": PORT_NAME, "containerPort": PORT, "protocol": "TCP"}]
    return container


def _environment(variables: tuple[EnvVar, ...], number: int) -> list[dict[str, Any]]:
    users = {variable.name: variable.model_dump(by_alias=True, exclude_none=True) for variable in variables}
    defaults = [{"name": name, "value": value} for name, value in ENVIRONMENT.items() if name not in users]
    system = [
        {"name": Env.CONFIG.value, "value": f"{CONFIG_PATH}/{CONFIG_KEY}"},
        {"name": Env.ATTEMPT.value, "value": str(number)},
    ]
    return [*defaults, *users.values(), *system]


def _credentials(job: FineTuneJob, role: Role) -> dict[str, Any]:
    """Return `envFrom` with the Secret of the dataset's credentials, for pods that read data. A variable in `env` goes before it."""
    reference = job.spec.dataset.credentials_secret_ref if job.spec.dataset is not None else None
    if role is not Role.PREPARE or reference is None:
        return {}
    return {"envFrom": [{"secretRef": {"name": reference.name}}]}


def _resources(job: FineTuneJob, role: Role) -> dict[str, Any]:
    """Return the pod's resources; only training takes extended ones (accelerators, network devices)."""
    own = job.spec.resources if role is Role.TRAIN else _helper_resources(job)
    resources = {"limits": dict(own.limits), "requests": dict(own.requests)}
    return {kind: amounts for kind, amounts in resources.items() if amounts}


def _helper_resources(job: FineTuneJob) -> Resources:
    """Return the resources of pods that prepare and publish. They may use as much as training, but do not reserve it."""
    training, own = job.spec.resources, job.spec.helper_resources
    limits, requests = dict(own.limits), dict(own.requests)
    for name, most in HELPER_REQUESTS.items():
        quantity = training.requests.get(name, training.limits.get(name))
        if name in own.limits or name in own.requests or quantity is None:
            continue
        if name in training.limits:
            limits[name] = training.limits[name]
        if (number := amount(quantity)) is not None and number > parse(most):
            requests[name] = most
        elif name in training.requests:
            requests[name] = quantity
    return Resources(limits=limits, requests=requests)


def _tolerations(job: FineTuneJob, settings: PlanSettings) -> list[dict[str, Any]]:
    """Tolerate the taints of nodes with accelerators, often named after the resource: every role must be able to run there."""
    lost = [
        {
            "key": f"node.kubernetes.io/{state}",
            "operator": "Exists",
            "effect": "NoExecute",
            "tolerationSeconds": settings.lost_node_seconds,
        }
        for state in ("not-ready", "unreachable")
    ]
    accelerated: list[dict[str, Any]] = [
        {"key": name, "operator": "Exists", "effect": "NoSchedule"}
        for name in sorted(accelerator_resources(job, settings))
    ]
    return [*lost, *accelerated]


def _claim_volumes(job: FineTuneJob, claim: str) -> dict[str, str]:
    """Return claim -> the one volume of the pod that has it: kubelet never starts a pod that names a claim in two volumes."""
    names = {claim: f"{SYSTEM_VOLUME_PREFIX}output"}
    for volume in job.spec.volumes:
        if volume.claim_name is not None:
            names.setdefault(volume.claim_name, volume.name)
    return names


def _mounts(job: FineTuneJob, role: Role, claim: str) -> list[dict[str, Any]]:
    mounts: list[dict[str, Any]] = [
        {"name": f"{SYSTEM_VOLUME_PREFIX}config", "mountPath": CONFIG_PATH, "readOnly": True},
        {"name": f"{SYSTEM_VOLUME_PREFIX}output", "mountPath": OUTPUT_PATH},
        {"name": f"{SYSTEM_VOLUME_PREFIX}tmp", "mountPath": "/tmp"},
        {"name": f"{SYSTEM_VOLUME_PREFIX}shm", "mountPath": "/dev/shm"},
    ]
    if role in TALKS_TO_HUB and job.spec.hub.token_secret_ref is not None:
        folder = TOKEN_FILE.rpartition("/")[0]
        mounts.append({"name": f"{SYSTEM_VOLUME_PREFIX}hub-token", "mountPath": folder, "readOnly": True})
    if role is Role.TRAIN and _script_config_map(job) is not None:
        mounts.append({"name": f"{SYSTEM_VOLUME_PREFIX}script", "mountPath": SCRIPT_PATH, "readOnly": True})
    shared = _claim_volumes(job, claim)
    for volume in job.spec.volumes:
        name = shared[volume.claim_name] if volume.claim_name is not None else volume.name
        mount: dict[str, Any] = {"name": name, "mountPath": volume.mount_path}
        if volume.sub_path is not None:
            mount["subPath"] = volume.sub_path
        if volume.read_only:
            mount["readOnly"] = True
        mounts.append(mount)
    return mounts


def _volumes(job: FineTuneJob, role: Role, config_map: str, claim: str) -> list[dict[str, Any]]:
    volumes: list[dict[str, Any]] = [
        {"name": f"{SYSTEM_VOLUME_PREFIX}config", "configMap": {"name": config_map}},
        {"name": f"{SYSTEM_VOLUME_PREFIX}output", "persistentVolumeClaim": {"claimName": claim}},
        {"name": f"{SYSTEM_VOLUME_PREFIX}tmp", "emptyDir": {}},
        {"name": f"{SYSTEM_VOLUME_PREFIX}shm", "emptyDir": {"medium": "Memory"}},
    ]
    reference = job.spec.hub.token_secret_ref
    if role in TALKS_TO_HUB and reference is not None:
        volumes.append(
            {
                "name": f"{SYSTEM_VOLUME_PREFIX}hub-token",
                "secret": {
                    "secretName": reference.name,
                    "items": [{"key": reference.key, "path": TOKEN_FILE.rpartition("/")[2]}],
                    "defaultMode": 0o440,  # root's, with the pods' group: nobody else reads it
                },
            }
        )
    script = _script_config_map(job)
    if role is Role.TRAIN and script is not None:
        volumes.append({"name": f"{SYSTEM_VOLUME_PREFIX}script", "configMap": {"name": script}})
    shared = set(_claim_volumes(job, claim).values())
    written = {volume.claim_name for volume in job.spec.volumes if not volume.read_only}
    users = (volume for volume in job.spec.volumes if volume.claim_name is None or volume.name in shared)
    return [*volumes, *(_users_volume(volume, written) for volume in users)]


def _script_config_map(job: FineTuneJob) -> str | None:
    """Return the name of the ConfigMap with the user's own program."""
    script = job.spec.script
    return script.config_map.name if script is not None and script.config_map is not None else None


def _users_volume(volume: Volume, written: set[str | None]) -> dict[str, Any]:
    """Make a volume of the user's. Claims not in `written` are attached read-only, as ReadOnlyMany volumes demand."""
    if volume.claim_name is not None:
        source: dict[str, Any] = {"claimName": volume.claim_name}
        if volume.claim_name not in written:
            source["readOnly"] = True
        return {"name": volume.name, "persistentVolumeClaim": source}
    if volume.config_map is not None:
        return {"name": volume.name, "configMap": {"name": volume.config_map}}
    return {"name": volume.name, "secret": {"secretName": volume.secret}}
