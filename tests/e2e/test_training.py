"""From `kubectl apply` to a model, on two real nodes, with the real image."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import e2e, tiny
from tests.support.api import Api
from tests.support.cluster.nodes import NodeCluster
from tests.support.operator import Operator

pytestmark = [pytest.mark.usefixtures("data"), pytest.mark.timeout(900)]
NEVER_BACKWARDS = ["Pending", "Preparing", "Starting", "Running", "Restarting", "Starting", "Running", "Succeeded"]


def test_a_pod_that_is_deleted_costs_no_more_than_the_steps_since_the_checkpoint(
    cluster: NodeCluster, operator: Operator, api: Api, namespace: str
) -> None:
    calm = _run_undisturbed(cluster, api, namespace, "calm")
    api.create(e2e.job_manifest("deleted"))
    with e2e.Story(cluster, namespace, "deleted") as story:
        volume = cluster.volume_path("deleted", namespace)
        sealed = e2e.wait_for_checkpoint(volume, "deleted", attempt=1)
        victim = e2e.node_pod(api, "deleted", node=1, attempt=1)
        api.delete("Pod", victim["metadata"]["name"])
        status = story.wait_for("Succeeded")

    first, second = (e2e.attempt_folder(volume, "deleted", attempt) for attempt in (1, 2))
    assert status["attempt"] == 2
    assert status["restarts"] == {"preemption": 1, "node": 0, "error": 0, "hang": 0}
    assert _is_in_order(story.phases, NEVER_BACKWARDS), story.phases
    assert story.phases.count("Restarting") <= 1
    assert sealed.parent.parent == first
    assert status["resumedFrom"]["step"] >= e2e.SAVE_STEPS
    steps = [step for step, _ in e2e.losses(second / "checkpoints" / f"checkpoint-{e2e.STEPS}")]
    assert steps == list(range(1, e2e.STEPS + 1))
    weights = second / "model" / "model.safetensors"
    assert weights.read_bytes() == (calm / "model" / "model.safetensors").read_bytes()


def test_two_nodes_train_as_one_world_and_tell_the_truth(
    cluster: NodeCluster, operator: Operator, api: Api, namespace: str
) -> None:
    api.create(e2e.job_manifest("two"))
    with e2e.Story(cluster, namespace, "two") as story:
        scraped = e2e.wait_for_metrics(api, "two", beyond_step=20)
        status = story.wait_for("Succeeded")
    volume = cluster.volume_path("two", namespace)
    logged = dict(e2e.losses(e2e.attempt_folder(volume, "two", 1) / "checkpoints" / f"checkpoint-{e2e.STEPS}"))

    assert _is_in_order(story.phases, NEVER_BACKWARDS), story.phases
    assert story.phases[-2:] == ["Running", "Succeeded"]
    assert status["progress"]["step"] == status["progress"]["totalSteps"] == e2e.STEPS
    assert status["resolved"]["precision"] == "fp32"
    assert scraped["finetune_max_steps"] == e2e.STEPS
    assert _is_mean_of_last(scraped["finetune_train_loss"], logged, int(scraped["finetune_global_step"]))
    assert e2e.accuracy(volume / "two" / "model", tiny.reviews(100, seed=2)) == pytest.approx(
        status["evaluation"]["accuracy"]
    )
    alone = _run_undisturbed(cluster, api, namespace, "one", nodes=1, batch=2 * e2e.BATCH, max_steps=1)
    assert e2e.losses(alone / "checkpoints" / "checkpoint-1")[0][1] == pytest.approx(logged[1], abs=1e-5)


def test_deleting_a_job_leaves_its_model_and_nothing_else(
    cluster: NodeCluster, operator: Operator, api: Api, namespace: str
) -> None:
    finished = _run_undisturbed(cluster, api, namespace, "kept", max_steps=2)
    api.create(e2e.job_manifest("stopped"))
    e2e.wait_for_metrics(api, "stopped", beyond_step=1)

    cluster.kubectl("delete", "finetunejob", "kept", "stopped", f"--namespace={namespace}")

    e2e.wait_until_only(api, {"PersistentVolumeClaim": sorted(["kept", "stopped", e2e.DATA_CLAIM])})
    assert (finished / "model" / "model.safetensors").exists()


def test_an_operator_that_is_killed_changes_nothing_but_its_pid(
    cluster: NodeCluster, operator: Operator, operator_kubeconfig: Path, api: Api, namespace: str, tmp_path: Path
) -> None:
    from tests.support.operator import running_operator

    api.create(e2e.job_manifest("calm"))
    with e2e.Story(cluster, namespace, "calm") as story:
        e2e.wait_for_metrics(api, "calm", beyond_step=10)
        before = {pod["metadata"]["uid"] for pod in api.list("Pod")}
        operator.kill()
        with running_operator(operator_kubeconfig, tmp_path / "second.log", namespace):
            status = story.wait_for("Succeeded")

    assert {pod["metadata"]["uid"] for pod in api.list("Pod")} == before
    assert status["attempt"] == 1
    assert sum(status["restarts"].values()) == 0
    assert story.phases.count("Running") == 1


def _run_undisturbed(
    cluster: NodeCluster,
    api: Api,
    namespace: str,
    name: str,
    *,
    nodes: int = 2,
    batch: int = e2e.BATCH,
    **arguments: int,
) -> Path:
    """Run a job to its end; the folder of its only attempt."""
    saving = {"save_steps": 1} if arguments else {}
    api.create(e2e.job_manifest(name, nodes=nodes, batch=batch, arguments={**arguments, **saving}))
    with e2e.Story(cluster, namespace, name) as story:
        status = story.wait_for("Succeeded")
    assert status["attempt"] == 1
    return e2e.attempt_folder(cluster.volume_path(name, namespace), name, 1)


def _is_in_order(seen: list[str], allowed: list[str]) -> bool:
    """Whether the phases seen are some of the allowed ones, in their order."""
    rest = iter(allowed)
    return all(phase in rest for phase in seen)


def _is_mean_of_last(reported: float, logged: dict[int, float], step: int) -> bool:
    """Whether this is the mean loss of the last steps, however many, up to a step."""
    means = (sum(logged[step - back] for back in range(count)) / count for count in range(1, step + 1))
    return any(mean == pytest.approx(reported, abs=1e-4) for mean in means)
