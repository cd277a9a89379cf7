"""Each example is trained from end to end: what it names is there, made small, on the Hub and on a claim of the tests."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.cli.manifest_files import read
from finetune_operator.plan.types import PlanSettings
from finetune_trainer.contract import task_facts
from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.contract.training_report import PREDICTIONS_FILE, REPORT_FILE, TrainingReport
from finetune_trainer.prepare.prepare_command import attempt
from tests.support.examples import data
from tests.support.examples.stand_ins import offer
from tests.support.examples.training import train_here
from tests.support.hub_jobs import hub_of_this_process
from tests.support.run_configs import task_config
from tests.support.stub_hub import StubHub, stub_hub

FOLDER = Path(__file__).parents[2] / "examples"
EXAMPLES = sorted(
    path for path in FOLDER.glob("*.yaml") if path.name != "reviews.yaml" and "task" in read(str(path))[0]["spec"]
)
"""The examples with a task, but for the demo, which has tests of its own. Those with a script run the programs of `scripts/`."""
QUICK = {"max_steps": 2, "logging_steps": 1, "save_steps": 1, "save_strategy": "steps", "eval_strategy": "steps"}
IGNORED_HERE = ("num_train_epochs", "fp16")


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StubHub]:
    folder = tmp_path_factory.mktemp("examples")
    with stub_hub() as stub, hub_of_this_process(stub, folder / "cache"):
        offer(stub, folder)
        yield stub


def small(path: Path, hub: StubHub, folder: Path) -> TaskConfig:
    """Return the run that the example's manifest plans, on one rank without an accelerator, two steps long."""
    (manifest,) = read(str(path))
    metadata = {"namespace": "default", "uid": path.stem, "creationTimestamp": "2026-01-01T00:00:00Z"}
    manifest = {**manifest, "metadata": {**manifest["metadata"], **metadata}}
    planned = task_config(FineTuneJob.model_validate(manifest), PlanSettings(trainer_image="trainer:dev"))
    files = {
        split: tuple(name.replace("/data/", f"{folder}/data/") for name in names)
        for split, names in planned.dataset.files.items()
    }
    arguments = {name: value for name, value in planned.training_arguments.items() if name not in IGNORED_HERE}
    changes: dict[str, Any] = {
        "dataset": planned.dataset.model_copy(update={"files": files}),
        "training_arguments": {**arguments, **QUICK, "eval_steps": 1, "warmup_steps": 0},
        "hub": planned.hub.model_copy(update={"endpoint": hub.endpoint}),
        "nodes": 1,
        "accelerators": False,
        "output": str(folder / "output"),
    }
    (folder / "output").mkdir()
    return planned.model_copy(update=changes)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_trains_from_end_to_end(path: Path, hub: StubHub, tmp_path: Path) -> None:
    data.reports(tmp_path / "data")
    config = small(path, hub, tmp_path)
    prepared = attempt(config)
    assert isinstance(prepared, PreparedTask), prepared
    model = train_here(tmp_path / "run", config, prepared)

    report = TrainingReport.model_validate_json((model / REPORT_FILE).read_text())
    assert report.steps == 2
    assert report.evaluation is not None
    assert set(task_facts.metrics(config.task)) - {"gen_len"} <= report.evaluation.keys()
    assert len(report.evaluations) == 2
    weights = "adapter_model.safetensors" if config.peft else "model.safetensors"
    assert (model / weights).stat().st_size > 1000
    if prepared.summary.test_rows:
        lines = (model / PREDICTIONS_FILE).read_text().splitlines()
        assert len(lines) == prepared.summary.test_rows
        assert all({"prediction", "reference"} <= json.loads(line).keys() for line in lines)
        assert report.test


def test_every_task_has_an_example() -> None:
    shown = {read(str(path))[0]["spec"]["task"] for path in EXAMPLES}
    assert shown == set(task_facts.TASKS)
