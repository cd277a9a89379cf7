"""Functions that make the objects of the rows of `operator`, and mend them. Each takes the API and the row's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tests.support.api import Api, ApiFailed, Manifest
from tests.support.jobs import eventually

CLAIM = "PersistentVolumeClaim"
STORAGE_CLASSES = "apis/storage.k8s.io/v1/storageclasses"
FINALIZER = "test.finetune.dev/held"

Act = Callable[[Api, str], None]


def claim(name: str, metadata: Mapping[str, Any] | None = None, **spec: Any) -> Manifest:
    """Return a claim that every node may write to, and that no provisioner looks at."""
    usual = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}
    return {
        "apiVersion": "v1",
        "kind": CLAIM,
        "metadata": {"name": name, **(metadata or {})},
        "spec": usual | spec,
    }


def config_map(name: str, **data: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def _created(make: Callable[[str], Manifest]) -> Act:
    def act(api: Api, name: str) -> None:
        api.create(make(name))

    return act


def _lost(name: str) -> Manifest:
    """Make a claim that was bound to a volume that is gone: the controller calls the claim lost."""
    bound = {"annotations": {"pv.kubernetes.io/bind-completed": "yes"}}
    return claim(name, bound, volumeName=f"{name}-no-more")


def _service(name: str) -> Manifest:
    spec = {"selector": {"app": "somebody"}, "ports": [{"port": 80}]}
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec}


def _being_deleted(api: Api, name: str) -> None:
    api.create(claim(name, {"finalizers": [FINALIZER]}))
    api.delete(CLAIM, name)


def _delete(kind: str) -> Act:
    def act(api: Api, name: str) -> None:
        api.patch(kind, name, {"metadata": {"finalizers": None}})
        try:
            api.delete(kind, name)
        except ApiFailed as error:
            if error.status != 404:  # it went when its finalizer was removed
                raise
        eventually(f"{kind} {name} is gone", lambda: api.get(kind, name) is None)

    return act


def _make_anew(api: Api, name: str) -> None:
    _delete(CLAIM)(api, name)
    api.create(claim(name))


def _create_class(api: Api, name: str) -> None:
    body = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "test.finetune.dev/nobody",
    }
    api.request("POST", STORAGE_CLASSES, body)


def delete_classes(api: Api) -> None:
    """Delete the storage classes: they belong to the cluster, and do not go with the namespace."""
    for item in api.request("GET", STORAGE_CLASSES)["items"]:
        if item["provisioner"] == "test.finetune.dev/nobody":
            api.request("DELETE", f"{STORAGE_CLASSES}/{item['metadata']['name']}")


def _add_key(api: Api, name: str) -> None:
    api.patch("ConfigMap", name, {"data": {"level": "INFO"}})


SETUP: dict[str, Act] = {
    "a_claim": _created(claim),
    "a_claim_of_one_machine": _created(lambda name: claim(name, accessModes=["ReadWriteOnce"])),
    "a_claim_to_read": _created(lambda name: claim(name, accessModes=["ReadOnlyMany"])),
    "a_claim_of_no_class": _created(lambda name: claim(name, storageClassName=name)),
    "a_claim_of_a_lost_volume": _created(_lost),
    "a_claim_being_deleted": _being_deleted,
    "a_block_claim": _created(lambda name: claim(name, volumeMode="Block")),
    "a_claim_of_a_former_job": _created(lambda name: claim(name, {"labels": {"finetune.dev/uid": "a-former-job"}})),
    "a_config_map_of_another_key": _created(lambda name: config_map(name, colour="red")),
    "a_service": _created(_service),
}
MENDED_BY: dict[str, Act] = {
    "create_the_claim": _created(claim),
    "make_the_claim_anew": _make_anew,
    "create_the_storage_class": _create_class,
    "delete_the_other_claim": _delete(CLAIM),
    "delete_the_other_service": _delete("Service"),
    "create_the_config_map": _created(lambda name: config_map(name, level="INFO")),
    "add_the_key": _add_key,
}
