"""A metric that is not finite is left out of every document, so that none is refused for it."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest

from finetune_trainer.contract.frozen_document import Document, left_out
from finetune_trainer.contract.launch_protocol import RankModel, RankProgress, RankResult
from finetune_trainer.contract.records import Outcome, PodPhase, Progress, ResultRecord
from finetune_trainer.contract.training_report import Evaluation, TrainingReport
from finetune_trainer.shared.checkpoints.manifest import Manifest

NOW = datetime(2026, 1, 1, tzinfo=UTC)
MEASURED = {"loss": math.nan, "mse": math.inf, "perplexity": -math.inf, "accuracy": 0.5}
REPORT: dict[str, Any] = {
    "task": "text-classification",
    "started": NOW,
    "finished": NOW,
    "steps": 1,
    "epochs": 1.0,
    "world_size": 1,
    "global_batch_size": 8,
    "precision": "fp32",
    "hardware": "CPU (1 rank)",
    "versions": {},
    "training_arguments": {},
}
DOCUMENTS: dict[str, tuple[type[Document], str, dict[str, Any]]] = {
    "report of a rank": (RankProgress, "evaluation", {"loss": math.nan}),
    "model": (RankModel, "evaluation", {"files": (), "step": 1}),
    "result of a rank": (RankResult, "evaluation", {"rank": 0, "outcome": Outcome.SUCCEEDED}),
    "record": (
        ResultRecord,
        "evaluation",
        {"role": "train", "uid": "u", "attempt": 1, "outcome": Outcome.SUCCEEDED, "started": NOW, "finished": NOW},
    ),
    "progress": (Progress, "evaluation", {"uid": "u", "attempt": 1, "phase": PodPhase.TRAINING, "loss": math.inf}),
    "manifest": (Manifest, "evaluation", {"step": 1, "attempt": 1, "world_size": 1, "time": NOW, "files": {}}),
    "evaluation of the report": (Evaluation, "metrics", {"step": 1, "epoch": 1.0}),
    "last evaluation of the report": (TrainingReport, "evaluation", REPORT),
    "test of the report": (TrainingReport, "test", REPORT),
}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_a_metric_that_is_not_finite_is_left_out(name: str) -> None:
    kind, field, others = DOCUMENTS[name]
    document = kind.model_validate({**others, field: MEASURED})
    assert getattr(kind.model_validate_json(document.to_json()), field) == {"accuracy": 0.5}


def test_a_null_of_an_older_writer_is_no_metric() -> None:
    progress = RankProgress.model_validate_json('{"evaluation": {"loss": null, "accuracy": 0.5}}')
    assert progress.evaluation == {"accuracy": 0.5}


def test_what_is_left_out_is_said() -> None:
    assert left_out("The test split", {"accuracy": 0.5}) is None
    assert left_out("It", {"loss": math.nan}) == "It: loss (nan) is no finite number and is left out."
    both = {"loss": math.nan, "mse": -math.inf, "f1": 0.0}
    assert left_out("It", both) == "It: loss (nan), mse (-inf) are no finite numbers and are left out."
