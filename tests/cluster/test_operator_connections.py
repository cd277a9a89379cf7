"""Connections that go deaf, watches that show nothing, an API server that is away: the operator stays, and catches up."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import StartOperator
from tests.support.api import Api
from tests.support.cluster.client import Client
from tests.support.faults import FaultProxy
from tests.support.jobs import eventually, finetune_job, wait_for_phase
from tests.support.kubelet import PlayedKubelet

LEADER = "finetune_operator_leader"
LEASE = "lease"


@pytest.fixture
def proxy(api: Api) -> Iterator[FaultProxy]:
    with FaultProxy(api) as running:
        yield running


def lease(control_plane: Client, api: Api) -> dict[str, Any]:
    """The lease of the test's own operators: nobody else is waited for."""
    spec: dict[str, Any] = control_plane.get("lease", LEASE, f"--namespace={api.namespace}")["spec"]
    return spec


def test_a_job_and_its_pods_are_noticed_although_every_watch_is_silent(
    api: Api, claim: str, kubelet: PlayedKubelet, proxy: FaultProxy, start_operator: StartOperator, tmp_path: Path
) -> None:
    """The comparison finds what is new and what has changed, not only what is gone."""
    api.create(finetune_job("early"))
    start_operator(proxy.kubeconfig(tmp_path), resync_seconds=2)
    wait_for_phase(api, "Starting", "early")
    proxy.silent = True
    api.create(finetune_job())
    assert wait_for_phase(api, "Starting")["attempt"] == 1
    eventually("two pods", lambda: len(kubelet.pods(1)) == 2)
    kubelet.report(1)
    kubelet.run(1)
    wait_for_phase(api, "Running")


def test_deaf_connection_is_noticed_by_the_watch(
    api: Api, claim: str, proxy: FaultProxy, start_operator: StartOperator, tmp_path: Path
) -> None:
    """No comparison is due within the hour. How long a silence lasts before it is one, `tests/unit/controller/test_watch.py` holds."""
    api.create(finetune_job("early"))
    start_operator(proxy.kubeconfig(tmp_path), resync_seconds=3600)
    wait_for_phase(api, "Starting", "early")
    proxy.deafen()
    api.create(finetune_job())
    assert wait_for_phase(api, "Starting")["attempt"] == 1


def test_a_connection_that_went_deaf_does_not_cost_the_leadership(
    control_plane: Client, api: Api, proxy: FaultProxy, start_operator: StartOperator, tmp_path: Path
) -> None:
    operator = start_operator(proxy.kubeconfig(tmp_path), lease=f"{api.namespace}/{LEASE}", lease_seconds=15)
    eventually("it leads", lambda: operator.metrics()[LEADER] == 1)
    before = lease(control_plane, api)["renewTime"]
    eventually("it is renewed", lambda: lease(control_plane, api)["renewTime"] != before)
    proxy.deafen()
    deaf = lease(control_plane, api)["renewTime"]
    eventually("it is renewed on another connection", lambda: lease(control_plane, api)["renewTime"] != deaf)
    assert operator.process.poll() is None
    assert "nothing is done until it is" not in operator.log.read_text()


def test_api_server_away_longer_than_lease_finds_same_operator(
    control_plane: Client, api: Api, claim: str, proxy: FaultProxy, start_operator: StartOperator, tmp_path: Path
) -> None:
    """An API server that was away for longer than the lease finds the same operator."""
    operator = start_operator(proxy.kubeconfig(tmp_path), lease=f"{api.namespace}/{LEASE}", lease_seconds=2)
    eventually("it leads", lambda: operator.metrics()[LEADER] == 1)
    transitions = lease(control_plane, api)["leaseTransitions"]
    proxy.leave()
    eventually("it may no longer lead", lambda: operator.metrics()[LEADER] == 0)
    api.create(finetune_job())
    tries = operator.log.read_text().count("no answer about the lease")
    eventually("the lease has ended", lambda: operator.log.read_text().count("no answer about the lease") >= tries + 8)
    assert operator.process.poll() is None
    assert api.list("Job") == []

    proxy.away = False
    wait_for_phase(api, "Starting")
    assert operator.process.poll() is None, "the same process goes on"
    assert operator.metrics()[LEADER] == 1
    assert lease(control_plane, api)["leaseTransitions"] == transitions


def test_operator_restarted_under_its_name_leads_at_once(
    control_plane: Client, api: Api, claim: str, start_operator: StartOperator
) -> None:
    """The container of a pod restarts under the pod's name: it does not wait for its own lease of an hour."""
    first = start_operator(
        control_plane.kubeconfig, lease=f"{api.namespace}/{LEASE}", lease_seconds=3600, identity="operator-abc"
    )
    eventually("it leads", lambda: first.metrics()[LEADER] == 1)
    transitions = lease(control_plane, api)["leaseTransitions"]
    first.kill()
    second = start_operator(
        control_plane.kubeconfig, lease=f"{api.namespace}/{LEASE}", lease_seconds=3600, identity="operator-abc"
    )
    eventually("it leads again", lambda: second.metrics()[LEADER] == 1)
    assert lease(control_plane, api)["leaseTransitions"] == transitions
    second.terminate()
    assert lease(control_plane, api)["holderIdentity"] == ""
