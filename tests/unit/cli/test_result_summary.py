"""What a person is told at the end: the metrics of the task."""

from __future__ import annotations

from finetune_operator.cli.result_summary import metric_lines, metrics, of_name
from finetune_trainer.contract.prepared import PrepareSummary
from tests.support.spec_case import job


def test_accuracy_stands_beside_that_of_guessing() -> None:
    status = {"evaluation": {"loss": 0.25, "f1": 0.5, "accuracy": 0.75, "runtime": 3.0}}
    summary = PrepareSummary(train_rows=10, majority_share=0.6)
    assert list(metric_lines(job(), status, summary)) == [
        "accuracy   0.750 (guessing the commonest label: 0.600)",
        "evaluation accuracy 0.75, f1 0.5, loss 0.25",
    ]
    assert list(metric_lines(job(), {}, summary)) == []


def test_summary_shows_task_metrics_first() -> None:
    """Metrics of the task come first, and those of the test split in a line of their own."""
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
