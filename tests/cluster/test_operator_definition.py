"""An operator under the definition of an older version. No other operator may run meanwhile: it would not wait."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_operator.api.crd_version import status_lacks
from finetune_operator.api.status import Phase
from tests.support.api import Api, ApiFailed
from tests.support.cluster.client import Client
from tests.support.definition import DEFINITION, SCHEMA, change_definition, restore_definition
from tests.support.jobs import eventually, finetune_job, wait_for_phase
from tests.support.operator import Operator


@pytest.fixture
def older_crd(control_plane: Client) -> Iterator[None]:
    """The resource definition of an older version, which drops what a newer operator writes to status."""
    status = f"{SCHEMA}/properties/status/properties"
    phases = [phase.value for phase in Phase if phase is not Phase.PUBLISHING]
    change_definition(
        control_plane,
        {"op": "remove", "path": f"{status}/budget"},
        {"op": "replace", "path": f"{status}/phase/enum", "value": phases},
    )
    yield
    restore_definition(control_plane)


def test_an_operator_waits_for_the_definition_of_its_own_version(
    older_crd: None, control_plane: Client, operator_kubeconfig: Path, api: Api, claim: str, tmp_path: Path
) -> None:
    """An older definition drops counters from status: without them restarts would have no end."""

    def served() -> bool:
        return "status.budget" in status_lacks(api.request("GET", "openapi/v3/apis/finetune.dev/v1alpha1"))

    eventually("the older definition is served", served)
    newer = Operator(operator_kubeconfig, tmp_path / "newer.log", api.namespace)
    try:
        eventually(
            "it says so", lambda: "is older than this operator" in newer.log.read_text(), 20, newer.log.read_text
        )
        log = newer.log.read_text()
        assert "status.phase: Publishing, status.budget" in log
        assert "kubectl apply --server-side -f crds/" in log
        api.create(finetune_job())
        assert newer.process.poll() is None
        assert api.list("Job") == [], "nothing is begun"

        restore_definition(control_plane)
        wait_for_phase(api, "Starting")
    finally:
        newer.kill()


def taken(api: Api, name: str) -> bool:
    """Return whether a job could be made: for a moment a new definition is not served yet."""
    try:
        api.create(finetune_job(name))
    except ApiFailed as error:
        if error.status not in (404, 429):
            raise
        return False
    return True


def test_a_definition_that_is_deleted_ends_the_watch_and_not_the_process(
    control_plane: Client, operator_kubeconfig: Path, api: Api, claim: str, tmp_path: Path
) -> None:
    """All FineTuneJobs go with their definition. Those that come with the next one are served, and the operator still ends when told to."""
    operator = Operator(operator_kubeconfig, tmp_path / "operator.log", api.namespace)
    try:
        operator.wait_until_ready()
        api.create(finetune_job("before"))
        wait_for_phase(api, "Starting", "before")
        control_plane.kubectl("delete", "crd", DEFINITION, "--wait=true")
        eventually("the watch has failed", lambda: "it begins anew" in operator.log.read_text())

        control_plane.install_crds()
        eventually("it is taken", lambda: taken(api, "after"))
        wait_for_phase(api, "Starting", "after")
        assert operator.process.poll() is None
        operator.terminate()
        assert operator.process.returncode == 0
    finally:
        operator.kill()
