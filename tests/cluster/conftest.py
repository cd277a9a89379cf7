"""What the operator's tests share: its service account as the chart makes it, the API, a claim to write to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support import helm
from tests.support.api import Api
from tests.support.cluster.client import Client
from tests.support.kubelet import PlayedKubelet
from tests.support.operator import Operator, running_operator

SYSTEM_NAMESPACE = helm.SYSTEM_NAMESPACE
ACCOUNT = helm.RELEASE

StartOperator = Callable[..., Operator]


@pytest.fixture(scope="session")
def operator_kubeconfig(control_plane: Client, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The kubeconfig of an operator that may do what the chart lets it do, and no more."""
    control_plane.apply(helm.SYSTEM)
    control_plane.apply(*helm.rights(), namespace=SYSTEM_NAMESPACE)
    return control_plane.kubeconfig_of(ACCOUNT, SYSTEM_NAMESPACE, tmp_path_factory.mktemp("account"))


@pytest.fixture
def nobody_leads(control_plane: Client, operator_kubeconfig: Path) -> None:
    """The release's lease is free: nobody waits for the leader of an earlier test, which may have been killed."""
    where = ("lease", helm.RELEASE, f"--namespace={helm.SYSTEM_NAMESPACE}")
    control_plane.kubectl("delete", *where, "--ignore-not-found")


@pytest.fixture
def kubeconfig_by_namespace(control_plane: Client, operator_kubeconfig: Path, namespace: str, tmp_path: Path) -> Path:
    """The kubeconfig of an operator that was installed for the test's namespace alone."""
    values = {"watchNamespaces": [namespace], "rbac": {"aggregate": False}, "fullnameOverride": namespace}
    control_plane.apply(*helm.rights(values), namespace=None)
    return control_plane.kubeconfig_of(namespace, SYSTEM_NAMESPACE, tmp_path)


@pytest.fixture
def api(control_plane: Client, namespace: str) -> Api:
    """The API in the test's namespace, as the cluster's administrator."""
    return Api(control_plane.kubeconfig, namespace)


@pytest.fixture(scope="module")
def operator(operator_kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Operator]:
    """An operator for the whole cluster, shared by the tests of a module that do not care which one it is."""
    with running_operator(operator_kubeconfig, tmp_path_factory.mktemp("operator") / "operator.log") as running:
        yield running


@pytest.fixture
def start_operator(operator_kubeconfig: Path, namespace: str, tmp_path: Path) -> Iterator[StartOperator]:
    """Start operators for the test's namespace; all are killed at the end."""
    with ExitStack() as stack:

        def start(kubeconfig: Path = operator_kubeconfig, **settings: object) -> Operator:
            return stack.enter_context(running_operator(kubeconfig, tmp_path / "operator.log", namespace, **settings))

        yield start


@pytest.fixture
def kubelet(api: Api) -> Iterator[PlayedKubelet]:
    """The kubelet that plays the pods of the job `yelp`."""
    with PlayedKubelet(api, "yelp") as played:
        yield played


@pytest.fixture
def claim(api: Api) -> str:
    """A claim that the jobs of the test write to and read from."""
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}
    api.create({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}, "spec": spec})
    return "shared"
