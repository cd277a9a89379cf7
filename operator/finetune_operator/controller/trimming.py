"""The part of an object that the cache keeps: what decisions read, with every text cut to a sane length. Pure."""

from __future__ import annotations

from typing import Any

from finetune_operator.plan import untrusted
from finetune_operator.plan.types import Manifest

METADATA = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")
DELETION = ("deletionTimestamp", "deletionGracePeriodSeconds")
OWN_PREFIXES = ("finetune.dev/", "batch.kubernetes.io/")
STATUS = ("phase", "reason", "message", "podIP", "podIPs", "startTime", "capacity", "accessModes")
CONDITION = ("type", "status", "reason", "message", "lastTransitionTime")
CONTAINER = ("name", "image", "imageID", "restartCount", "state", "lastState")
TEXT_MAX = 1024
RECORD_MAX = 4096
"""Characters of a termination message that are kept: it may be a result record."""


def trimmed(item: Manifest) -> Manifest:
    """Return an object that a job names, or the job itself, without what no decision reads. ConfigMaps keep their keys alone."""
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    item = {**item, "metadata": metadata}
    if item["kind"] == "ConfigMap":
        for part in ("data", "binaryData"):
            if item.get(part):
                item[part] = dict.fromkeys(item[part], "")
    return item


def trimmed_child(item: Manifest) -> Manifest:
    """Return what decisions read of a job's child, or of another object at a child's name."""
    kind: str = item["kind"]
    return {
        "kind": kind,
        "metadata": _metadata(item["metadata"]),
        "spec": _spec(kind, untrusted.mapping(item.get("spec"))),
        "status": _status(untrusted.mapping(item.get("status"))),
    }


def _metadata(metadata: Manifest) -> Manifest:
    kept = _some(metadata, (*METADATA, *DELETION))
    for part in ("labels", "annotations"):
        values = untrusted.mapping(metadata.get(part))
        kept[part] = {key: _cut(value) for key, value in values.items() if str(key).startswith(OWN_PREFIXES)}
    owners = untrusted.mappings(metadata.get("ownerReferences"))
    kept["ownerReferences"] = [
        _some(owner, ("kind", "name", "uid", "controller")) for owner in owners if owner.get("controller") is True
    ]
    return kept


def _spec(kind: str, spec: Manifest) -> Manifest:
    if kind == "Pod":
        containers = [
            _some(container, ("name", "image", "resources")) for container in untrusted.mappings(spec.get("containers"))
        ]
        return {**_some(spec, ("nodeName",)), "containers": containers}
    if kind == "Job":
        return _some(spec, ("suspend",))
    return (
        _some(spec, ("accessModes", "storageClassName", "volumeMode", "volumeName"))
        if kind == "PersistentVolumeClaim"
        else {}
    )


def _status(status: Manifest) -> Manifest:
    kept = _some(status, STATUS)
    if "conditions" in status:
        kept["conditions"] = [_some(condition, CONDITION) for condition in untrusted.mappings(status["conditions"])]
    for part in ("containerStatuses", "initContainerStatuses"):
        if part in status:
            kept[part] = [_container(container) for container in untrusted.mappings(status[part])]
    return kept


def _container(status: Manifest) -> Manifest:
    kept = _some(status, CONTAINER)
    for part in ("state", "lastState"):
        states = untrusted.mapping(status.get(part))
        kept[part] = {
            name: _some(untrusted.mapping(state), None, RECORD_MAX)
            for name, state in states.items()
            if state is not None
        }
    return kept


def _some(values: Manifest, names: tuple[str, ...] | None, limit: int = TEXT_MAX) -> Manifest:
    return {name: _cut(value, limit) for name, value in values.items() if names is None or name in names}


def _cut(value: Any, limit: int = TEXT_MAX) -> Any:
    """Cut texts, lists and mappings to lengths that no honest object exceeds."""
    if isinstance(value, str):
        return value[:limit]
    if isinstance(value, dict):
        return {str(key)[:limit]: _cut(item, limit) for key, item in list(value.items())[: untrusted.ITEMS_MAX]}
    if isinstance(value, list):
        return [_cut(item, limit) for item in value[: untrusted.ITEMS_MAX]]
    return value
