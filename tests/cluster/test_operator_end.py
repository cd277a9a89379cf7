"""SIGTERM ends the operator in every phase, as process 1 of a container too, where the kernel drops what nobody handles."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.api import Api
from tests.support.cluster.client import Client
from tests.support.faults import FaultProxy
from tests.support.jobs import eventually
from tests.support.operator import Operator

AS_PROCESS_1 = ("unshare", "--pid", "--fork", "--kill-child")
LEASE = "lease"


@pytest.fixture(autouse=True)
def _may_unshare() -> None:
    if subprocess.run([*AS_PROCESS_1, "true"], capture_output=True, check=False).returncode:
        pytest.skip("a process 1 of its own takes the right to make a PID namespace")


@contextmanager
def started(kubeconfig: Path, folder: Path, namespace: str) -> Iterator[Operator]:
    settings = {"lease": f"{namespace}/{LEASE}", "lease_seconds": 3600}
    operator = Operator(kubeconfig, folder / "operator.log", namespace, AS_PROCESS_1, **settings)
    try:
        yield operator
    finally:
        if operator.process.poll() is None:
            operator.kill()


def process_1(operator: Operator) -> int:
    """Return the process id that the machine knows of what is process 1 in its container."""
    pid = operator.process.pid
    children = Path(f"/proc/{pid}/task/{pid}/children")
    return int(eventually("the process", lambda: children.read_text().strip()))


def handles_sigterm(pid: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) & (1 << (signal.SIGTERM - 1)))


def check_end(operator: Operator) -> None:
    os.kill(process_1(operator), signal.SIGTERM)
    operator.process.wait(60)
    assert operator.process.returncode == 0, operator.log.read_text()


def says(operator: Operator, what: str) -> None:
    eventually(what, lambda: what in operator.log.read_text(), show=operator.log.read_text)


def lease(control_plane: Client, namespace: str) -> dict[str, Any]:
    spec: dict[str, Any] = control_plane.get("lease", LEASE, f"--namespace={namespace}")["spec"]
    return spec


def test_while_it_starts(control_plane: Client, namespace: str, tmp_path: Path) -> None:
    with started(control_plane.kubeconfig, tmp_path, namespace) as operator:
        pid = process_1(operator)
        eventually("it listens", lambda: handles_sigterm(pid))
        assert operator.log.read_text() == "", "it has not come far"
        check_end(operator)


def test_while_it_waits_for_the_definition(api: Api, control_plane: Client, tmp_path: Path) -> None:
    with FaultProxy(Api(control_plane.kubeconfig, api.namespace)) as proxy:
        proxy.away = True
        with started(proxy.kubeconfig(tmp_path), tmp_path, api.namespace) as operator:
            says(operator, "the API server does not answer")
            check_end(operator)


def test_while_another_leads(control_plane: Client, namespace: str, tmp_path: Path) -> None:
    spec = {
        "holderIdentity": "another",
        "leaseDurationSeconds": 3600,
        "acquireTime": "2026-01-01T00:00:00.000000Z",
        "renewTime": "2026-01-01T00:00:00.000000Z",
    }
    held = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LEASE}, "spec": spec}
    control_plane.apply(held, namespace=namespace)
    with started(control_plane.kubeconfig, tmp_path, namespace) as operator:
        says(operator, "standing by")
        check_end(operator)
    assert lease(control_plane, namespace)["holderIdentity"] == "another"


def test_while_it_leads(control_plane: Client, namespace: str, tmp_path: Path) -> None:
    with started(control_plane.kubeconfig, tmp_path, namespace) as operator:
        operator.wait_until_ready()
        eventually("it leads", lambda: operator.metrics()["finetune_operator_leader"] == 1)
        check_end(operator)
    assert lease(control_plane, namespace)["holderIdentity"] == "", "another one may lead at once"


def test_while_it_leads_and_the_api_server_is_away(api: Api, control_plane: Client, tmp_path: Path) -> None:
    with (
        FaultProxy(Api(control_plane.kubeconfig, api.namespace)) as proxy,
        started(proxy.kubeconfig(tmp_path), tmp_path, api.namespace) as operator,
    ):
        operator.wait_until_ready()
        eventually("it leads", lambda: operator.metrics()["finetune_operator_leader"] == 1)
        proxy.leave()
        says(operator, "resync failed")
        check_end(operator)
