"""The watch: events in, wake-ups out. This is the only module that imports kopf.

kopf is used for what it does best, a watch that survives every network. Its writes (annotations, finalizers, peering objects,
events) are switched off, because a job belongs to its user.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import kopf
import structlog

from finetune_operator.api.resource import GROUP, KIND, LABEL_JOB, PLURAL, VERSION
from finetune_operator.controller.cache import JobCache, Key
from finetune_operator.kube.client import Cluster
from finetune_operator.plan.types import Manifest

WATCHED = {KIND: (GROUP, VERSION, PLURAL), "Job": ("batch", "v1", "jobs"), "Pod": ("", "v1", "pods")}
"""Kinds whose changes may change a decision. ConfigMaps, Services and claims have names that follow from the job and are
found at the POST: to watch them would cost memory for every object, and show nothing."""
CREDENTIALS_LIFETIME = timedelta(minutes=10)
"""A service account's token is read again from its file well before it expires."""
WATCH_SECONDS = 12
"""Time after which the API server ends a watch, with a bookmark from which the next one goes on."""
DEAF_SECONDS = 15.0
"""Silence after which a watch has a dead connection: it should at least have shown its end."""
NEXT_WATCH_SECONDS = (1.0, 2.0, 5.0, 10.0)
"""Delays before the watch begins again after an error; the last one is repeated."""
LASTED_SECONDS = 60.0
"""Time after which a watch counts as one that began without trouble."""
WATCHER = "watcher for "
"""Beginning of the names of kopf's watches, some of which it leaves behind when another one fails."""
log = structlog.get_logger(__name__)


class Retries(Iterable[float]):
    """Delays of kopf's requests, without end: an API server comes back, and so do rights in a namespace."""

    def __iter__(self) -> Iterator[float]:
        yield from (0.2, 1.0, 2.0)
        while True:
            yield 5.0


class Everything(Collection[Any]):
    """The tasks that kopf leaves alone when it ends: all but its own root tasks, because the event loop is not its own."""

    def __contains__(self, item: object) -> bool:
        return True

    def __iter__(self) -> Iterator[Any]:
        return iter(())

    def __len__(self) -> int:
        return 0


class NothingCompared(kopf.DiffBaseStorage):
    """A storage that keeps nothing: no handler asks what has changed, and kopf would copy every object that it watches twice."""

    def build(self, *, body: kopf.Body, extra_fields: Iterable[Any] | None = None) -> Any:
        return {}

    def fetch(self, *, body: kopf.Body) -> None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: Any) -> None:
        """Keep nothing."""


def make_settings() -> kopf.OperatorSettings:
    """Return settings that make kopf a pure watcher."""
    settings = kopf.OperatorSettings()
    settings.scanning.disabled = True
    settings.peering.standalone = True
    settings.persistence.diffbase_storage = NothingCompared()
    settings.posting.enabled = False
    settings.posting.loggers = False
    settings.networking.request_timeout = 30
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = Retries()
    settings.watching.server_timeout = WATCH_SECONDS
    settings.watching.inactivity_timeout = DEAF_SECONDS
    settings.watching.connect_timeout = 5
    settings.watching.chunk_size = 500
    settings.queueing.idle_timeout = 1.0
    settings.queueing.exit_timeout = 0.5
    settings.process.ultimate_exiting_timeout = None  # it may begin again in this process
    for kind in ("Job", "Pod"):
        settings.watching.label_selectors[WATCHED[kind]] = LABEL_JOB
    return settings


def make_registry(
    cluster: Cluster, cache: JobCache, wake: Callable[[Key], None], relisted: Callable[[str], None]
) -> kopf.OperatorRegistry:
    """Make handlers that cache what the watch shows and wake the job. `relisted` is called with the namespaces of objects from a list."""
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry, retries=10, backoff=2)
    async def login(**_: Any) -> kopf.ConnectionInfo:
        return await connection_info(cluster)

    def watch(kind: str) -> None:
        @kopf.on.event(*WATCHED[kind], registry=registry, id=kind)
        async def observe(event: kopf.RawEvent, **_: Any) -> None:
            if event["type"] is None:
                relisted(event["object"]["metadata"]["namespace"])
            item: Manifest = {**event["object"], "kind": kind}
            key = cache.observe(item, deleted=event["type"] == "DELETED")
            if key is not None:
                wake(key)

    for kind in WATCHED:
        watch(kind)
    return registry


async def watch(
    registry: Callable[[], kopf.OperatorRegistry],
    namespaces: tuple[str, ...],
    prepare: Callable[[], Awaitable[None]],
    listen: Callable[[], None],
) -> None:
    """Watch for ever. An error that kopf can't survive, such as a deleted definition, ends one watch and begins another.

    `prepare` is awaited before each; `listen` restores the handlers of signals, which kopf takes over.
    """
    failures = 0
    while True:
        await prepare()
        begun = time.monotonic()
        try:
            await _watch_once(registry(), namespaces, listen)
            log.warning("the watch has ended, it begins anew")
        except Exception as error:  # noqa: BLE001 - an outermost loop: without a watch the operator sees nothing
            log.warning("the watch has failed, it begins anew", error=f"{type(error).__name__}: {error}")
        failures = 0 if time.monotonic() - begun > LASTED_SECONDS else failures
        await asyncio.sleep(NEXT_WATCH_SECONDS[min(failures, len(NEXT_WATCH_SECONDS) - 1)])
        failures += 1


async def _watch_once(registry: kopf.OperatorRegistry, namespaces: tuple[str, ...], listen: Callable[[], None]) -> None:
    tasks = await kopf.spawn_tasks(
        registry=registry, settings=make_settings(), clusterwide=not namespaces, namespaces=namespaces
    )
    listen()
    running = asyncio.create_task(kopf.run_tasks(tasks, ignored=Everything()), name="kopf")
    try:
        await asyncio.wait({running})
    finally:
        running.cancel()
        while True:  # more than once: a watch that ends at that moment for another reason forgets that it was cancelled
            remaining = {task for task in asyncio.all_tasks() if task.get_name().startswith(WATCHER)}
            if not remaining and running.done():
                break
            for task in remaining:
                task.cancel()
            await asyncio.wait({running, *remaining}, timeout=0.5)
    running.result()


async def connection_info(cluster: Cluster) -> kopf.ConnectionInfo:
    """Return the client's credentials in kopf's form, so that there is one way to log in."""
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
