"""The chart under real Helm: linted, rendered, installed, upgraded, uninstalled."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import helm_python
import yaml

from tests.support.api import Manifest
from tests.support.cluster.client import REPOSITORY
from tests.support.patience import PATIENCE_SECONDS

CHART = REPOSITORY / "charts" / "finetune-operator"
RELEASE = "finetune-operator"
"""Name of the release, and so of its objects and of its service account."""
SYSTEM_NAMESPACE = "finetune-system"
SYSTEM: Manifest = {
    "apiVersion": "v1",
    "kind": "Namespace",
    "metadata": {"name": SYSTEM_NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
}
DEFINITION = "finetunejobs.finetune.dev"
RBAC = frozenset({"ServiceAccount", "ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"})

ValuesRefused = helm_python.HelmValuesError
HelmFailed = helm_python.HelmError


def render(values: Manifest | None = None, *, name: str = RELEASE, chart: Path = CHART) -> list[Manifest]:
    """Return the objects that `helm template` prints."""
    with helm_python.Chart.load(chart) as loaded:
        files = loaded.render(values, name=name, namespace=SYSTEM_NAMESPACE)
    texts = [text for file, text in sorted(files.items()) if not file.endswith("NOTES.txt")]
    return [document for text in texts for document in yaml.safe_load_all(text) if document]


def notes(values: Manifest | None = None) -> str:
    """Return Helm's notes after an installation."""
    with helm_python.Chart.load(CHART) as loaded:
        return loaded.render(values, name=RELEASE, namespace=SYSTEM_NAMESPACE)[f"{CHART.name}/templates/NOTES.txt"]


def rights(values: Manifest | None = None) -> list[Manifest]:
    """Return the service account of a release and its rights."""
    return [document for document in render(values) if document["kind"] in RBAC]


def lint(values: Manifest | None = None) -> list[str]:
    """Return the objections of `helm lint --strict`."""
    report = helm_python.lint(CHART, values, strict=True)
    errors: list[str] = report["errors"]
    return [*(finding["error"] for finding in report["messages"] if finding["severity"] > 1), *errors]


class Release:
    """A release of the chart in a cluster."""

    def __init__(self, kubeconfig: Path, namespace: str = SYSTEM_NAMESPACE, name: str = RELEASE) -> None:
        self.name = name
        self.namespace = namespace
        self._kubeconfig = kubeconfig

    def install(self, values: Manifest, chart: Path = CHART) -> None:
        with self._helm() as helm:
            helm.install(str(chart), self.name, values, wait="watcher", timeout=int(PATIENCE_SECONDS))

    def upgrade(self, values: Manifest, chart: Path = CHART) -> None:
        with self._helm() as helm:
            helm.upgrade(str(chart), self.name, values, wait="watcher", timeout=int(PATIENCE_SECONDS))

    def uninstall(self) -> None:
        with self._helm() as helm:
            helm.uninstall(self.name, wait="watcher", timeout=int(PATIENCE_SECONDS))

    @contextmanager
    def _helm(self) -> Iterator[Any]:
        with helm_python.Config(kubeconfig_path=str(self._kubeconfig), namespace=self.namespace) as helm:
            yield helm
