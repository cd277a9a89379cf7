"""A client of a cluster's API for tests: one request, one dict. Quicker than kubectl, and not the operator's client."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote, urlencode

import yaml

from tests.support.patience import PATIENCE_SECONDS

Manifest = dict[str, Any]

PATHS = {
    "FineTuneJob": "apis/finetune.dev/v1alpha1/{}/finetunejobs",
    "Job": "apis/batch/v1/{}/jobs",
    "Pod": "api/v1/{}/pods",
    "ConfigMap": "api/v1/{}/configmaps",
    "Service": "api/v1/{}/services",
    "PersistentVolumeClaim": "api/v1/{}/persistentvolumeclaims",
    "Event": "api/v1/{}/events",
    "Secret": "api/v1/{}/secrets",
    "ResourceQuota": "api/v1/{}/resourcequotas",
}


class ApiFailed(Exception):
    """An error that the API server answered a request with."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    """The API server of a kubeconfig, in one namespace."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        current = next(
            context["context"] for context in config["contexts"] if context["name"] == config["current-context"]
        )
        cluster = next(
            cluster_entry["cluster"]
            for cluster_entry in config["clusters"]
            if cluster_entry["name"] == current["cluster"]
        )
        user = next(user_entry["user"] for user_entry in config["users"] if user_entry["name"] == current["user"])
        self.server: str = cluster["server"]
        self.token: str = user["token"]
        self.authority: str = cluster["certificate-authority"]
        self.namespace = namespace
        self._context = ssl.create_default_context(cafile=self.authority)

    def request(
        self, method: str, path: str, body: Manifest | None = None, content_type: str = "application/json"
    ) -> Manifest:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": content_type}
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.server}/{path}", data, headers, method=method)  # noqa: S310
        try:
            with urllib.request.urlopen(request, context=self._context, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310
                return cast(Manifest, json.load(answer))
        except urllib.error.HTTPError as error:
            raise ApiFailed(error.code, error.read().decode(errors="replace")) from error

    def create(self, manifest: Manifest) -> Manifest:
        return self.request("POST", self.path(manifest["kind"]), manifest)

    def get(self, kind: str, name: str) -> Manifest | None:
        try:
            return self.request("GET", self.path(kind, name))
        except ApiFailed as error:
            if error.status == 404:
                return None
            raise

    def list(self, kind: str, **query: str) -> list[Manifest]:
        items: list[Manifest] = self.request("GET", f"{self.path(kind)}?{urlencode(query)}")["items"]
        return items

    def patch(self, kind: str, name: str, change: Manifest, subresource: str = "") -> Manifest:
        path = self.path(kind, name) + (f"/{subresource}" if subresource else "")
        return self.request("PATCH", path, change, "application/merge-patch+json")

    def delete(self, kind: str, name: str, **options: Any) -> None:
        self.request("DELETE", self.path(kind, name), {"propagationPolicy": "Background", **options})

    def path(self, kind: str, name: str | None = None) -> str:
        collection = PATHS[kind].format(f"namespaces/{self.namespace}")
        return f"{collection}/{quote(name)}" if name else collection
