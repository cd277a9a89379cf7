"""The operator as real Helm installed it into a cluster: upgraded, killed, uninstalled."""

from __future__ import annotations

from pathlib import Path

from tests.support import helm
from tests.support.api import Manifest
from tests.support.cluster.nodes import NodeCluster
from tests.support.commands import wait_for

VALUES: Manifest = {
    "image": {"tag": "dev", "pullPolicy": "Never"},
    "trainer": {"image": {"tag": "dev"}},
    "jobs": {"lostNodeSeconds": 20},
    "progress": {"intervalSeconds": 1},
    "log": {"level": "debug"},
}
"""Values of every installation: the images of this source tree, and short waits."""
LABEL = f"app.kubernetes.io/instance={helm.RELEASE}"
IN_SYSTEM = f"--namespace={helm.SYSTEM_NAMESPACE}"


class InstalledOperator:
    """A release of the chart, for the whole cluster, in a namespace with the restricted Pod Security Standard."""

    def __init__(self, cluster: NodeCluster) -> None:
        self._cluster = cluster
        self._release = helm.Release(cluster.kubeconfig)

    def install(self, **values: object) -> None:
        """Install the chart; block until the operator is ready."""
        self._cluster.apply(helm.SYSTEM)
        self._release.install({**VALUES, **values})

    def upgrade(self, chart: Path = helm.CHART, **values: object) -> None:
        """Upgrade the release; block until the operator is ready again."""
        self._release.upgrade({**VALUES, **values}, chart)

    def uninstall(self) -> None:
        self._release.uninstall()

    def pod(self) -> str:
        """Return the uid of the operator's pod, once there is only one and it is ready."""

        def ready() -> list[str]:
            pods = self._cluster.get("pods", f"--selector={LABEL}", IN_SYSTEM)["items"]
            conditions = [condition for pod in pods for condition in pod["status"].get("conditions", ())]
            good = {"type": "Ready", "status": "True"}
            is_ready = len(pods) == 1 and any(good.items() <= condition.items() for condition in conditions)
            return [pod["metadata"]["uid"] for pod in pods] if is_ready else []

        wait_for("the operator's pod", ready)
        (uid,) = ready()
        return uid

    def kill(self) -> None:
        """Kill the pod at once, without a grace period; the Deployment starts another one."""
        self._cluster.kubectl("delete", "pod", f"--selector={LABEL}", IN_SYSTEM, "--grace-period=0", "--force")

    def log(self, lines: int = 100) -> str:
        """Return the end of the operator's log."""
        asked = ("logs", f"--selector={LABEL}", IN_SYSTEM, f"--tail={lines}")
        return self._cluster.kubectl(*asked, check=False).stdout

    def objects(self) -> list[str]:
        """Return every object of the cluster that carries the release's label, and Helm's own records of it."""
        listed = self._cluster.kubectl("api-resources", "--verbs=list", "--output=name").stdout.split()
        everything = ("get", ",".join(sorted(listed)), "--all-namespaces", "--output=name")
        labelled = self._cluster.kubectl(*everything, f"--selector={LABEL}").stdout.split()
        records = self._cluster.kubectl("get", "secrets", "--output=name", "--selector=owner=helm", IN_SYSTEM)
        return sorted({*labelled, *records.stdout.split()})
