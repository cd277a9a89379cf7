"""Programs of a user's own on two real nodes, with the real image: after a deleted pod the result is that of an undisturbed run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import e2e
from tests.support.api import Api, Manifest
from tests.support.cluster.nodes import NodeCluster
from tests.support.commands import wait_for
from tests.support.installed import InstalledOperator

pytestmark = pytest.mark.usefixtures("data")
PROGRAMS = Path(__file__).parents[2] / "examples" / "scripts"
SAVE_STEPS = 120
ARGUMENTS = {
    "native_loop.py": (
        "--model=/data/model",
        "--train_file=$(DATA_DIR)/train.csv",
        "--validation_file=$(DATA_DIR)/validation.csv",
        "--epochs=24",
        "--batch_size=16",
        f"--save_steps={SAVE_STEPS}",
    ),
}


def script_job(name: str, program: str) -> Manifest:
    """Return a job that runs an example program on the data of `e2e.make_data`."""
    job = e2e.job_manifest(name)
    for field in ("task", "model", "preprocessing", "trainingArguments"):
        del job["spec"][field]
    del job["spec"]["dataset"]["columns"]
    code = {"name": "code", "key": program}
    job["spec"]["script"] = {"configMap": code, "args": ARGUMENTS[program], "outputs": {"model": "final"}}
    return job


def offer_code(api: Api) -> None:
    """Make the ConfigMap with all programs."""
    files = {path.name: path.read_text(encoding="utf-8") for path in PROGRAMS.glob("*.py")}
    api.create({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "code"}, "data": files})


@pytest.mark.parametrize("program", ARGUMENTS)
def test_a_program_goes_on_after_a_deleted_pod(
    program: str, cluster: NodeCluster, operator: InstalledOperator, api: Api, namespace: str
) -> None:
    offer_code(api)
    api.create(script_job("calm", program))
    with e2e.Story(cluster, namespace, "calm") as story:
        undisturbed = story.wait_for("Succeeded")

    api.create(script_job("deleted", program))
    with e2e.Story(cluster, namespace, "deleted") as story:
        volume = cluster.volume_path("deleted", namespace)
        e2e.wait_for_checkpoint(volume, "deleted", attempt=1)
        wait_for("progress in status", lambda: (story.last.get("progress") or {}).get("step"))
        victim = e2e.node_pod(api, "deleted", node=1, attempt=1)
        api.delete("Pod", victim["metadata"]["name"])
        status = story.wait_for("Succeeded")

    assert undisturbed["attempt"] == 1
    assert undisturbed["progress"]["step"] == undisturbed["progress"]["totalSteps"]
    assert (status["attempt"], status["restarts"]["preemption"]) == (2, 1)
    assert status["resumedFrom"]["step"] >= SAVE_STEPS
    assert status["evaluation"] == undisturbed["evaluation"]
    first, second = (
        e2e.attempt_folder(cluster.volume_path(name, namespace), name, attempt) / "model" / "model.safetensors"
        for name, attempt in (("calm", 1), ("deleted", 2))
    )
    assert first.read_bytes() == second.read_bytes()
