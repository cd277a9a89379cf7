"""Metrics that are not finite, by every way that a number takes: left out with a word, and the model is sealed all the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract.records import Outcome
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.contract.training_report import REPORT_FILE, TrainingReport
from finetune_trainer.shared.checkpoints import manifest
from tests.support.labelled import ratings
from tests.support.launched import Launches
from tests.support.tiny import tiny_bert, write_rows

REAL = "import sys; from finetune_trainer.__main__ import main; sys.exit(main(['launch']))"


class Ratings(Launches):
    """A node that trains a tiny model on numbers. A number of the validation data is so large that its error is infinite."""

    def config(self) -> TaskConfig:
        roles = ("train", "validation", "test")
        files = {role: (str(self.folder / f"{role}.jsonl"),) for role in roles}
        fields: dict[str, Any] = {
            "prepare": "inline",
            "problem_type": "regression",
            "model": {"name": str(self.folder / "model")},
            "dataset": {"files": files, "columns": {"text": "review", "label": "score"}},
        }
        return TaskConfig.model_validate(super().config().model_dump() | fields)


def strictly(file: Path) -> Any:
    """Read a file of JSON as others read it, for whom NaN and Infinity are no words."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{file.name} holds {word}")

    return json.loads(file.read_text(encoding="utf-8"), parse_constant=refuse)


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("ratings")
    write_rows(folder / "train.jsonl", ratings(48))
    for seed, role in enumerate(("validation", "test"), 1):
        write_rows(folder / f"{role}.jsonl", [*ratings(12, seed=seed), {"review": "soup", "score": 1e25}])
    tiny_bert(folder / "model")
    arguments = {
        "max_steps": 8,
        "per_device_train_batch_size": 4,
        "eval_strategy": "steps",
        "eval_steps": 4,
        "metric_for_best_model": "loss",
        "load_best_model_at_end": True,
    }
    launches = Ratings(folder, arguments=arguments, start_code=REAL)
    yield launches
    launches.close()


def test_a_metric_that_is_infinite_costs_neither_reports_nor_the_model(job: Ratings) -> None:
    (record,) = job.run()
    text = job.started[0].text()
    assert record.outcome is Outcome.SUCCEEDED, text
    assert "progress was not delivered" not in text
    assert record.evaluation is not None
    assert record.evaluation.keys() == {"pearson", "test_pearson"}

    progress = " ".join(record.messages)
    for what in ("The evaluation at step 4", "The test split"):
        assert f"{what}: loss (inf), mse (inf) are no finite numbers and are left out." in progress
    assert "No evaluation gave a finite number for loss: the weights of the last step are kept." in progress

    attempt = job.layout.run.attempt(1)
    sealed = manifest.read(attempt.model)
    assert sealed is not None
    assert sealed.evaluation == record.evaluation
    report = TrainingReport.model_validate(strictly(attempt.model / REPORT_FILE))
    assert [evaluation.metrics.keys() for evaluation in report.evaluations] == [{"pearson"}, {"pearson"}]
    assert report.test is not None
    assert report.test.keys() == {"pearson"}
    state = strictly(attempt.checkpoint(8) / "trainer_state.json")
    assert [entry["eval_mse"] for entry in state["log_history"] if "eval_mse" in entry] == [None, None]
