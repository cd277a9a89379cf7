"""A client of the API server that speaks plain dicts. This is the only module that imports the kubernetes client.

It uses the client's transport and credentials, but not its model classes, which would take 100 MiB. Requests that may succeed
when they are repeated are repeated here a few times; every other answer becomes an exception of `exceptions`.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast
from urllib.parse import urlencode, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp

from finetune_operator.api.resource import KIND, LABEL_JOB
from finetune_operator.kube.exceptions import ApiError, NotFound, Refused, Unavailable
from finetune_operator.kube.resource_paths import CHILD_KINDS, path_of
from finetune_operator.kube.responses import Answer, error_of
from finetune_operator.plan.types import Manifest, PodEvent, Ref

if TYPE_CHECKING:
    from kubernetes.aio.client.configuration import Configuration

REQUEST_TIMEOUT = aiohttp.ClientTimeout(total=30, connect=5)
CREATE_TIMEOUT = aiohttp.ClientTimeout(total=65, connect=5)
"""The API server gives up after 60 s; before that it may wait for an admission webhook."""
RETRY_DELAYS_SECONDS = (0.1, 0.5, 1.5)
RETRY_WITHIN_SECONDS = 3.0
"""A request that took longer to fail is not repeated here: its caller has waited long enough."""
USER_AGENT = "finetune-operator"
PAGE = 500
"""Objects in one answer to a list of everything: the memory of the operator must not depend on the cluster's size."""
KEEPALIVE_SECONDS = 75
"""Time that an idle connection stays open; with aiohttp's 15 s a job's first object would often wait for a TLS handshake."""
STRICT = {"fieldValidation": "Strict"}
"""Query by which the server refuses a field of a job's template that it does not know, by name, and does not drop it."""
METADATA_LIST = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"


@dataclass(frozen=True)
class Connection:
    """Address and credentials of the API server, for another client."""

    server: str
    authorization: str | None
    ca_path: str | None
    certificate_path: str | None
    private_key_path: str | None
    verify: bool
    proxy: str | None


class Session:
    """The client's transport with one set of credentials."""

    def __init__(self, configuration: Configuration) -> None:
        from kubernetes.aio.client.api_client import ApiClient

        self._client = ApiClient(configuration)
        context = self._client.rest_client.ssl_context
        self._connector = aiohttp.TCPConnector(ssl=context, limit=0, keepalive_timeout=KEEPALIVE_SECONDS)
        # Callers bound the number of requests, so connections have no bound: a few slow ones must not hold up the
        # others. The environment was asked for a proxy once: aiohttp would ask it at each request, in a thread.
        # Answers of pods come this way too, so nothing is decompressed: an answer could become a thousand times as
        # long.
        self._http = aiohttp.ClientSession(
            connector=self._connector, connector_owner=False, trust_env=False, auto_decompress=False
        )

    async def exchange(
        self,
        method: str,
        target: str,
        body: Manifest | None,
        headers: Mapping[str, str],
        timeouts: aiohttp.ClientTimeout,
        max_bytes: int | None = None,
    ) -> Answer:
        """Send one request. Raise Unavailable where there is no answer, or one of more than `max_bytes`.

        No redirect is followed: the credentials are for this server alone.
        """
        configuration = self._client.configuration
        auth = await configuration.auth_settings()
        token = {"Authorization": auth["BearerToken"]["value"]} if "BearerToken" in auth else {}
        try:
            async with self._http.request(
                method,
                f"{configuration.host}/{target}",
                headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity", **headers, **token},
                data=json.dumps(body) if body is not None else None,
                timeout=timeouts,
                allow_redirects=False,
                proxy=configuration.proxy,
                proxy_headers=configuration.proxy_headers,
                server_hostname=configuration.tls_server_name,
            ) as response:
                data = await read_bounded(response, max_bytes)
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            text = str(error) or "no answer from the API server"
            raise Unavailable(0, type(error).__name__, text) from error
        if data is None:
            raise Unavailable(0, "TooLong", f"an answer of more than {max_bytes} bytes")
        retry_after = response.headers.get("Retry-After", "")
        seconds = float(retry_after) if retry_after.isascii() and retry_after.isdigit() else None
        return Answer(response.status, data, seconds)

    async def close(self) -> None:
        await self._http.close()
        await self._client.close()
        await self._connector.close()


async def read_bounded(response: aiohttp.ClientResponse, max_bytes: int | None) -> bytes | None:
    """Return the body, or None where it is longer than allowed: then the rest is not read, to save the operator's memory."""
    if max_bytes is None:
        return await response.read()
    data = bytearray()
    async for chunk in response.content.iter_chunked(2**14):
        data += chunk
        if len(data) > max_bytes:
            response.close()
            return None
    return bytes(data)


class Cluster:
    """A client of one API server."""

    def __init__(self, kubeconfig: Path | None = None) -> None:
        self._kubeconfig = kubeconfig
        self._session: Session | None = None
        self._retired: Session | None = None
        self._renewing = asyncio.Lock()

    @property
    def inside(self) -> bool:
        """Whether this process runs in a pod of the cluster."""
        return self._kubeconfig is None and "KUBERNETES_SERVICE_HOST" in os.environ

    async def connection(self) -> Connection:
        """Return the present credentials for another client: a kubeconfig's plugin may have issued new ones."""
        configuration = await _configuration(self._kubeconfig, inside=self.inside)
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
        for session in (self._session, self._retired):
            if session is not None:
                await session.close()

    async def _renewed(self, failed: Session | None) -> Session:
        """Return a session with fresh credentials in place of one that failed; callers at the same time share it.

        The old one is closed at the next renewal, because others may still wait for an answer on it.
        """
        async with self._renewing:
            if self._session is not None and self._session is not failed:
                return self._session
            fresh = Session(await _configuration(self._kubeconfig, inside=self.inside))
            if self._retired is not None:
                await self._retired.close()
            self._retired, self._session = self._session, fresh
            return fresh

    async def reconnect(self) -> None:
        """Leave the present connections: the next request begins on a new one."""
        if self._session is not None:
            await self._renewed(self._session)

    # --- objects -------------------------------------------------------------------------------------------------

    async def get(self, kind: str, namespace: str, name: str) -> Manifest:
        return {"kind": kind, **await self._json("GET", path_of(kind, namespace, name))}

    async def create(self, namespace: str, manifest: Manifest) -> Manifest:
        kind: str = manifest["kind"]
        return {"kind": kind, **await self._json("POST", path_of(kind, namespace), body=manifest, query=STRICT)}

    async def create_once(self, namespace: str, manifest: Manifest) -> Manifest:
        """Create an object without repeating a request that the server could not answer: the caller reports that and tries again."""
        kind: str = manifest["kind"]
        post = partial(self._json, "POST", path_of(kind, namespace), body=manifest, query=STRICT, delays=())
        try:
            created = await post(timeouts=CREATE_TIMEOUT)
        except Unavailable as error:
            if error.reason != aiohttp.ServerDisconnectedError.__name__:
                raise
            created = await post(timeouts=CREATE_TIMEOUT)  # the connection was closed while it was idle
        return {"kind": kind, **created}

    async def replace(self, namespace: str, manifest: Manifest) -> Manifest:
        """PUT an object that was read; raise Conflict where it has changed since."""
        kind: str = manifest["kind"]
        path = path_of(kind, namespace, manifest["metadata"]["name"])
        return {"kind": kind, **await self._json("PUT", path, body=manifest)}

    async def children(self, namespace: str, job: str) -> list[Manifest]:
        """List every object that carries the job's label, from the API server and not from a cache."""
        query = {"labelSelector": f"{LABEL_JOB}={job}"}
        answers = await asyncio.gather(
            *(self._json("GET", path_of(kind, namespace), query=query) for kind in CHILD_KINDS)
        )
        lists = zip(CHILD_KINDS, answers, strict=True)
        return [{"kind": kind, **item} for kind, answer in lists for item in answer["items"] or ()]

    async def serves(self, group_version: str, plural: str) -> bool:
        """Return whether the API server serves this kind, whether or not we may read it."""
        try:
            answer = await self._json("GET", f"apis/{group_version}")
        except NotFound:
            return False
        return any(resource["name"] == plural for resource in answer.get("resources") or ())

    async def openapi(self, group_version: str) -> Manifest:
        """Return the API server's own description of a group and version; it is empty where the server shows none."""
        try:
            return await self._json("GET", f"openapi/v3/apis/{group_version}")
        except (NotFound, Refused):
            return {}

    async def versions(self, kind: str, namespace: str | None, label_selector: str | None) -> dict[str, str]:
        """Return the resourceVersions, by uid, of all objects of a kind with a label, in one namespace or in the cluster."""
        pages = self.pages(kind, namespace, label_selector, accept=METADATA_LIST)
        return {item["metadata"]["uid"]: item["metadata"]["resourceVersion"] async for page in pages for item in page}

    async def pages(
        self, kind: str, namespace: str | None, label_selector: str | None, accept: str | None = None
    ) -> AsyncIterator[list[Manifest]]:
        """Yield all objects of a kind with a label, in one namespace or in the cluster, a page at a time."""
        query = {"limit": str(PAGE), **({"labelSelector": label_selector} if label_selector else {})}
        while True:
            page = await self._json("GET", path_of(kind, namespace), query=query, accept=accept)
            yield [{**item, "kind": kind} for item in page["items"] or ()]
            if not (more := page["metadata"].get("continue")):
                return
            query["continue"] = more

    async def replace_status(self, body: Manifest, status: Manifest) -> Manifest:
        """PUT the whole status of a FineTuneJob; raise Conflict where `body` is not its present state."""
        metadata = {key: body["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
        manifest = {
            "apiVersion": body["apiVersion"],
            "kind": KIND,
            "metadata": metadata,
            "spec": body["spec"],
            "status": status,
        }
        path = path_of(KIND, metadata["namespace"], metadata["name"]) + "/status"
        return {"kind": KIND, **await self._json("PUT", path, body=manifest)}

    async def suspend_job(self, namespace: str, name: str) -> Manifest:
        patch = {"spec": {"suspend": True}}
        path = path_of("Job", namespace, name)
        return {
            "kind": "Job",
            **await self._json("PATCH", path, body=patch, content_type="application/merge-patch+json"),
        }

    async def delete(self, ref: Ref, namespace: str, uid: str, grace_period_seconds: int | None) -> None:
        options: Manifest = {"propagationPolicy": "Background", "preconditions": {"uid": uid}}
        if grace_period_seconds is not None:
            options["gracePeriodSeconds"] = grace_period_seconds
        await self._json("DELETE", path_of(ref.kind, namespace, ref.name), body=options)

    async def warnings(self, namespace: str, uid: str) -> tuple[PodEvent, ...]:
        """Return the Warning events about the object with this uid, oldest first."""
        selector = f"involvedObject.uid={uid},type=Warning"
        answer = await self._json("GET", path_of("Event", namespace), query={"fieldSelector": selector})
        items = answer["items"] or []
        items.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
        return tuple(
            PodEvent(event.get("reason", ""), event.get("message", ""), event.get("count") or 1) for event in items
        )

    async def pod_proxy(self, namespace: str, pod: str, port: int, path: str, max_bytes: int) -> bytes:
        """GET a path of a pod's port through the API server. It is sent once, because it is the pod that does not answer."""
        target = f"{path_of('Pod', namespace, pod)}:{port}/proxy/{path}"
        return await self._send("GET", target, timeouts=aiohttp.ClientTimeout(total=2), max_bytes=max_bytes)

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
        delays: Sequence[float] | None = None,
        timeouts: aiohttp.ClientTimeout = REQUEST_TIMEOUT,
    ) -> Manifest:
        """Send a request, and repeat it where the server could not answer. An error carries a note of the request."""
        headers = {"Content-Type": content_type, "Accept": accept or "application/json"}
        target = f"{path}?{urlencode(query)}" if query else path
        begun, pauses = time.monotonic(), iter(RETRY_DELAYS_SECONDS if delays is None else delays)
        while True:
            try:
                data = await self._send(method, target, body=body, headers=headers, timeouts=timeouts)
            except ApiError as error:
                pause = next(pauses, None)
                late = time.monotonic() - begun > RETRY_WITHIN_SECONDS
                if not isinstance(error, Unavailable) or pause is None or late:
                    error.add_note(f"{method} {path}")
                    raise
                await asyncio.sleep(max(pause, min(error.retry_after_seconds or 0, 5)) * random.uniform(0.8, 1.2))
            else:
                return cast(Manifest, json.loads(data))

    async def _send(
        self,
        method: str,
        target: str,
        *,
        body: Manifest | None = None,
        headers: Mapping[str, str] | None = None,
        timeouts: aiohttp.ClientTimeout = REQUEST_TIMEOUT,
        max_bytes: int | None = None,
    ) -> bytes:
        """Send a request once, or twice where the credentials have expired."""
        session = self._session or await self._renewed(None)
        answer = await session.exchange(method, target, body, headers or {}, timeouts, max_bytes)
        if answer.status == 401 and max_bytes is None:  # a pod may answer 401 too, to make us log in again and again
            session = await self._renewed(session)
            answer = await session.exchange(method, target, body, headers or {}, timeouts)
        if answer.status >= 300:
            raise error_of(answer)
        return answer.data


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
    configuration.proxy = configuration.proxy or _proxy_of_environment(configuration.host)
    return configuration


def _proxy_of_environment(server: str) -> str | None:
    """Return the proxy of HTTPS_PROXY and similar variables, where NO_PROXY does not except the server."""
    address = urlsplit(server)
    if address.hostname is None or proxy_bypass(address.hostname):
        return None
    return getproxies().get(address.scheme)
