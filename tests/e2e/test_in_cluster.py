"""The operator as users install it: from `deploy/`, inside the cluster, with its own service account."""

from __future__ import annotations

import pytest
import yaml

from tests.support import e2e
from tests.support.api import Api
from tests.support.cluster.client import REPOSITORY
from tests.support.cluster.nodes import NodeCluster

ACCOUNT = "system:serviceaccount:finetune-system:finetune-operator"


@pytest.mark.usefixtures("data")
@pytest.mark.timeout(600)
def test_the_installed_operator_trains_a_job(cluster: NodeCluster, api: Api, namespace: str) -> None:
    manifests = REPOSITORY / "deploy" / "operator.yaml"
    (deployment,) = (one for one in yaml.safe_load_all(manifests.read_text()) if one["kind"] == "Deployment")
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", manifests)
    name = f"deployment/{deployment['metadata']['name']}"
    system = f"--namespace={deployment['metadata']['namespace']}"
    try:
        cluster.kubectl("rollout", "status", name, system, "--timeout=60s")
        api.create(e2e.job_manifest("inside", arguments={"max_steps": 20}))
        with e2e.Story(cluster, namespace, "inside") as story:
            status = story.wait_for("Succeeded")
        forbidden = cluster.kubectl(
            "auth", "can-i", "get", "secrets", f"--as={ACCOUNT}", "--all-namespaces", check=False
        )
    finally:
        cluster.kubectl("delete", name, system, "--wait")

    assert status["attempt"] == 1
    assert status["progress"]["step"] == 20
    assert forbidden.stdout.strip() == "no"
