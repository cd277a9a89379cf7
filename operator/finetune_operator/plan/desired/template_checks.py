"""Checks of a partial pod template: it may set nothing that is the system's, and must be one that can be merged. Pure.

Every problem names its field and the way out. The reserved names are those of the rules of the API (`api.rules.fields`),
which see `spec.volumes` and `spec.env` but cannot look into a template.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from finetune_operator.api.resource import GROUP, FineTuneJob
from finetune_operator.api.rules.fields import (
    ENDPOINT_ENV,
    ENDPOINT_ENV_ADVICE,
    RESERVED_ENV,
    RESERVED_ENV_ADVICE,
    RESERVED_ENV_PREFIXES,
    RESERVED_MOUNT_PATHS,
    TOKEN_ENV,
    TOKEN_ENV_ADVICE,
)
from finetune_operator.plan.desired.merge import LISTS, MERGE_KEYS, PORT_NAME, SYSTEM_VOLUME_PREFIX, TRAINER
from finetune_trainer.contract.run_config import PORT

SYSTEM_DEVICES = ("/dev/shm", "/dev/termination-log")
"""Paths in /dev that are the system's. A template may mount other devices of the machine there: /dev/infiniband."""

OWNED_POD_FIELDS: Mapping[str, str] = {
    "restartPolicy": "a fallen pod is replaced together with its gang",
    "terminationGracePeriodSeconds": "it is an operator setting, in step with the time that a checkpoint gets",
    "activeDeadlineSeconds": "set spec.activeDeadlineSeconds",
    "subdomain": "nodes find each other by it",
    "hostname": "nodes find each other by it",
    "setHostnameAsFQDN": "nodes find each other by their host names",
    "automountServiceAccountToken": "training pods hold no API credentials",
    "ephemeralContainers": "they can't be part of a template",
}
OWNED_TRAINER_FIELDS: Mapping[str, str] = {
    "command": "the program is the system's",
    "args": "the program is the system's",
    "workingDir": "the program is the system's",
    "restartPolicy": "a fallen pod is replaced together with its gang",
    "terminationMessagePath": "the result record is written there",
    "terminationMessagePolicy": "the result record is written there",
}
CLAIMS = "claims"
"""Field of a container's resources: devices that it gets by ResourceClaims. In the training container a user may set no other."""
OWNED_LABELS = (f"{GROUP}/", "batch.kubernetes.io/", "job-name", "controller-uid")


def template_problems(job: FineTuneJob) -> tuple[str, ...]:
    """List the problems of `spec.template`, `spec.volumes` and `spec.env`, each with field and way out."""
    problems = (*_volume_problems(job), *_env_problems(job), *_template_problems(job.spec.template))
    return problems or tuple(_clashes(job))


def partial_template_problems(template: Mapping[str, Any]) -> tuple[str, ...]:
    """List the problems of a partial pod template, whoever wrote it; the fields are named as a job's are."""
    return tuple(_template_problems(template))


def _clashes(job: FineTuneJob) -> Iterator[str]:
    """Find the volumes of the template that would take the place of one in `spec.volumes`."""
    names = {volume.name for volume in job.spec.volumes}
    for volume in (job.spec.template.get("spec") or {}).get("volumes", ()):
        if volume["name"] in names:
            field = f"spec.template.spec.volumes[{volume['name']}]"
            yield f"{field}: spec.volumes has one of this name: give it another"


def _template_problems(template: Mapping[str, Any]) -> Iterator[str]:
    for key in template:
        if key not in ("metadata", "spec"):
            yield f"spec.template.{key}: a pod template has metadata and spec"
    metadata, spec = ({} if template.get(key) is None else template[key] for key in ("metadata", "spec"))
    if not isinstance(metadata, Mapping) or not isinstance(spec, Mapping):
        yield "spec.template: metadata and spec must be objects"
        return
    yield from _metadata_problems(metadata)
    yield from _pod_problems(spec)


def _metadata_problems(metadata: Mapping[str, Any]) -> Iterator[str]:
    for key, value in metadata.items():
        field = f"spec.template.metadata.{key}"
        if key not in ("labels", "annotations"):
            yield f"{field}: only labels and annotations can be set on pods"
        elif not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
            yield f"{field}: must be an object of texts (quote numbers and booleans)"
        elif key == "labels":
            yield from (f"{field}[{name}]: the system sets it" for name in value if name.startswith(OWNED_LABELS))


def _pod_problems(spec: Mapping[str, Any]) -> Iterator[str]:
    for name, why in OWNED_POD_FIELDS.items():
        if name in spec:
            yield f"spec.template.spec.{name}: can't be set ({why})"
    malformed = list(_list_problems("spec.template.spec", spec))
    yield from malformed
    if malformed:
        return
    for volume in spec.get("volumes", ()):
        if volume["name"].startswith(SYSTEM_VOLUME_PREFIX):
            field = f"spec.template.spec.volumes[{volume['name']}]"
            yield f"{field}: names that begin with {SYSTEM_VOLUME_PREFIX} are the system's"
    yield from _unclaimed(spec)
    for kind in ("containers", "initContainers"):
        for container in spec.get(kind, ()):
            yield from _container_problems(kind, container)


def _unclaimed(spec: Mapping[str, Any]) -> Iterator[str]:
    """Find the claims whose devices the pod would hold but no container would see."""
    containers = (*spec.get("containers", ()), *spec.get("initContainers", ()))
    held = {name for container in containers for name in _claimed(container)}
    for claim in spec.get("resourceClaims", ()):
        if claim["name"] not in held:
            yield (
                f"spec.template.spec.resourceClaims[{claim['name']}]: no container has it: name it where the training container "
                f"is: containers: [{{name: {TRAINER}, resources: {{claims: [{{name: {claim['name']}}}]}}}}]"
            )


def _claimed(container: Mapping[str, Any]) -> Iterator[str]:
    """List the names of a container's claims; malformed claims are reported where the container is checked."""
    resources = container.get("resources")
    claims = resources.get(CLAIMS) if isinstance(resources, Mapping) else None
    for claim in claims if isinstance(claims, list) else ():
        if isinstance(claim, Mapping) and isinstance(name := claim.get("name"), str):
            yield name


def _container_problems(kind: str, container: Mapping[str, Any]) -> Iterator[str]:
    name = container["name"]
    field = f"spec.template.spec.{kind}[{name}]"
    yield from _list_problems(field, container)
    if kind == "containers" and name != TRAINER:
        yield (
            f"{field}: a second container would keep the Job from ending; "
            "make it a sidecar: an entry of initContainers with restartPolicy: Always"
        )
    elif kind == "initContainers" and name == TRAINER:
        yield f"{field}: {TRAINER} is the training container, which belongs under containers"
    elif name == TRAINER:
        yield from _trainer_problems(field, container)
    if isinstance(container.get("resources"), Mapping):
        yield from _list_problems(f"{field}.resources", container["resources"])
    if any(True for _ in _list_problems(field, container)):
        return
    for port in container.get("ports", ()):  # containers of a pod share its ports
        if port["containerPort"] == PORT or port.get("name") == PORT_NAME:
            advice = f"port {PORT} and the name {PORT_NAME} are the system's: choose another"
            yield f"{field}.ports[{port['containerPort']}]: {advice}"


def _trainer_problems(field: str, container: Mapping[str, Any]) -> Iterator[str]:
    for name, why in OWNED_TRAINER_FIELDS.items():
        if name in container:
            yield f"{field}.{name}: can't be set ({why})"
    resources = container.get("resources")
    if "resources" in container and (not isinstance(resources, Mapping) or resources.keys() != {CLAIMS}):
        yield f"{field}.resources: can't be set (set spec.resources); only {CLAIMS} of ResourceClaims stand here"
    if any(True for _ in _list_problems(field, container)):
        return
    for mount in container.get("volumeMounts", ()):
        if _is_system_path(mount["mountPath"]):
            yield f"{field}.volumeMounts[{mount['mountPath']}]: is a path that the system mounts; mount yours elsewhere"
    for variable in container.get("env", ()):
        if why := _system_variable(variable["name"]):
            yield f"{field}.env[{variable['name']}]: {why}"


def _list_problems(field: str, holder: Mapping[str, Any]) -> Iterator[str]:
    """Find the lists that can't be merged: values that are no list, entries without their key."""
    for name in sorted(LISTS & holder.keys()):
        entries, key = holder[name], MERGE_KEYS.get(name)
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            yield f"{field}.{name}: must be a list of objects"
            continue
        seen: list[Any] = []
        for index, entry in enumerate(entries):
            if "$patch" in entry:
                yield f"{field}.{name}[{index}]: $patch is not supported"
            elif key is None:
                continue
            elif not entry.get(key):
                yield f"{field}.{name}[{index}]: needs {key}, by which entries are merged"
            elif not isinstance(entry[key], kind := int if key == "containerPort" else str):
                yield f"{field}.{name}[{index}].{key}: must be {'a number' if kind is int else 'a text'}"
            elif entry[key] in seen:
                yield f"{field}.{name}[{index}]: {key} {entry[key]!r} is given twice: name each once"
            else:
                seen.append(entry[key])


def _volume_problems(job: FineTuneJob) -> Iterator[str]:
    seen: set[str] = set()
    for volume in job.spec.volumes:
        field = f"spec.volumes[{volume.name}]"
        if volume.name.startswith(SYSTEM_VOLUME_PREFIX):
            yield f"{field}: names that begin with {SYSTEM_VOLUME_PREFIX} are the system's"
        if _is_system_path(volume.mount_path):
            yield f"{field}.mountPath: {volume.mount_path} is a path that the system mounts; mount yours elsewhere"
        if volume.mount_path in seen:
            yield f"{field}.mountPath: another volume is mounted at {volume.mount_path} already"
        seen.add(volume.mount_path)


def _env_problems(job: FineTuneJob) -> Iterator[str]:
    for variable in job.spec.env:
        if why := _system_variable(variable.name):
            yield f"spec.env[{variable.name}]: {why}"


def _system_variable(name: str) -> str:
    """Say why a variable of the training container can't be set, in the API's words; empty where it can."""
    if name in TOKEN_ENV:
        return TOKEN_ENV_ADVICE
    if name == ENDPOINT_ENV:
        return ENDPOINT_ENV_ADVICE
    if name in RESERVED_ENV or name.startswith(RESERVED_ENV_PREFIXES):
        return RESERVED_ENV_ADVICE
    return ""


def _is_system_path(path: str) -> bool:
    """Return whether a mount at `path` would cover a path of the system's, or lie within one. Below /dev only `SYSTEM_DEVICES` count."""
    plain = path.rstrip("/") or "/"
    if plain.startswith("/dev/"):
        return plain in SYSTEM_DEVICES or plain.startswith(tuple(f"{own}/" for own in SYSTEM_DEVICES))
    return any(
        plain == own or plain.startswith(f"{own}/") or own.startswith(f"{plain.rstrip('/')}/")
        for own in RESERVED_MOUNT_PATHS
    )
