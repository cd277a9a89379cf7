"""What the end-to-end tests share: the operator as Helm installs it, namespaces with restricted Pod Security, data."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from tests.support import e2e, helm
from tests.support.api import Api
from tests.support.cluster.nodes import NodeCluster
from tests.support.installed import InstalledOperator
from tests.support.patience import PATIENCE_SECONDS


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what was in the namespace of a test that fails: afterwards nobody can look."""
    report = yield
    fixtures = getattr(item, "funcargs", {})
    if report.when == "call" and report.failed and "namespace" in fixtures:
        report.sections.append(("the namespace", e2e.evidence(fixtures["cluster"], fixtures["namespace"])))
        if "operator" in fixtures:
            report.sections.append(("the operator", fixtures["operator"].log()))
    return report


@pytest.fixture(scope="session")
def operator(cluster: NodeCluster) -> InstalledOperator:
    """The operator, installed by Helm for the whole cluster, the definition with it."""
    cluster.kubectl("delete", "crd", helm.DEFINITION, f"--timeout={PATIENCE_SECONDS:.0f}s")
    installed = InstalledOperator(cluster)
    installed.install()
    return installed


@pytest.fixture
def namespace(cluster: NodeCluster, namespace: str) -> str:
    """The namespace of the jobs, which refuses every pod that could do more than it must."""
    labels = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
    cluster.kubectl("label", "namespace", namespace, *labels)
    return namespace


@pytest.fixture
def api(cluster: NodeCluster, namespace: str) -> Api:
    """The API in the test's namespace, as the cluster's administrator."""
    return Api(cluster.kubeconfig, namespace)


@pytest.fixture
def data(cluster: NodeCluster, namespace: str) -> Iterator[Path]:
    """The folder behind the claim with model and data; volumes of claims that are gone are offered again afterwards."""
    yield e2e.make_data(cluster, namespace)
    cluster.recycle_volumes()
