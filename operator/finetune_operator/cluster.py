"""The API server, as plain dicts: the only module that imports the kubernetes client.

The client's transport and credentials are used, its model classes are not: they would take 100 MiB. Requests that may
succeed when repeated are repeated here a few times; every other answer becomes an exception of `exceptions`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import quote, urlencode

import aiohttp

from finetune_operator.api.resource import GROUP, KIND, LABEL_JOB, PLURAL, VERSION
from finetune_operator.exceptions import ApiError, Conflict, NotFound, Refused, Unavailable
from finetune_operator.plan.types import Manifest, PodEvent, Ref

if TYPE_CHECKING:
    from kubernetes.aio.client.api_client import ApiClient
    from kubernetes.aio.client.configuration import Configuration

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=5)
RETRY_DELAYS_SECONDS = (0.1, 0.5, 1.5)
KEEPALIVE_SECONDS = 75
"""Longer than aiohttp's 15 s: a new connection costs a TLS handshake before a job's first object is made."""
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


@dataclass(frozen=True)
class Resource:
    """Where a kind is served."""

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
    "Node": Resource("api/v1", "nodes", namespaced=False),
    "StorageClass": Resource("apis/storage.k8s.io/v1", "storageclasses", namespaced=False),
}

CHILD_KINDS = ("Pod", "Job", "ConfigMap", "Service", "PersistentVolumeClaim")


@dataclass(frozen=True)
class Connection:
    """How to reach the API server, for another client."""

    server: str
    authorization: str | None
    ca_path: str | None
    certificate_path: str | None
    private_key_path: str | None
    verify: bool
    proxy: str | None


class Cluster:
    """One API server."""

    def __init__(self, kubeconfig: Path | None = None) -> None:
        self._kubeconfig = kubeconfig
        self._client: ApiClient | None = None
        self._connector: aiohttp.TCPConnector | None = None

    @property
    def inside(self) -> bool:
        """Whether this process runs in a pod of the cluster."""
        return self._kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ

    async def connect(self) -> Connection:
        """Read the credentials (again): a kubeconfig's plugin may have issued new ones."""
        from kubernetes.aio.client.api_client import ApiClient

        configuration = await _configuration(self._kubeconfig, inside=self.inside)
        client = ApiClient(configuration)
        client.user_agent = "finetune-operator"
        connector = aiohttp.TCPConnector(
            ssl=client.rest_client.ssl_context, limit=100, keepalive_timeout=KEEPALIVE_SECONDS
        )
        configuration.client_session_kwargs = {"connector": connector}
        await self.close()
        self._client, self._connector = client, connector
        return Connection(
            server=configuration.host,
            authorization=await configuration.get_api_key_with_prefix("BearerToken", alias="authorization"),
            ca_path=configuration.ssl_ca_cert,
            certificate_path=configuration.cert_file,
            private_key_path=configuration.key_file,
            verify=configuration.verify_ssl,
            proxy=configuration.proxy,
        )

    async def close(self) -> None:
        if self._client is not None:
            await self._client.close()
        if self._connector is not None:
            await self._connector.close()

    # --- objects -------------------------------------------------------------------------------------------------

    async def get(self, kind: str, namespace: str, name: str) -> Manifest:
        return {"kind": kind, **await self._json("GET", _path(kind, namespace, name))}

    async def create(self, namespace: str, manifest: Manifest) -> Manifest:
        kind: str = manifest["kind"]
        return {"kind": kind, **await self._json("POST", _path(kind, namespace), body=manifest)}

    async def children(self, namespace: str, job: str) -> list[Manifest]:
        """Every object that carries the job's label, read from the store of record, not from a cache."""
        lists = await asyncio.gather(*(self._list(kind, namespace, f"{LABEL_JOB}={job}") for kind in CHILD_KINDS))
        return [item for items in lists for item in items]

    async def metadata(self, kind: str, namespace: str | None, label_selector: str | None) -> list[Manifest]:
        """The metadata of all objects of a kind, in one namespace or in the cluster."""
        return await self._list(kind, namespace, label_selector, accept=METADATA_LIST)

    async def replace_status(self, body: Manifest, status: Manifest) -> Manifest:
        """PUT the whole status of a FineTuneJob; Conflict where `body` is not its present state."""
        metadata = {key: body["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
        manifest = {
            "apiVersion": body["apiVersion"],
            "kind": KIND,
            "metadata": metadata,
            "spec": body["spec"],
            "status": status,
        }
        path = _path(KIND, metadata["namespace"], metadata["name"]) + "/status"
        return {"kind": KIND, **await self._json("PUT", path, body=manifest)}

    async def suspend_job(self, namespace: str, name: str) -> Manifest:
        patch = {"spec": {"suspend": True}}
        path = _path("Job", namespace, name)
        return {
            "kind": "Job",
            **await self._json("PATCH", path, body=patch, content_type="application/merge-patch+json"),
        }

    async def delete(self, ref: Ref, namespace: str, uid: str, grace_period_seconds: int | None) -> None:
        options: Manifest = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        await self._json("DELETE", _path(ref.kind, namespace, ref.name), body=options)

    async def warnings(self, namespace: str, uid: str) -> tuple[PodEvent, ...]:
        """Warning events about the object with this uid, oldest first."""
        selector = f"involvedObject.uid={uid},type=Warning"
        items = (await self._json("GET", _path("Event", namespace), query={"fieldSelector": selector}))["items"]
        items.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        return tuple(
            PodEvent(event.get("reason", ""), event.get("message", ""), event.get("count") or 1) for event in items
        )

    async def pod_proxy(self, namespace: str, pod: str, port: int, path: str) -> bytes:
        """GET a path of a pod's port through the API server. Not repeated: it is the pod that does not answer."""
        _, data = await self._send(
            "GET", f"{_path('Pod', namespace, pod)}:{port}/proxy/{path}", limit=aiohttp.ClientTimeout(total=2)
        )
        return data

    async def _list(
        self, kind: str, namespace: str | None, label_selector: str | None, accept: str | None = None
    ) -> list[Manifest]:
        query = {"labelSelector": label_selector} if label_selector else {}
        answer = await self._json("GET", _path(kind, namespace), query=query, accept=accept)
        return [{"kind": kind, **item} if "kind" not in item or accept else item for item in answer.get("items") or ()]

    # --- requests ------------------------------------------------------------------------------------------------

    async def _json(
        self,
        method: str,
        path: str,
        *,
        body: Manifest | None = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        accept: str | None = None,
    ) -> Manifest:
        """One request, repeated where the server could not answer it."""
        headers = {"Content-Type": content_type, "Accept": accept or "application/json"}
        target = f"{path}?{urlencode(query)}" if query else path
        delays = iter(RETRY_DELAYS_SECONDS)
        while True:
            try:
                _, data = await self._send(method, target, body=body, headers=headers)
            except Unavailable as error:
                delay = next(delays, None)
                if delay is None:
                    raise
                await asyncio.sleep(max(delay, min(error.retry_after_seconds or 0, 5)) * random.uniform(0.8, 1.2))
            else:
                return cast(Manifest, json.loads(data))

    async def _send(
        self,
        method: str,
        target: str,
        *,
        body: Manifest | None = None,
        headers: Mapping[str, str] | None = None,
        limit: aiohttp.ClientTimeout = REQUEST_TIMEOUT,
    ) -> tuple[int, bytes]:
        """One request, once (twice where the credentials have run out)."""
        for renewed in (False, True):
            client = self._client
            if client is None:
                await self.connect()
                client = cast("ApiClient", self._client)
            try:
                status, retry_after, data = await _exchange(client, method, target, body, dict(headers or {}), limit)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise Unavailable(0, type(error).__name__, str(error) or "no answer from the API server") from error
            if status == 401 and not renewed:
                await self.connect()
                continue
            break
        if status < 300:
            return status, data
        raise _error(status, data, retry_after)


async def _exchange(
    client: ApiClient,
    method: str,
    target: str,
    body: Manifest | None,
    headers: dict[str, str],
    limit: aiohttp.ClientTimeout,
) -> tuple[int, float | None, bytes]:
    auth = await client.configuration.auth_settings()
    headers |= {"User-Agent": client.user_agent}
    if "BearerToken" in auth:
        headers["Authorization"] = auth["BearerToken"]["value"]
    url = f"{client.configuration.host}/{target}"
    response = await client.rest_client.request(method, url, headers=headers, body=body, _request_timeout=limit)
    data: bytes = await response.read()
    retry_after = response.getheader("Retry-After")
    return response.status, float(retry_after) if retry_after and retry_after.isdigit() else None, data


async def _configuration(kubeconfig: Path | None, *, inside: bool) -> Configuration:
    from kubernetes.aio.client.configuration import Configuration
    from kubernetes.aio.config.incluster_config import load_incluster_config
    from kubernetes.aio.config.kube_config import load_kube_config

    configuration = Configuration()
    if inside:
        load_incluster_config(client_configuration=configuration)
    else:
        await load_kube_config(
            config_file=str(kubeconfig) if kubeconfig else None,
            client_configuration=configuration,
            persist_config=False,
        )
    return configuration


def _path(kind: str, namespace: str | None, name: str | None = None) -> str:
    resource = RESOURCES[kind]
    parts = [resource.api]
    if resource.namespaced and namespace is not None:
        parts += ["namespaces", namespace]
    parts.append(resource.plural)
    if name is not None:
        parts.append(quote(name, safe=""))
    return "/".join(parts)


def _error(status: int, data: bytes, retry_after_seconds: float | None) -> ApiError:
    try:
        answer: Any = json.loads(data)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        answer = {}
    reason = str(answer.get("reason") or "Unknown")
    message = str(answer.get("message") or data[:500].decode(errors="replace"))
    if status == 404:
        return NotFound(status, reason, message)
    if status == 409:
        return Conflict(status, reason, message)
    if status == 429 or status >= 500:
        return Unavailable(status, reason, message, retry_after_seconds)
    return Refused(status, reason, message)
