"""`python -m finetune_operator`: connects the parts and runs until it is asked to end.

It is configured by environment variables alone (`settings`). To end it at any moment is harmless.
"""

from __future__ import annotations

import finetune_operator.early_end  # noqa: F401 - the first of all

# isort: split
import asyncio
import os
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import structlog
from pydantic import ValidationError

from finetune_operator import logs
from finetune_operator.api import crd_version
from finetune_operator.api.resource import API_VERSION, PLURAL
from finetune_operator.controller.cache import JobCache, Key
from finetune_operator.controller.health import Health, serve
from finetune_operator.controller.leader_election import Alone, Leadership
from finetune_operator.controller.lookups import Lookups
from finetune_operator.controller.metrics import OperatorMetrics
from finetune_operator.controller.other_operators import OtherOperators
from finetune_operator.controller.progress_reader import ProgressReader
from finetune_operator.controller.reconciler import Decide, Reconciler
from finetune_operator.controller.resync import Resync
from finetune_operator.controller.watch import make_registry, watch
from finetune_operator.controller.workqueue import QueueObserver, WorkQueue
from finetune_operator.kube.client import Cluster
from finetune_operator.kube.exceptions import ApiError, LeadershipLost, OperatorError, Unavailable
from finetune_operator.plan.types import Manifest
from finetune_operator.settings import OperatorSettings

WAIT_FOR_CRD_SECONDS = 2.0
STOP_GRACE_SECONDS = 5.0
END_AT_LAST_SECONDS = 12.0
"""Shorter than the grace period of the operator's pod."""
log = structlog.get_logger("finetune_operator")


def main() -> None:
    """Run the operator until SIGTERM or SIGINT."""
    from finetune_operator.plan.decide import decide

    try:
        settings = OperatorSettings()
    except ValidationError as error:
        logs.configure("info", "json")
        log.error(
            "a setting is wrong", problems=[f"{problem['loc'][0]}: {problem['msg']}" for problem in error.errors()]
        )
        sys.exit(2)
    logs.configure(settings.log_level, settings.log_format)
    try:
        asyncio.run(run(settings, decide))
    except OperatorError as error:
        log.error("the operator can't run", error=str(error))
        sys.exit(1)


async def run(settings: OperatorSettings, decide: Decide) -> None:
    """Run all parts of the operator until it is asked to end."""
    stop_requested = asyncio.Event()
    _listen(stop_requested)
    cluster = Cluster(settings.kubeconfig)
    connection = await cluster.connection()
    log.info("starting", server=connection.server, namespaces=settings.namespaces or "all")
    cache = JobCache()
    progress = ProgressReader(cluster, settings.progress_access)
    others = OtherOperators(cluster, settings.lease_name)
    metrics = OperatorMetrics(
        lambda: len(queue),
        lambda: [
            (entry.body.get("status") or {}).get("phase") or "Pending" for entry in cache if entry.body is not None
        ],
        lambda: others.count(entry.body for entry in cache if entry.body is not None),
    )

    def served(namespace: str, can_be_read: bool) -> None:
        metrics.namespace_served.labels(namespace).set(can_be_read)

    lookups = Lookups(cluster, cache, progress, lambda key: queue.wake(key))
    reconciler = Reconciler(
        cluster,
        cache,
        lookups,
        others,
        settings.plan(),
        decide,
        metrics,
        lambda key: queue.wake(key),
        lambda key: queue.gives_way(key),
        lambda namespace: resync.is_complete(namespace),
    )
    observer = QueueObserver[Key](metrics.wakeup_latency.observe, _failed(metrics), reconciler.break_off)
    queue = WorkQueue(reconciler.reconcile, settings.concurrency, observer, group=lambda key: key.namespace)
    resync = Resync(cluster, cache, queue.wake, settings.namespaces, settings.resync_seconds, served)
    own_connection = Cluster(settings.kubeconfig)  # many requests, or a dead connection, must not cost the lease
    leadership = _leadership(own_connection, settings)
    health = Health(lambda: queue.alive)
    server = await serve(settings.metrics_host, settings.metrics_port, metrics.registry, health)

    async def work() -> None:
        await _wait_for_crd(cluster)
        health.standing_by = True
        await leadership.gain()
        metrics.leader.set(1)
        queue.start()
        health.begun = True
        await _until_one_ends(
            resync.run(),
            watch(
                lambda: make_registry(cluster, cache, queue.wake, resync.look_soon),
                settings.namespaces,
                lambda: _wait_for_crd(cluster),
                lambda: _listen(stop_requested),
            ),
            _hold(leadership, queue, resync, metrics),
        )

    try:
        await _until_one_ends(stop_requested.wait(), work())
    finally:
        log.info("ending")
        await queue.stop(STOP_GRACE_SECONDS)
        await leadership.release()
        await progress.close()
        await cluster.close()
        await own_connection.close()
        await server.cleanup()


def _listen(stop_requested: asyncio.Event) -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, _end, stop_requested)


def _end(stop_requested: asyncio.Event) -> None:
    stop_requested.set()
    asyncio.get_running_loop().call_later(
        END_AT_LAST_SECONDS, os._exit, 1
    )  # in case a part does not end when it is asked to


async def _until_one_ends(*parts: Coroutine[Any, Any, object]) -> None:
    """Run parts until one of them ends, then end the others and raise its error: an operator without a part would only seem to run."""
    tasks = [asyncio.create_task(part) for part in parts]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in done:
        task.result()


def _leadership(cluster: Cluster, settings: OperatorSettings) -> Leadership | Alone:
    if not settings.lease_name:
        return Alone()
    namespace, _, name = settings.lease_name.partition("/")
    return Leadership(cluster, namespace, name, settings.lease_seconds, settings.identity)


async def _hold(
    leadership: Leadership | Alone, queue: WorkQueue[Key], resync: Resync, metrics: OperatorMetrics
) -> None:
    """Hold the lease: stop work as soon as this process may no longer lead; when it leads again, look for changes that were missed."""

    def doubt() -> None:
        queue.pause()
        metrics.leader.set(0)

    async def sure() -> None:
        await queue.resume()
        metrics.leader.set(1)
        resync.look_soon()

    try:
        await leadership.hold(doubt, sure)
    except LeadershipLost:
        await queue.stop(0)
        raise


async def _wait_for_crd(cluster: Cluster) -> None:
    """Wait until somebody installs the definition of FineTuneJobs: the API server answers 404 for a kind that it does not know."""
    while True:
        try:
            if not await cluster.serves(API_VERSION, PLURAL):
                log.warning(
                    "the FineTuneJob definition is not installed: it comes with the chart, or kubectl apply -f crds/"
                )
            elif _is_current(await cluster.openapi(API_VERSION)):
                return
        except Unavailable as error:
            log.warning("the API server does not answer", error=str(error))
        except ApiError as error:
            log.warning("the API server does not tell what it serves (role system:discovery)", error=str(error))
        await asyncio.sleep(WAIT_FOR_CRD_SECONDS)


def _is_current(document: Manifest) -> bool:
    """Return whether the definition in the cluster has all that this operator writes; log what it lacks."""
    if lacks := crd_version.status_lacks(document):
        log.error(
            "the FineTuneJob definition in the cluster is older than this operator, which waits for the one of its own "
            "version: upgrade the chart, or kubectl apply --server-side -f crds/",
            lacks=crd_version.in_short(lacks),
        )
        return False
    if lacks := crd_version.spec_lacks(document):
        log.warning(
            "the FineTuneJob definition in the cluster is older than this operator: users can't give all fields; upgrade "
            "the chart, or kubectl apply --server-side -f crds/",
            lacks=crd_version.in_short(lacks),
        )
    return True


def _failed(metrics: OperatorMetrics) -> Callable[[Key, Exception], None]:
    def count(key: Key, error: Exception) -> None:
        if isinstance(error, Unavailable):
            metrics.reconciles.labels("unavailable").inc()
            log.warning(
                "the API server can't do it now, it is tried again",
                namespace=key.namespace,
                job=key.name,
                error=str(error),
            )
        else:
            metrics.reconciles.labels("error").inc()
            log.error("reconcile failed, it is tried again", namespace=key.namespace, job=key.name, exc_info=error)

    return count


if __name__ == "__main__":
    main()
