"""What a lost pod and a deleted job cost, on two real nodes, with the real image."""

from __future__ import annotations

import pytest

from tests.support import e2e
from tests.support.api import Api
from tests.support.cluster.nodes import NodeCluster
from tests.support.installed import InstalledOperator

pytestmark = pytest.mark.usefixtures("data")


def test_deleted_pod_costs_steps_since_checkpoint(
    cluster: NodeCluster, operator: InstalledOperator, api: Api, namespace: str
) -> None:
    """A pod that is deleted costs no more than the steps since the checkpoint."""
    calm = e2e.run_undisturbed(cluster, api, namespace, "calm")
    api.create(e2e.job_manifest("deleted"))
    with e2e.Story(cluster, namespace, "deleted") as story:
        volume = cluster.volume_path("deleted", namespace)
        sealed = e2e.wait_for_checkpoint(volume, "deleted", attempt=1)
        victim = e2e.node_pod(api, "deleted", node=1, attempt=1)
        api.delete("Pod", victim["metadata"]["name"])
        status = story.wait_for("Succeeded")

    first, second = (e2e.attempt_folder(volume, "deleted", attempt) for attempt in (1, 2))
    assert status["attempt"] == 2
    assert status["restarts"] == {"preemption": 1, "node": 0, "error": 0, "volume": 0}
    assert e2e.is_in_order(story.phases, e2e.NEVER_BACKWARDS), story.phases
    assert story.phases.count("Restarting") <= 1
    assert sealed.parent.parent == first
    assert status["resumedFrom"]["step"] >= e2e.SAVE_STEPS
    steps = [step for step, _ in e2e.losses(second / "checkpoints" / f"checkpoint-{e2e.STEPS}")]
    assert steps == list(range(1, e2e.STEPS + 1))
    weights = second / "model" / "model.safetensors"
    assert weights.read_bytes() == (calm / "model" / "model.safetensors").read_bytes()


def test_deleting_a_job_leaves_its_model_and_nothing_else(
    cluster: NodeCluster, operator: InstalledOperator, api: Api, namespace: str
) -> None:
    finished = e2e.run_undisturbed(cluster, api, namespace, "kept", max_steps=2)
    api.create(e2e.job_manifest("stopped"))
    e2e.wait_for_metrics(api, "stopped", beyond_step=1)

    cluster.kubectl("delete", "finetunejob", "kept", "stopped", f"--namespace={namespace}")

    e2e.wait_until_only(api, {"PersistentVolumeClaim": sorted(["kept", "stopped", e2e.DATA_CLAIM])})
    assert (finished / "model" / "model.safetensors").exists()
