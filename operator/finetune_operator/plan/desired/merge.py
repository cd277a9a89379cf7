"""The merge of a partial pod template into the system's pods: a strategic merge as Kubernetes does it.

Maps are merged by key, lists of named entries by their merge key; a scalar overrides, null removes. Pure;
`template_checks` says what a template may contain.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_operator.api.rules.fields import RESERVED_VOLUME_PREFIX

TRAINER = "trainer"
"""Name of the training container, in pods of all roles."""

PORT_NAME = "metrics"
"""Name of the training container's port."""

SYSTEM_VOLUME_PREFIX = RESERVED_VOLUME_PREFIX
"""Prefix of the names of the system's own volumes."""

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
    """Merge the user's pod template into the system's; both stay as they were. Neither metadata nor spec can be removed."""
    return _merged_map(system, {name: value for name, value in users.items() if value is not None})


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
    additions = {entry[key]: entry for entry in users}
    merged = []
    for entry in system:
        change = additions.pop(entry[key], None)
        if change is None:
            merged.append(entry)
        else:
            merged.append(change if name in WHOLE_ENTRIES else _merged_map(entry, change))
    return [*merged, *additions.values()]


def _merged_tolerations(system: list[Any], users: list[Any]) -> list[Any]:
    """Append the user's tolerations. One for the same taint replaces the system's: of both, the shorter one would count."""
    replaced = {(entry.get("key"), entry.get("effect")) for entry in users}
    return [entry for entry in system if (entry.get("key"), entry.get("effect")) not in replaced] + users
