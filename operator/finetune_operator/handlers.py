"""Watch events in, wake-ups out: the only module that imports kopf.

kopf is used for what it is best at, watching that survives every network; what it would write (annotations, finalizers,
peering objects, events) is switched off, since a job belongs to its user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf

from finetune_operator.api.resource import GROUP, KIND, LABEL_JOB, PLURAL, VERSION
from finetune_operator.cluster import Cluster
from finetune_operator.plan.types import Manifest
from finetune_operator.store import Key, Store

WATCHED = {KIND: (GROUP, VERSION, PLURAL), "Job": ("batch", "v1", "jobs"), "Pod": ("", "v1", "pods")}
"""What a decision may be changed by. ConfigMaps, Services and claims have names that follow from the job and are found
at the POST: to watch them would cost memory for every object, and tell nothing."""
CREDENTIALS_LIFETIME = timedelta(minutes=10)
"""A service account's token is read again from its file well before it expires."""


class NothingCompared(kopf.DiffBaseStorage):
    """No handler here asks what has changed; kopf would copy every object that it watches twice, to be ready for it."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> Any:
        return {}

    def fetch(self, *, body: kopf.Body) -> None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: Any) -> None:
        """Keep nothing."""


def make_settings() -> kopf.OperatorSettings:
    """kopf as a pure watcher."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.persistence.diffbase_storage = NothingCompared()
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = (0.2, 1, 2, *[5] * 60)  # then the process ends, and is started again
    settings.watching.server_timeout = 300
    settings.watching.connect_timeout = 5
    settings.watching.chunk_size = 500
    settings.queueing.idle_timeout = 1.0
    settings.queueing.exit_timeout = 0.5
    settings.process.ultimate_exiting_timeout = 20
    for kind in ("Job", "Pod"):
        settings.watching.label_selectors[WATCHED[kind]] = LABEL_JOB
    return settings


def make_registry(
    cluster: Cluster, store: Store, wake: Callable[[Key], None], relisted: Callable[[], None]
) -> kopf.OperatorRegistry:
    """Handlers that record what the watch shows and wake the job. `relisted` is called for objects from a list."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry, retries=10, backoff=2)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await connection_info(cluster)

    def watch(kind: str) -> None:
        @kopf.on.event(*WATCHED[kind], registry=registry, id=kind)
        async def observe(event: kopf.RawEvent, **_: Any) -> None:
            if event["type"] is None:
                relisted()
            item: Manifest = {**event["object"], "kind": kind}
            key = store.observe(item, deleted=event["type"] == "DELETED")
            if key is not None:
                wake(key)

    for kind in WATCHED:
        watch(kind)
    return registry


async def connection_info(cluster: Cluster) -> kopf.ConnectionInfo:
    """The client's credentials in kopf's form, so that there is one way to log in."""
    connection = await cluster.connection()
    scheme, _, token = (connection.authorization or "").partition(" ")
    return kopf.ConnectionInfo(
        server=connection.server,
        ca_path=connection.ca_path,
        insecure=not connection.verify,
        scheme=scheme.capitalize() or None,
        token=token.strip() or None,
        certificate_path=connection.certificate_path,
        private_key_path=connection.private_key_path,
        proxy_url=connection.proxy,
        expiration=datetime.now(UTC) + CREDENTIALS_LIFETIME if cluster.inside else None,
    )
