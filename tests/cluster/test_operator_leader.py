"""Two operators: one leads, the other takes over, and the job of theirs goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import helm
from tests.support.api import Api
from tests.support.cluster.client import Client
from tests.support.jobs import eventually, finetune_job, wait_for_phase
from tests.support.kubelet import PlayedKubelet
from tests.support.operator import Operator

LEASE_SECONDS = 10
"""Duration of a lease: an operator that is merely slow does not lose it."""
LONG_LEASE_SECONDS = 3600
LEADER = "finetune_operator_leader"


pytestmark = pytest.mark.usefixtures("nobody_leads")


def start(kubeconfig: Path, folder: Path, namespace: str, name: str, lease_seconds: int = LEASE_SECONDS) -> Operator:
    lease = f"{helm.SYSTEM_NAMESPACE}/{helm.RELEASE}"
    settings = {"lease": lease, "lease_seconds": lease_seconds}
    operator = Operator(kubeconfig, folder / f"{name}.log", namespace, **settings)
    operator.wait_until_ready()
    return operator


@pytest.mark.parametrize(
    ("end", "lease_seconds"),
    [("kill", LEASE_SECONDS), ("terminate", LONG_LEASE_SECONDS)],
    ids=["killed", "told-to-end"],
)
def test_another_operator_takes_over(
    control_plane: Client,
    api: Api,
    claim: str,
    kubelet: PlayedKubelet,
    operator_kubeconfig: Path,
    tmp_path: Path,
    end: str,
    lease_seconds: int,
) -> None:
    """An operator that was told to end lets its lease go: nobody waits for it, which would take too long for this test."""
    first = start(operator_kubeconfig, tmp_path, api.namespace, "first", lease_seconds)
    eventually("the first one leads", lambda: first.metrics()[LEADER] == 1)
    second = start(operator_kubeconfig, tmp_path, api.namespace, "second", lease_seconds)
    try:
        api.create(finetune_job())
        eventually("two pods", lambda: len(kubelet.pods(1)) == 2)
        kubelet.report(1)
        kubelet.run(1)
        wait_for_phase(api, "Running")
        assert (first.metrics()[LEADER], second.metrics()[LEADER]) == (1, 0)

        getattr(first, end)()
        eventually("the second one leads", lambda: second.metrics()[LEADER] == 1)
        kubelet.succeed(1, step=100)
        status = wait_for_phase(api, "Succeeded")
        assert status["attempt"] == 1
    finally:
        for operator in (first, second):
            if operator.process.poll() is None:
                operator.kill()


def test_a_leader_that_finds_another_in_its_place_ends(
    control_plane: Client, api: Api, operator_kubeconfig: Path, tmp_path: Path
) -> None:
    operator = start(operator_kubeconfig, tmp_path, api.namespace, "first")
    try:
        eventually("it leads", lambda: operator.metrics()[LEADER] == 1)
        control_plane.kubectl(
            *("patch", "lease", helm.RELEASE, f"--namespace={helm.SYSTEM_NAMESPACE}", "--type=merge"),
            '--patch={"spec": {"holderIdentity": "another"}}',
        )
        eventually("its end", lambda: operator.process.poll() is not None)
        assert operator.process.returncode == 1
        assert "another leads now" in operator.log.read_text()
    finally:
        if operator.process.poll() is None:
            operator.kill()
