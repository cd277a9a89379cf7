"""Nodes that do not answer the control plane while their containers train on, as when it is cut off or kubelets restart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tests.support import e2e
from tests.support.api import Api, Manifest
from tests.support.cluster.nodes import NodeCluster
from tests.support.commands import wait_for
from tests.support.installed import VALUES, InstalledOperator
from tests.support.jobs import condition, status

JOB = "cut-off"
PATIENCE = timedelta(seconds=VALUES["jobs"]["lostNodeSeconds"])
pytestmark = pytest.mark.usefixtures("data")


def silent_since(cluster: NodeCluster) -> list[datetime]:
    """Return when each node that does not answer was found not to."""
    ready = [
        condition
        for node in cluster.get("nodes")["items"]
        for condition in node["status"]["conditions"]
        if condition["type"] == "Ready"
    ]
    return [
        datetime.fromisoformat(condition["lastTransitionTime"]) for condition in ready if condition["status"] != "True"
    ]


def keep_all_nodes(cluster: NodeCluster) -> None:
    """Take away what makes the cluster give up a node.

    Where all are silent the node controller gives up none. But one that it was about to taint at that very moment keeps
    its taint (the removal trusts a copy of the node from before), and its pods are evicted.
    """
    for node in cluster.get("nodes")["items"]:
        for taint in node["spec"].get("taints", []):
            if taint["effect"] == "NoExecute":
                cluster.kubectl("taint", "nodes", node["metadata"]["name"], f"{taint['key']}:NoExecute-")


def test_an_attempt_goes_on_while_no_node_answers_the_control_plane(
    cluster: NodeCluster, operator: InstalledOperator, api: Api
) -> None:
    operator.pod()
    api.create(
        e2e.job_manifest(JOB, nodes=1, arguments={"max_steps": 100_000, "save_steps": 50_000, "eval_steps": 50_000})
    )
    e2e.wait_for_metrics(api, JOB, beyond_step=1)

    def progress() -> Manifest:
        reported: Manifest = status(api, JOB).get("progress") or {}
        return reported

    with cluster.silent(cluster.nodes):
        wait_for("all nodes are silent", lambda: len(silent_since(cluster)) == len(cluster.nodes))
        wait_for("the job says so", lambda: condition(api, "Running", JOB).get("reason") == "NodeSilent")
        keep_all_nodes(cluster)
        running = condition(api, "Running", JOB)
        assert (running["status"], "training goes on" in running["message"]) == ("True", True)
        over = max(silent_since(cluster)) + PATIENCE
        wait_for("a silent node's time is over", lambda: datetime.now(UTC) > over)
        step = progress()["step"]
        wait_for("steps are made and told", lambda: progress()["step"] > step)
    wait_for("all is well again", lambda: condition(api, "Running", JOB).get("reason") == "Training")
    step = progress()["step"]
    wait_for("steps are made and told", lambda: progress()["step"] > step)
    assert (status(api, JOB)["attempt"], status(api, JOB)["phase"]) == (1, "Running")
    assert not any(status(api, JOB)["restarts"].values())
    pod = e2e.node_pod(api, JOB, 0, attempt=1)
    assert "deletionTimestamp" not in pod["metadata"]
