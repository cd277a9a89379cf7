"""What the operator may do, what it asks of the API server, and what it holds in memory."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import ACCOUNT, SYSTEM_NAMESPACE, StartOperator
from tests.support.api import Api, ApiFailed
from tests.support.cluster.control_plane import ControlPlane
from tests.support.jobs import eventually, finetune_job, wait_for_phase
from tests.support.kubelet import PlayedKubelet
from tests.support.operator import running_operator

WATCHED = {"finetunejobs", "jobs", "pods"}
USER = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{ACCOUNT}"
BARE = """
import asyncio, kopf
import kubernetes.aio
from kubernetes.aio.client.api_client import ApiClient
print(next(line for line in open("/proc/self/status") if line.startswith("VmRSS")).split()[1])
"""


def test_secrets_are_out_of_reach(api: Api, operator_kubeconfig: Path) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "hub"}, "stringData": {"token": "t"}}
    api.create(secret)
    operator = Api(operator_kubeconfig, api.namespace)
    with pytest.raises(ApiFailed, match="403"):
        operator.get("Secret", "hub")
    with pytest.raises(ApiFailed, match="403"):
        operator.list("Secret")


def test_nothing_that_it_asks_for_is_refused(
    audited: ControlPlane, api: Api, claim: str, kubelet: PlayedKubelet, start_operator: StartOperator
) -> None:
    """RBAC turns down no request from apply through a restart to success and deletion."""
    before = len(audited.audit_events(USER))
    start_operator()
    _live(api, kubelet)
    events = audited.audit_events(USER)[before:]
    assert len(events) > 10
    assert _refused(events) == []


def test_rights_in_one_namespace_are_enough_for_it(
    audited: ControlPlane,
    api: Api,
    claim: str,
    kubelet: PlayedKubelet,
    start_operator: StartOperator,
    kubeconfig_by_namespace: Path,
) -> None:
    """Nodes are all that is out of reach: they belong to the cluster."""
    start_operator(kubeconfig_by_namespace)
    _live(api, kubelet)
    events = audited.audit_events(f"system:serviceaccount:{SYSTEM_NAMESPACE}:{api.namespace}")
    assert len(events) > 10
    assert [uri for uri in _refused(events) if not uri.startswith("/api/v1/nodes/")] == []
    with pytest.raises(ApiFailed, match="403"):
        Api(kubeconfig_by_namespace, "default").list("FineTuneJob")


def _live(api: Api, kubelet: PlayedKubelet) -> None:
    """Play a job's whole life, with a crash in it."""
    api.create(finetune_job())
    eventually("two pods", lambda: len(kubelet.pods(1)) == 2)
    kubelet.report(1)
    kubelet.run(1)
    wait_for_phase(api, "Running")
    kubelet.crash(kubelet.pods(1)[0])
    eventually("two pods", lambda: len(kubelet.pods(2)) == 2)
    kubelet.report(2)
    kubelet.run(2)
    wait_for_phase(api, "Running")
    kubelet.succeed(2, step=100)
    wait_for_phase(api, "Succeeded")
    api.delete("FineTuneJob", "yelp")


def _watched(events: list[dict[str, Any]]) -> set[str]:
    """Return the resources that are watched."""
    return {event["objectRef"]["resource"] for event in events if event["verb"] == "watch"}


def _refused(events: list[dict[str, Any]]) -> list[str]:
    return [event["requestURI"] for event in events if event.get("responseStatus", {}).get("code") == 403]


def test_requests_from_apply_to_running(
    audited: ControlPlane, api: Api, claim: str, kubelet: PlayedKubelet, start_operator: StartOperator
) -> None:
    begun = len(audited.audit_events(USER))
    start_operator(pod_diagnosis_seconds=3600)
    eventually("its watches", lambda: _watched(audited.audit_events(USER)[begun:]) >= WATCHED)
    before = len(audited.audit_events(USER))
    api.create(finetune_job())
    eventually("two pods", lambda: len(kubelet.pods(1)) == 2)
    wait_for_phase(api, "Starting")
    kubelet.report(1)
    kubelet.run(1)
    wait_for_phase(api, "Running")
    events = [event for event in audited.audit_events(USER)[before:] if event["stage"] == "ResponseComplete"]
    asked = [f"{event['verb']} {event['requestURI']}" for event in events if event["verb"] != "watch"]
    assert len(asked) <= 12, asked
    assert len([request for request in asked if request.startswith("update")]) <= 3


def test_it_serves_the_whole_cluster_with_the_same_rights(
    api: Api, claim: str, operator_kubeconfig: Path, tmp_path: Path
) -> None:
    with running_operator(operator_kubeconfig, tmp_path / "operator.log"):
        api.create(finetune_job())
        assert wait_for_phase(api, "Starting")["attempt"] == 1


def test_idle_memory_over_a_bare_kopf_process(audited: ControlPlane, api: Api, start_operator: StartOperator) -> None:
    begun = len(audited.audit_events(USER))
    operator = start_operator()
    eventually("its watches", lambda: _watched(audited.audit_events(USER)[begun:]) >= WATCHED)
    bare = int(subprocess.run([sys.executable, "-c", BARE], capture_output=True, text=True, check=True).stdout) * 1024
    assert operator.rss_bytes() - bare <= 25 * 2**20, (
        f"{operator.rss_bytes() / 2**20:.1f} MiB over {bare / 2**20:.1f} MiB"
    )
