"""How a partial pod template is merged into the system's pods: a strategic merge as Kubernetes does it.

Maps by key, named lists by their merge key, scalars override, null removes. Pure; what a template may say is in
`template_checks`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_operator.api.rules.fields import RESERVED_VOLUME_PREFIX

TRAINER = "trainer"
"""Name of the training container, in pods of all roles."""

PORT_NAME = "metrics"
"""Name of its port."""

SYSTEM_VOLUME_PREFIX = RESERVED_VOLUME_PREFIX
"""What the names of the system's own volumes begin with."""

MERGE_KEYS: Mapping[str, str] = {
    "containers": "name",
    "initContainers": "name",
    "volumes": "name",
    "imagePullSecrets": "name",
    "schedulingGates": "name",
    "resourceClaims": "name",
    "claims": "name",
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

APPENDED = frozenset({"envFrom"})
"""Lists without a merge key to which the user's entries are added: replaced, the system's own would be lost."""

LISTS = frozenset({*MERGE_KEYS, *APPENDED, "tolerations", "readinessGates"})


def merge_template(system: dict[str, Any], users: Mapping[str, Any]) -> dict[str, Any]:
    """The system's pod template with the user's merged in; both stay as they were. A whole half can't be removed."""
    return _merged_map(system, {half: value for half, value in users.items() if value is not None})


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
    if name in APPENDED:
        return [*system, *users]
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
