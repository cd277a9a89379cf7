"""The user's partial pod template: what it may say, and how it is merged into the system's pods.

A strategic merge as Kubernetes does it: maps by key, named lists by their merge key, scalars override, null removes.
Pure; knows the names that the system keeps for itself, nothing of how the rest of a pod comes about.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from finetune_operator.api.resource import GROUP, FineTuneJob

TRAINER = "trainer"
"""Name of the training container, in pods of all roles."""

SYSTEM_VOLUME_PREFIX = "finetune-"
SYSTEM_PATHS = ("/output", "/etc/finetune", "/var/run/finetune", "/tmp", "/dev/shm", "/dev/termination-log")
SYSTEM_PORT = 8080
SYSTEM_PORT_NAME = "metrics"
SYSTEM_ENV_PREFIX = "FINETUNE_"
SYSTEM_ENV = ("JOB_COMPLETION_INDEX",)

MERGE_KEYS: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "schedulingGates": "name",
    "resourceClaims": "name",
    "hostAliases": "ip",
    "topologySpreadConstraints": "topologyKey",
    "env": "name",
    "volumeMounts": "mountPath",
    "volumeDevices": "devicePath",
    "ports": "containerPort",
}
"""Lists of a pod template that are merged entry by entry, and the key that tells entries apart."""

WHOLE_ENTRIES = frozenset({"volumes", "env"})
"""Lists whose entries replace one another: a volume has one source, a variable one value."""

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
    "resources": "set spec.resources",
    "restartPolicy": "a fallen pod is replaced together with its gang",
    "terminationMessagePath": "the result record is written there",
    "terminationMessagePolicy": "the result record is written there",
}
LISTS = frozenset({*MERGE_KEYS, "tolerations", "readinessGates"})
OWNED_LABELS = (f"{GROUP}/", "batch.kubernetes.io/", "job-name", "controller-uid")


def merge_template(system: dict[str, Any], users: Mapping[str, Any]) -> dict[str, Any]:
    """The system's pod template with the user's merged in; both stay as they were."""
    return _merged_map(system, users)


def template_problems(job: FineTuneJob) -> tuple[str, ...]:
    """What in `spec.template`, `spec.volumes` and `spec.env` cannot be done, each named by field with the way out."""
    return (*_volume_problems(job), *_env_problems(job), *_template_problems(job.spec.template))


def partial_template_problems(template: Mapping[str, Any]) -> tuple[str, ...]:
    """What in a partial pod template cannot be done, whoever wrote it; the fields are named as a job's are."""
    return tuple(_template_problems(template))


# --- merge -------------------------------------------------------------------------------------------------------


def _merged_map(system: Mapping[str, Any], users: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(system)
    for key, value in users.items():
        if value is None:
            merged.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(merged.get(key), Mapping):
            merged[key] = _merged_map(merged[key], value)
        elif isinstance(value, list) and isinstance(merged.get(key), list):
            merged[key] = _merged_list(key, merged[key], value)
        else:
            merged[key] = value
    return merged


def _merged_list(name: str, system: list[Any], users: list[Any]) -> list[Any]:
    if name == "tolerations":
        return _merged_tolerations(system, users)
    key = MERGE_KEYS.get(name)
    if key is None:
        return users
    given = {entry[key]: entry for entry in users}
    merged = []
    for entry in system:
        change = given.pop(entry[key], None)
        if change is None:
            merged.append(entry)
        else:
            merged.append(change if name in WHOLE_ENTRIES else _merged_map(entry, change))
    return [*merged, *given.values()]


def _merged_tolerations(system: list[Any], users: list[Any]) -> list[Any]:
    """Appended; one of the user's for the same taint replaces the system's, because the shortest one would count."""
    given = {(entry.get("key"), entry.get("effect")) for entry in users}
    return [entry for entry in system if (entry.get("key"), entry.get("effect")) not in given] + users


# --- problems ----------------------------------------------------------------------------------------------------


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
    for kind in ("containers", "initContainers"):
        for container in spec.get(kind, ()):
            yield from _container_problems(kind, container)


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


def _trainer_problems(field: str, container: Mapping[str, Any]) -> Iterator[str]:
    for name, why in OWNED_TRAINER_FIELDS.items():
        if name in container:
            yield f"{field}.{name}: can't be set ({why})"
    if any(True for _ in _list_problems(field, container)):
        return
    for port in container.get("ports", ()):
        if port["containerPort"] == SYSTEM_PORT or port.get("name") == SYSTEM_PORT_NAME:
            own = f"port {SYSTEM_PORT} and the name {SYSTEM_PORT_NAME} are the system's"
            yield f"{field}.ports[{port['containerPort']}]: {own}"
    for mount in container.get("volumeMounts", ()):
        if _is_system_path(mount["mountPath"]):
            yield f"{field}.volumeMounts[{mount['mountPath']}]: the system mounts a volume there; mount yours elsewhere"
    for variable in container.get("env", ()):
        if _is_system_variable(variable["name"]):
            yield f"{field}.env[{variable['name']}]: the system sets it"


def _list_problems(field: str, holder: Mapping[str, Any]) -> Iterator[str]:
    """Lists that are none, entries without their key: what the merge could not work on."""
    for name in sorted(LISTS & holder.keys()):
        entries, key = holder[name], MERGE_KEYS.get(name)
        if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
            yield f"{field}.{name}: must be a list of objects"
            continue
        for index, entry in enumerate(entries):
            if "$patch" in entry:
                yield f"{field}.{name}[{index}]: $patch is not supported"
            elif key is not None and not entry.get(key):
                yield f"{field}.{name}[{index}]: needs {key}, by which entries are merged"
            elif key == "name" and not isinstance(entry["name"], str):
                yield f"{field}.{name}[{index}].name: must be a text"


def _volume_problems(job: FineTuneJob) -> Iterator[str]:
    seen: set[str] = set()
    for volume in job.spec.volumes:
        field = f"spec.volumes[{volume.name}]"
        if volume.name.startswith(SYSTEM_VOLUME_PREFIX):
            yield f"{field}: names that begin with {SYSTEM_VOLUME_PREFIX} are the system's"
        if _is_system_path(volume.mount_path):
            yield f"{field}.mountPath: the system mounts a volume at {volume.mount_path}; mount yours elsewhere"
        if volume.mount_path in seen:
            yield f"{field}.mountPath: another volume is mounted at {volume.mount_path} already"
        seen.add(volume.mount_path)


def _env_problems(job: FineTuneJob) -> Iterator[str]:
    for variable in job.spec.env:
        if _is_system_variable(variable.name):
            yield f"spec.env[{variable.name}]: the system sets it"


def _is_system_variable(name: str) -> bool:
    return name.startswith(SYSTEM_ENV_PREFIX) or name in SYSTEM_ENV


def _is_system_path(path: str) -> bool:
    """Whether a mount at `path` would cover one of the system's, or lie within one that is not the user's to fill."""
    plain = path.rstrip("/") or "/"
    return any(plain == own or own.startswith(f"{plain.rstrip('/')}/") for own in SYSTEM_PATHS)
