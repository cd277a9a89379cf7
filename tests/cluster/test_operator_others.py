"""Operators of different settings beside one another: one serves a job, the other leaves it alone until that one is gone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract.prepared import Resolved
from tests.support import helm
from tests.support.api import Api
from tests.support.cluster.client import Client
from tests.support.jobs import eventually, finetune_job, status, wait_for_phase
from tests.support.kubelet import PlayedKubelet
from tests.support.operator import Operator

LEASE_SECONDS = 10
"""Duration of a lease: an operator that is merely slow does not lose it."""
LEADER, LEFT_ALONE = "finetune_operator_leader", "finetune_operator_jobs_of_others"
HUB: dict[str, Any] = {"model": {"name": "google-bert/bert-base-cased"}}
"""Fields of a job that has a prepare Job."""


class Started:
    """Operators of one namespace, by their leases."""

    def __init__(self, namespace: str, folder: Path) -> None:
        self._namespace = namespace
        self._folder = folder
        self._started: list[Operator] = []

    def start(self, kubeconfig: Path, lease: str, image: str = "registry.example/trainer:1") -> Operator:
        log = self._folder / f"{lease.replace('/', '-')}.log"
        settings = {"lease": lease, "lease_seconds": LEASE_SECONDS, "trainer_image": image}
        operator = Operator(kubeconfig, log, self._namespace, **settings)
        self._started.append(operator)
        operator.wait_until_ready()
        eventually("it leads", lambda: operator.metrics()[LEADER] == 1)
        return operator

    def end(self) -> None:
        for operator in self._started:
            if operator.process.poll() is None:
                operator.kill()


@pytest.fixture
def operators(api: Api, tmp_path: Path) -> Iterator[Started]:
    started = Started(api.namespace, tmp_path)
    yield started
    started.end()


def jobs(api: Api) -> list[str]:
    return sorted(job["metadata"]["name"] for job in api.list("Job"))


def reasons(api: Api) -> list[str]:
    return [event["reason"] for event in api.list("Event") if event["involvedObject"]["kind"] == "FineTuneJob"]


@pytest.mark.usefixtures("nobody_leads")
def test_of_two_operators_one_serves_a_job_and_the_other_follows_it(
    control_plane: Client,
    api: Api,
    claim: str,
    kubelet: PlayedKubelet,
    operator_kubeconfig: Path,
    operators: Started,
) -> None:
    """Two operators with different training images, by the chart and by hand, once made 225 prepare Jobs in 30 s."""
    leases = {
        f"{helm.SYSTEM_NAMESPACE}/{helm.RELEASE}": (operator_kubeconfig, "registry.example/trainer:1"),
        f"{api.namespace}/finetune-operator": (control_plane.kubeconfig, "registry.example/trainer:2"),
    }
    both = {lease: operators.start(kubeconfig, lease, image) for lease, (kubeconfig, image) in leases.items()}
    api.create(finetune_job(**HUB))
    wait_for_phase(api, "Preparing")
    first_lease = status(api)["operator"]
    first = both.pop(first_lease)
    ((second_lease, second),) = both.items()

    eventually("the other one leaves it alone", lambda: second.metrics()[LEFT_ALONE] == 1)
    assert f'"lease": "{first_lease}"' in second.log.read_text()
    assert first.metrics()[LEFT_ALONE] == 0
    api.patch("FineTuneJob", "yelp", {"spec": {"activeDeadlineSeconds": 86400}})  # wakes both
    eventually("the edit is seen", lambda: status(api)["observedGeneration"] == 2)
    assert (jobs(api), status(api)["operator"]) == (["yelp-prepare-1"], first_lease)

    first.kill()
    eventually("it is taken over", lambda: status(api)["operator"] == second_lease)
    assert second.metrics()[LEFT_ALONE] == 0
    kubelet.run(1, "prepare")
    kubelet.succeed(1, "prepare", resolved=Resolved(model_revision="0123abc"))
    wait_for_phase(api, "Starting")
    assert jobs(api) == ["yelp-prepare-1", "yelp-train-1"]
    assert (reasons(api).count("TakenOver"), "PreparingAgain" in reasons(api)) == (1, False)


def test_an_operator_whose_lease_is_deleted_is_followed_at_once(
    control_plane: Client, api: Api, claim: str, operators: Started
) -> None:
    """`helm uninstall` deletes the lease."""
    api.create(finetune_job(**HUB))
    api.patch("FineTuneJob", "yelp", {"status": {"operator": f"{api.namespace}/uninstalled"}}, "status")
    mine = f"{api.namespace}/finetune-operator"
    operators.start(control_plane.kubeconfig, mine)
    eventually("it is taken over", lambda: status(api).get("operator") == mine)
    eventually("it is worked on", lambda: jobs(api) == ["yelp-prepare-1"])


def test_unreadable_operator_keeps_its_jobs(
    api: Api, claim: str, operators: Started, kubeconfig_by_namespace: Path
) -> None:
    """A release for some namespaces may not read the leases of others."""
    api.create(finetune_job(**HUB))
    marked = api.patch("FineTuneJob", "yelp", {"status": {"operator": "kube-system/another"}}, "status")
    mine = f"{helm.SYSTEM_NAMESPACE}/{api.namespace}"
    operator = operators.start(kubeconfig_by_namespace, mine)
    eventually("it is left alone", lambda: operator.metrics()[LEFT_ALONE] == 1)
    assert "status.operator" in operator.log.read_text()
    left = api.get("FineTuneJob", "yelp")
    assert left is not None
    assert left["metadata"]["resourceVersion"] == marked["metadata"]["resourceVersion"], "nothing is written"
    assert jobs(api) == []

    api.patch("FineTuneJob", "yelp", {"status": {"operator": mine}}, "status")
    eventually("it is worked on", lambda: jobs(api) == ["yelp-prepare-1"])
    assert operator.metrics()[LEFT_ALONE] == 0
