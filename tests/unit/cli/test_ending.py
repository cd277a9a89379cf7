"""What a person is told at the end: the metrics of the task, and a line of code that does try the model."""

from __future__ import annotations

import ast
from typing import Any

import pytest

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.cli.ending import code, metric_lines, metrics, of_name
from finetune_trainer.config import PrepareSummary
from finetune_trainer.task_facts import TASKS
from tests.support.spec_cases import manifest


def job(**patch: Any) -> FineTuneJob:
    body = manifest(patch)
    body["metadata"] |= {"namespace": "n", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z"}
    return FineTuneJob.parse(body)


def test_accuracy_stands_beside_that_of_guessing() -> None:
    status = {"evaluation": {"loss": 0.25, "f1": 0.5, "accuracy": 0.75, "runtime": 3.0}}
    summary = PrepareSummary(train_rows=10, majority_share=0.6)
    assert list(metric_lines(job(), status, summary)) == [
        "accuracy   0.750 (guessing the commonest label: 0.600)",
        "evaluation accuracy 0.75, f1 0.5, loss 0.25",
    ]
    assert list(metric_lines(job(), {}, summary)) == []


def test_metrics_of_the_task_come_first_and_those_of_the_test_in_a_line_of_their_own() -> None:
    status = {
        "evaluation": {"loss": 1.5, "gen_len": 12, "rougeL": 0.25, "rouge1": 0.5, "test_loss": 1, "test_rouge1": 0.4}
    }
    assert list(metric_lines(job(task="summarization"), status, PrepareSummary(train_rows=3))) == [
        "evaluation rouge1 0.5, rougeL 0.25, gen_len 12, loss 1.5",
        "test       rouge1 0.4, loss 1",
    ]
    regression = {"evaluation": {"loss": 1.5, "pearson": 0.5, "mse": 1.5}}
    assert list(metric_lines(job(problemType="regression"), regression, None)) == [
        "evaluation mse 1.5, pearson 0.5, loss 1.5"
    ]


def test_a_metric_is_found_under_either_name() -> None:
    assert of_name({"eval_accuracy": 0.25}, "accuracy") == 0.25
    assert of_name({"accuracy": 0.5, "loss": 1.0}, "accuracy") == 0.5
    assert of_name({"loss": 1.0}, "accuracy") is None
    assert of_name(None, "accuracy") is None
    assert metrics({"eval_loss": 0.123456, "eval_samples_per_second": 5.0}) == "loss 0.1235"


@pytest.mark.parametrize("task", TASKS)
def test_a_line_of_code_tries_the_model(task: str) -> None:
    """No pipeline of transformers 5 answers questions, translates or sums up: the model itself does."""
    given = job(**{"task": task, **({"preprocessing.sourcePrefix": "sum up: "} if task == "summarization" else {})})
    line = code(given, "out/model")
    ast.parse(line)
    assert '"' not in line, "it stands in a shell's double quotes"
    assert "out/model" in line
    own_pipeline = task not in ("question-answering", "summarization", "translation")
    assert (f"pipeline('{task}'" in line) == own_pipeline
    assert ("sum up: your text" in line) == (task == "summarization")
    odd = job(**{"task": "translation", "preprocessing.sourcePrefix": "$(rm) ' "})
    assert "$" not in code(odd, "out/model")


def test_an_adapter_is_told_how_many_labels_there_are() -> None:
    assert "'reviews', model_kwargs={'num_labels': 5})" in code(job(peft={}), "reviews", 5)
    assert "model_kwargs" not in code(job(peft={"saveMerged": True}), "reviews", 5)
    assert "model_kwargs" not in code(job(peft={}), "reviews")
