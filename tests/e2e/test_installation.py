"""The operator as administrators install it: what an upgrade, a lost pod and an uninstallation do to a job that runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.support import e2e, helm
from tests.support.api import Api
from tests.support.cluster.nodes import NodeCluster
from tests.support.commands import wait_for
from tests.support.installed import InstalledOperator

ACCOUNT = f"system:serviceaccount:{helm.SYSTEM_NAMESPACE}:{helm.RELEASE}"
STEPS = 1000
"""Steps that take as long as it takes to start two operators."""
DEFINITION = f"customresourcedefinition.apiextensions.k8s.io/{helm.DEFINITION}"


@pytest.mark.usefixtures("data")
def test_a_running_job_does_not_notice_what_becomes_of_the_operator(
    cluster: NodeCluster, operator: InstalledOperator, api: Api, namespace: str, tmp_path: Path
) -> None:
    api.create(e2e.job_manifest("inside", arguments={"max_steps": STEPS, "save_steps": STEPS, "eval_steps": STEPS}))
    with e2e.Story(cluster, namespace, "inside") as story:
        e2e.wait_for_metrics(api, "inside", beyond_step=5)
        pods = _pods(api)
        operators = [operator.pod()]
        operator.kill()
        operators.append(operator.pod())
        operator.upgrade(_with_another_definition(tmp_path), jobs={"gracePeriodSeconds": 60}, concurrency=8)
        operators.append(operator.pod())
        during = story.last["phase"]
        status = story.wait_for("Succeeded")

    assert len(set(operators)) == 3
    assert during == "Running", "the job was over before the operator was replaced"
    assert _pods(api) == pods
    assert status["attempt"] == 1
    assert sum(status["restarts"].values()) == 0
    assert status["progress"]["step"] == STEPS
    assert story.phases.count("Running") == 1
    assert "upgraded" in cluster.kubectl("get", "crd", helm.DEFINITION, "--output=yaml").stdout

    _uninstall(cluster, operator, api, namespace)


def _uninstall(cluster: NodeCluster, operator: InstalledOperator, api: Api, namespace: str) -> None:
    """Uninstall: nothing is left but the definition. Another installation takes it over, with the jobs that are there."""
    assert len(operator.objects()) > 6
    model = cluster.volume_path("inside", namespace) / "inside" / "model" / "model.safetensors"
    children = e2e.children(api)
    try:
        operator.uninstall()
        # what belongs to the Deployment is collected in the background
        wait_for("nothing but the definition", lambda: operator.objects() == [DEFINITION])
        assert e2e.children(api) == children
        assert model.exists()
    finally:
        operator.install()
    job = api.get("FineTuneJob", "inside")
    assert job is not None
    assert job["status"]["phase"] == "Succeeded"


@pytest.mark.parametrize("asked", ["get secrets", "list secrets", "create pods", "delete persistentvolumeclaims"])
def test_the_installed_operator_may_not(cluster: NodeCluster, operator: InstalledOperator, asked: str) -> None:
    verb, resource = asked.split()
    command = ("auth", "can-i", verb, resource, f"--as={ACCOUNT}", "--all-namespaces")
    assert cluster.kubectl(*command, check=False).stdout.strip() == "no"
    may = ("auth", "can-i", "create", "jobs", f"--as={ACCOUNT}", "--all-namespaces")
    assert cluster.kubectl(*may).stdout.strip() == "yes"


def _pods(api: Api) -> dict[str, int]:
    """Map the uid of every pod to how often its container was restarted."""
    return {
        pod["metadata"]["uid"]: sum(container["restartCount"] for container in pod["status"]["containerStatuses"])
        for pod in api.list("Pod")
    }


def _with_another_definition(folder: Path) -> Path:
    """Make the chart of a later version, whose definition has changed."""
    chart = Path(shutil.copytree(helm.CHART, folder / helm.CHART.name))
    template = chart / "templates" / f"{helm.DEFINITION}.yaml"
    before, kind, after = template.read_text().partition("    shortNames:\n")
    template.write_text(f"{before}{kind}    - upgraded\n{after}")
    return chart
