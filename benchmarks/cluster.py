"""Clusters and the operator process that benchmarks run against, and the requests that the audit log shows."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from finetune_operator.settings import OperatorSettings
from tests.support import helm, machine
from tests.support.cache import cache_folder
from tests.support.cluster.binaries import binaries
from tests.support.cluster.client import REPOSITORY
from tests.support.cluster.control_plane import ControlPlane
from tests.support.cluster.guard import guarded
from tests.support.cluster.nodes import NodeCluster
from tests.support.commands import wait_for
from tests.support.images.background import Preparation
from tests.support.images.store import store_folder
from tests.support.operator import running_operator

NAMESPACE = "bench"
CLAIM = "output"
OPERATOR_USER = f"system:serviceaccount:{helm.SYSTEM_NAMESPACE}:{helm.RELEASE}"
AS_SHIPPED = {
    name: OperatorSettings.model_fields[name].default
    for name in ("log_level", "progress_access", "progress_interval_seconds")
}
"""Settings as users have them; the tests set these otherwise."""


class QuickControlPlane(ControlPlane):
    """A control plane whose controllers and scheduler have no limit on their requests, so that figures show the work itself."""

    def program(self, name: str, *args: str | Path, group: str = "control") -> None:
        """Start one of the Kubernetes programs."""
        limits = ("--kube-api-qps=1000", "--kube-api-burst=2000")
        more = limits if name in ("kube-controller-manager", "kube-scheduler") else ()
        super().program(name, *args, *more, group=group)


@contextmanager
def control_plane(kind: type[ControlPlane] = ControlPlane) -> Iterator[ControlPlane]:
    """Run a control plane without nodes, with a namespace, a bound claim, and an account for the operator."""
    with _folder() as folder:
        machine.install(machine.FOR_CONTROL_PLANE)
        cluster = kind(folder, binaries())
        cluster.start()
        _furnish(cluster)
        cluster.apply(*_bound_claim(), namespace=NAMESPACE)
        yield cluster


@contextmanager
def node_cluster(claims: Sequence[str]) -> Iterator[NodeCluster]:
    """Run a control plane with two nodes that have the project's images, and with claims of real volumes."""
    with _folder(with_nodes=True) as folder:
        Preparation.begin(images=True, log=None).wait()
        cluster = NodeCluster(folder, binaries(), nodes=2, image_store=store_folder())
        cluster.start()
        _furnish(cluster)
        spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
        kind = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
        cluster.apply(*({**kind, "metadata": {"name": name}, "spec": spec} for name in claims), namespace=NAMESPACE)
        yield cluster


@contextmanager
def _folder(*, with_nodes: bool = False) -> Iterator[Path]:
    """Yield a folder for a cluster that exists as long as this process lives."""
    if reason := machine.why_no_own_cluster():
        raise SystemExit(reason)
    folder = cache_folder("clusters") / f"bench-{secrets.token_hex(3)}"
    with guarded(folder, with_nodes=with_nodes):
        yield folder


def _furnish(cluster: ControlPlane) -> None:
    """Create what every benchmark needs: the resource definition, the namespace, the operator's account and its own rights."""
    cluster.install_crds()
    cluster.create_namespace(NAMESPACE)
    cluster.apply(helm.SYSTEM)
    cluster.apply(*helm.rights(), namespace=helm.SYSTEM_NAMESPACE)


@contextmanager
def operator(cluster: ControlPlane, **settings: object) -> Iterator[int]:
    """Run the operator under its own account; yield the process id, once it watches and its workers are alive."""
    kubeconfig = cluster.kubeconfig_of(helm.RELEASE, helm.SYSTEM_NAMESPACE, cluster.folder)
    log = cluster.folder / "logs" / "operator.log"
    with running_operator(kubeconfig, log, **{**AS_SHIPPED, **settings}) as running:
        watching = {"finetunejobs", "jobs", "pods"}
        wait_for("the operator's watches", lambda: watching <= _watched(cluster))
        yield running.process.pid


@contextmanager
def process(command: list[str], environment: dict[str, str], log: Path) -> Iterator[int]:
    """Run a process that ends with the block, and whose output is in `log`."""
    with open(log, "ab") as out:
        started = subprocess.Popen(
            command, cwd=REPOSITORY, env={**os.environ, **environment}, stdin=subprocess.DEVNULL, stdout=out, stderr=out
        )
    try:
        yield started.pid
        if started.poll() is not None:
            raise RuntimeError(f"`{' '.join(command)}` ended with {started.returncode}; its log is {log}")
    finally:
        started.terminate()
        try:
            started.wait(20)
        except subprocess.TimeoutExpired:
            started.kill()
            started.wait()


def requests_of(
    cluster: ControlPlane, begin: datetime, end: datetime, *, user: str | None = None, namespace: str | None = None
) -> Counter[str]:
    """Count the requests between two moments, by one user or about one namespace: `verb resource` -> count.

    Watches are left out: they do no work.
    """
    counts: Counter[str] = Counter()
    for event in cluster.audit_events(user):
        object_ref = event.get("objectRef", {})
        received = datetime.fromisoformat(event["requestReceivedTimestamp"])
        if (
            event["verb"] == "watch"
            or not begin <= received <= end
            or namespace not in (None, object_ref.get("namespace"))
        ):
            continue
        counts[
            f"{event['verb']} {'/'.join(filter(None, (object_ref.get('resource'), object_ref.get('subresource'))))}"
        ] += 1
    return counts


def _watched(cluster: ControlPlane) -> set[str]:
    """Return the resources that the operator watches. A watch is in the audit log at once, as its answer begins to stream."""
    events = cluster.audit_events(OPERATOR_USER)
    return {event["objectRef"]["resource"] for event in events if event["verb"] == "watch"}


def _bound_claim() -> list[dict[str, Any]]:
    """Make a claim that is bound to a volume that nobody mounts."""
    capacity = {"storage": "1Gi"}
    common = {"accessModes": ["ReadWriteMany"], "storageClassName": ""}
    volume = {**common, "capacity": capacity, "hostPath": {"path": "/nowhere"}}
    claim = {**common, "volumeName": CLAIM, "resources": {"requests": capacity}}
    return [
        {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": CLAIM}, "spec": volume},
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": CLAIM}, "spec": claim},
    ]
