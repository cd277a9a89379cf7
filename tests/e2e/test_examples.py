"""Examples as they are applied, in pods of the real image: what a task needs is in it, and works without being root.

Of the manifests only what this machine has no room for is changed: accelerators, the storage class, the length of the
training. `tests/training/test_examples.py` trains all of them, without a cluster.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finetune_operator.cli.manifest_files import read
from finetune_trainer.contract import task_facts
from finetune_trainer.contract.training_report import PREDICTIONS_FILE
from tests.support import e2e
from tests.support.api import Api, Manifest
from tests.support.cluster.manifests import CONTROL_ADDRESS
from tests.support.cluster.nodes import NodeCluster
from tests.support.examples.stand_ins import offer
from tests.support.installed import InstalledOperator
from tests.support.stub_hub import StubHub, stub_hub

FOLDER = Path(__file__).parents[2] / "examples"
NAMES = ("chat-lora", "ner", "summarize-cnn", "translation")
"""Examples that need, between them, every library that only some tasks do: peft, seqeval, rouge_score, sacrebleu."""
SHORT = {"max_steps": 2, "logging_steps": 1, "eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps"}
NOT_HERE = ("num_train_epochs", "fp16", "warmup_steps")


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[StubHub]:
    with stub_hub(CONTROL_ADDRESS) as hub:
        offer(hub, tmp_path)
        yield hub


def small(name: str, hub: StubHub) -> Manifest:
    """An example for a machine without accelerators."""
    (manifest,) = read(str(FOLDER / f"{name}.yaml"))
    spec: dict[str, Any] = manifest["spec"]
    arguments = {key: value for key, value in spec["trainingArguments"].items() if key not in NOT_HERE}
    changes = {
        "trainingArguments": {**arguments, **SHORT, "save_steps": 2},
        "hub": {"endpoint": hub.endpoint},
        "nodes": 1,
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "storage": {"size": "1Gi", "accessMode": "ReadWriteMany"},
    }
    return {**manifest, "spec": {**spec, **changes}}


def test_examples_train_in_the_real_image(
    cluster: NodeCluster, operator: InstalledOperator, api: Api, namespace: str, hub: StubHub
) -> None:
    jobs = [small(name, hub) for name in NAMES]
    for job in jobs:
        api.create(job)
    for job in jobs:
        name, task = job["metadata"]["name"], job["spec"]["task"]
        with e2e.Story(cluster, namespace, name) as story:
            status = story.wait_for("Succeeded")
        assert (status["attempt"], status["progress"]["step"]) == (1, 2)
        assert set(task_facts.metrics(task)) <= status["evaluation"].keys()
        model = cluster.volume_path(name, namespace) / name / "model"
        weights = "adapter_model.safetensors" if "peft" in job["spec"] else "model.safetensors"
        assert (model / weights).stat().st_size > 1000
        if "test" in job["spec"]["dataset"].get("splits", {}):
            predictions = [json.loads(line) for line in (model / PREDICTIONS_FILE).read_text().splitlines()]
            assert all({"prediction", "reference"} <= prediction.keys() for prediction in predictions)
            assert predictions
    cluster.recycle_volumes()
