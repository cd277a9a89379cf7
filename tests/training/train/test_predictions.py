"""A test split: predicted once the weights are known, in the order of the data, beside the model and never uploaded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from finetune_trainer import tasks
from finetune_trainer.contract.task_facts import TASKS
from finetune_trainer.contract.training_report import PREDICTIONS_FILE, REPORT_FILE
from finetune_trainer.shared.launch_client import LaunchError
from finetune_trainer.tasks import Task
from finetune_trainer.train import predict, strict_json
from tests.support import ranks
from tests.support.published import Publishing, seal_model
from tests.support.ranks import Finished, run_ranks
from tests.support.runs import run_config
from tests.support.stub_hub import TOKEN, stub_hub
from tests.support.tiny import Row, reviews, tiny_bert, write_rows

ROWS = 3001


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return reviews(ROWS, seed=2)


@pytest.fixture(scope="module")
def attempts(tmp_path_factory: pytest.TempPathFactory, rows: list[Row]) -> tuple[Finished, Finished]:
    """Run a rank that is killed while it predicts, and one that goes on from its last checkpoint."""
    folder = tmp_path_factory.mktemp("predictions")
    files = {
        "train": [str(write_rows(folder / "train.csv", reviews(203)))],
        "test": [str(write_rows(folder / "test.jsonl", rows))],
    }
    config = run_config(
        folder / "output",
        model=tiny_bert(folder / "initial"),
        dataset={"files": files},
        arguments={
            "max_steps": 40,
            "per_device_train_batch_size": 16,
            "learning_rate": 1e-2,
            "save_strategy": "steps",
            "save_steps": 20,
            "per_device_eval_batch_size": 2,
            "dataloader_drop_last": True,
        },
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranks.PlayedLaunch, "post", _killing_when_it_evaluates(ranks.PlayedLaunch.post))
        killed = run_ranks(folder / "killed", config)
    assert killed.checkpoint(40).is_dir(), killed.output
    resumed = run_ranks(folder / "resumed", config, resume=killed.checkpoint(40))
    return killed, resumed


def _killing_when_it_evaluates(post: Any) -> Any:
    def heard(launch: Any, path: str, body: dict[str, Any]) -> None:
        post(launch, path, body)
        if body.get("phase") == "evaluating" and launch.process.poll() is None:
            ranks.kill(launch.process)

    return heard


def test_a_kill_while_predicting_leaves_the_last_checkpoint_and_no_model(attempts: tuple[Finished, Finished]) -> None:
    killed, _ = attempts
    assert killed.returncode != 0
    assert killed.checkpoint(40).is_dir()
    assert killed.heard.models == []
    assert not (killed.model / PREDICTIONS_FILE).exists()


def test_the_next_attempt_predicts_all_rows_in_their_order(
    attempts: tuple[Finished, Finished], rows: list[Row]
) -> None:
    _, resumed = attempts
    assert resumed.returncode == 0, resumed.output
    predictions = resumed.predictions
    assert [(row["text"], row["reference"]) for row in predictions] == [(row["review"], row["stars"]) for row in rows]
    (handed,) = resumed.heard.models
    assert {PREDICTIONS_FILE, REPORT_FILE, "model.safetensors"} <= set(handed["files"])


def test_metrics_of_the_test_split_are_told_everywhere(attempts: tuple[Finished, Finished]) -> None:
    _, resumed = attempts
    report, predictions = resumed.report, resumed.predictions
    assert report.evaluation is None, "there was no validation split"
    assert report.test is not None
    assert report.test["accuracy"] == pytest.approx(
        sum(row["prediction"] == row["reference"] for row in predictions) / ROWS
    )
    assert report.test["accuracy"] > 0.7
    named = {f"test_{name}": value for name, value in report.test.items()}
    assert resumed.heard.results[0]["evaluation"] == named
    assert resumed.heard.models[0]["evaluation"] == named
    assert resumed.heard.last("evaluation") == named


def test_predictions_are_never_uploaded(attempts: tuple[Finished, Finished], tmp_path: Path) -> None:
    _, resumed = attempts
    with stub_hub() as hub:
        publishing = Publishing(tmp_path, hub.endpoint, TOKEN)
        seal_model(publishing.layout, {path.name: path.read_bytes() for path in resumed.model.iterdir()}, whole=True)
        publishing.run(publish={"private": True}, model={"name": "/models/tiny"}, dataset={"files": {"train": ["/d"]}})
        uploaded = set(hub.models["me/reviews"].files())
    assert "model.safetensors" in uploaded
    assert uploaded.isdisjoint({PREDICTIONS_FILE, REPORT_FILE})
    assert not any(PREDICTIONS_FILE in line for line in publishing.messages)


@pytest.mark.parametrize("name", TASKS)
def test_every_task_predicts(name: str) -> None:
    assert type(tasks.find(name)).predictions is not Task.predictions


def test_test_metrics_stand_beside_validation_metrics() -> None:
    """Metrics of the test split stand beside those of the validation split."""
    assert predict.Tested().beside({"loss": 1.0}) == {"loss": 1.0}
    assert predict.Tested().beside(None) is None
    assert predict.Tested({"loss": 2.0}).beside({"loss": 1.0}) == {"loss": 1.0, "test_loss": 2.0}
    assert predict.Tested({"loss": 2.0}).beside(None) == {"test_loss": 2.0}


def test_a_line_is_json_whatever_a_task_tells(tmp_path: Path) -> None:
    row: Row = {
        "text": "süß\u2028\n",
        "prediction": np.int64(3),
        "scores": np.array([0.5, np.nan], np.float32),
        "spread": {"from": float("-inf"), "to": (1, None)},
    }
    predict.write(tmp_path / "model" / PREDICTIONS_FILE, iter([row, {"text": "b"}]))
    lines = (tmp_path / "model" / PREDICTIONS_FILE).read_text(encoding="utf-8").split("\n")
    assert [json.loads(line) for line in lines[:-1]] == [
        {"text": "süß\u2028\n", "prediction": 3, "scores": [0.5, None], "spread": {"from": None, "to": [1, None]}},
        {"text": "b"},
    ]
    assert lines[-1] == ""
    assert strict_json.as_json(()) == []


def test_predictions_that_fail_in_the_middle_leave_no_file(tmp_path: Path) -> None:
    def rows() -> Iterator[Row]:
        yield {"text": "a"}
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        predict.write(tmp_path / "model" / PREDICTIONS_FILE, rows())
    assert list((tmp_path / "model").iterdir()) == []


def test_after_training_what_cannot_be_scored_is_said_and_costs_no_model(tmp_path: Path) -> None:
    """A score that fails on rank 0, whatever is wrong with it: here there are more predictions than labels."""
    config = run_config(tmp_path / "output", model="/model")
    messages: list[str] = []
    evaluated = SimpleNamespace(predictions=(np.zeros(3), np.zeros(3)), label_ids=np.zeros(2))
    data = SimpleNamespace(data=str(tmp_path), label_names=("bad", "good"))
    run: Any = SimpleNamespace(config=config, prepared=data)
    rows: Any = ()
    judge = predict.Judge(tasks.find(config.task), run, rows, tell=messages.append)
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        judge(evaluated)
    judge.over = True
    assert judge(evaluated) == {}
    assert judge.details() == {}
    assert [message.partition(" could not be made (ValueError: ")[0] for message in messages] == [
        "The metrics of the last evaluation",
        "The details of the last evaluation",
    ]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), LaunchError("launch does not answer")])
def test_predictions_without_volume_or_launch_end_attempt(error: Exception) -> None:
    """After training, a volume or a `launch` that is gone ends the attempt."""

    def make() -> None:
        raise error

    with pytest.raises(type(error)):
        predict.kept_without("metrics", make, None, print)
