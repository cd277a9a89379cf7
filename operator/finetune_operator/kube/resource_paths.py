"""The paths at which the API server serves the kinds that the operator uses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from finetune_operator.api.resource import GROUP, KIND, PLURAL, VERSION


@dataclass(frozen=True)
class Resource:
    """API and plural of a kind."""

    api: str
    plural: str
    namespaced: bool = True


RESOURCES: Mapping[str, Resource] = {
    KIND: Resource(f"apis/{GROUP}/{VERSION}", PLURAL),
    "Job": Resource("apis/batch/v1", "jobs"),
    "Pod": Resource("api/v1", "pods"),
    "ConfigMap": Resource("api/v1", "configmaps"),
    "Service": Resource("api/v1", "services"),
    "PersistentVolumeClaim": Resource("api/v1", "persistentvolumeclaims"),
    "Event": Resource("api/v1", "events"),
    "Lease": Resource("apis/coordination.k8s.io/v1", "leases"),
    "Namespace": Resource("api/v1", "namespaces", namespaced=False),
    "Node": Resource("api/v1", "nodes", namespaced=False),
    "StorageClass": Resource("apis/storage.k8s.io/v1", "storageclasses", namespaced=False),
}

CHILD_KINDS = ("Pod", "Job", "ConfigMap", "Service", "PersistentVolumeClaim")
"""Kinds of objects that a job owns."""


def path_of(kind: str, namespace: str | None, name: str | None = None) -> str:
    """Return the path of an object, or of all objects of the kind (in all namespaces where none is named)."""
    resource = RESOURCES[kind]
    parts = [resource.api]
    if resource.namespaced and namespace is not None:
        parts += ["namespaces", namespace]
    parts.append(resource.plural)
    if name is not None:
        parts.append(quote(name, safe=""))
    return "/".join(parts)
