"""Namespaces that are missing or forbidden: told, left alone, served when they come; the others are served meanwhile."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import SYSTEM_NAMESPACE
from tests.support import helm
from tests.support.api import Api
from tests.support.cluster.client import Client
from tests.support.jobs import eventually, finetune_job, wait_for_phase
from tests.support.operator import Operator, running_operator

SERVED = 'finetune_operator_namespace_served{{namespace="{}"}}'


@pytest.fixture
def late(control_plane: Client) -> Iterator[str]:
    """The name of a namespace that comes later."""
    name = f"late-{uuid.uuid4().hex[:8]}"
    yield name
    control_plane.kubectl("delete", "namespace", name, "--ignore-not-found", "--wait=false")


def claim_in(api: Api) -> None:
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}
    api.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}, "spec": spec})


def is_served(operator: Operator, namespace: str) -> bool:
    return operator.metrics().get(SERVED.format(namespace)) == 1


def is_told(operator: Operator, namespace: str) -> bool:
    return operator.metrics().get(SERVED.format(namespace)) == 0


@pytest.mark.parametrize("order", ["missing-first", "missing-last"])
def test_a_namespace_that_is_missing_is_served_when_it_comes(
    control_plane: Client, api: Api, claim: str, operator_kubeconfig: Path, late: str, tmp_path: Path, order: str
) -> None:
    namespaces = [late, api.namespace] if order == "missing-first" else [api.namespace, late]
    settings = {"namespaces": json.dumps(namespaces)}
    with running_operator(operator_kubeconfig, tmp_path / "operator.log", None, **settings) as operator:
        api.create(finetune_job())
        wait_for_phase(api, "Starting")
        eventually("it is told", lambda: is_told(operator, late))
        assert is_served(operator, api.namespace)

        control_plane.create_namespace(late)
        late_api = Api(control_plane.kubeconfig, late)
        claim_in(late_api)
        late_api.create(finetune_job())
        wait_for_phase(late_api, "Starting")
        eventually("it is served", lambda: is_served(operator, late))
        assert operator.log.read_text().count("a namespace can't be served") == 1, "said once"


@pytest.mark.parametrize("order", ["forbidden-first", "forbidden-last"])
def test_a_namespace_that_is_forbidden_is_served_when_it_is_granted(
    control_plane: Client, api: Api, claim: str, operator_kubeconfig: Path, late: str, tmp_path: Path, order: str
) -> None:
    """The chart binds a role in each namespace, and so does this test."""
    account = api.namespace

    def grant(*namespaces: str) -> None:
        values = {"watchNamespaces": namespaces, "rbac": {"aggregate": False}, "fullnameOverride": account}
        control_plane.apply(*helm.rights(values), namespace=None)

    grant(api.namespace)
    kubeconfig = control_plane.kubeconfig_of(account, SYSTEM_NAMESPACE, tmp_path)
    control_plane.create_namespace(late)
    late_api = Api(control_plane.kubeconfig, late)
    claim_in(late_api)
    late_api.create(finetune_job())
    namespaces = [late, api.namespace] if order == "forbidden-first" else [api.namespace, late]
    settings = {"namespaces": json.dumps(namespaces)}
    with running_operator(kubeconfig, tmp_path / "operator.log", None, **settings) as operator:
        api.create(finetune_job())
        wait_for_phase(api, "Starting")
        eventually("it is told", lambda: is_told(operator, late))
        assert late_api.list("Job") == []

        grant(api.namespace, late)
        wait_for_phase(late_api, "Starting")
        eventually("it is served", lambda: is_served(operator, late))

        control_plane.kubectl("delete", "rolebinding", account, f"--namespace={late}")
        eventually("it is told again", lambda: is_told(operator, late))
        api.create(finetune_job("another"))
        wait_for_phase(api, "Starting", "another")
        assert operator.process.poll() is None
