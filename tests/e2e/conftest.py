"""What the end-to-end tests share: the operator as a process, with the rights of its service account."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
import yaml

from tests.support import e2e
from tests.support.api import Api
from tests.support.cluster.client import REPOSITORY
from tests.support.cluster.nodes import NodeCluster
from tests.support.operator import Operator, running_operator

SYSTEM_NAMESPACE = "finetune-system"
ACCOUNT = "finetune-operator"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that fails shows what was in its namespace: afterwards nobody can look."""
    report = yield
    fixtures = getattr(item, "funcargs", {})
    if report.when == "call" and report.failed and "namespace" in fixtures:
        report.sections.append(("the namespace", e2e.evidence(fixtures["cluster"], fixtures["namespace"])))
        log = fixtures.get("tmp_path", Path()) / "operator.log"
        if log.exists():
            report.sections.append(("the operator", log.read_text()[-6000:]))
    return report


@pytest.fixture(scope="session")
def operator_kubeconfig(cluster: NodeCluster, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The operator may do what `deploy/operator.yaml` lets it do, and no more."""
    documents = list(yaml.safe_load_all((REPOSITORY / "deploy/operator.yaml").read_text()))
    cluster.apply(*(one for one in documents if one["kind"] != "Deployment"), namespace=SYSTEM_NAMESPACE)
    return cluster.kubeconfig_of(ACCOUNT, SYSTEM_NAMESPACE, tmp_path_factory.mktemp("account"))


@pytest.fixture
def operator(operator_kubeconfig: Path, namespace: str, tmp_path: Path) -> Iterator[Operator]:
    """An operator that serves the test's namespace."""
    with running_operator(operator_kubeconfig, tmp_path / "operator.log", namespace) as running:
        yield running


@pytest.fixture
def api(cluster: NodeCluster, namespace: str) -> Api:
    """The test's namespace, as the cluster's administrator."""
    return Api(cluster.kubeconfig, namespace)


@pytest.fixture
def data(cluster: NodeCluster, namespace: str) -> Iterator[Path]:
    """The folder behind the claim with model and data; volumes of claims that are gone are offered again afterwards."""
    yield e2e.make_data(cluster, namespace)
    cluster.recycle_volumes()
