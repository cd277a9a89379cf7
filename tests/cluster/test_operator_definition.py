"""An operator under the definition of an older version. No other operator may run meanwhile: it would not wait."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from finetune_operator.api.status import Phase
from finetune_operator.definition import status_lacks
from tests.support.api import Api
from tests.support.cluster.client import Client
from tests.support.definition import SCHEMA, change_definition, restore_definition
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
    """What an older one drops from status are counters: without them restarts would have no end."""

    def served() -> bool:
        return "status.budget" in status_lacks(api.request("GET", "openapi/v3/apis/finetune.dev/v1alpha1"))

    eventually("the older definition is served", served)
    newer = Operator(operator_kubeconfig, tmp_path / "newer.log", api.namespace)
    try:
        eventually(
            "it says so", lambda: "is older than this operator" in newer.log.read_text(), 20, newer.log.read_text
        )
        said = newer.log.read_text()
        assert "status.phase: Publishing, status.budget" in said
        assert "kubectl apply --server-side -f crds/" in said
        api.create(finetune_job())
        assert newer.process.poll() is None
        assert api.list("Job") == [], "nothing is begun"

        restore_definition(control_plane)
        wait_for_phase(api, "Starting")
    finally:
        newer.kill()
