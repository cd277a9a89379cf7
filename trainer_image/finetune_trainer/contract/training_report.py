"""Report that rank 0 leaves beside the final model: how it came about, for its card."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import Field

from finetune_trainer.contract.frozen_document import Document, FiniteMetrics
from finetune_trainer.contract.prepared import PrepareSummary, Resolved, SplitReport


class Evaluation(Document):
    """Evaluation during training, with its metrics."""

    step: int
    epoch: float
    loss: float | None = None
    """Training loss as last logged before the evaluation."""
    metrics: FiniteMetrics
    """Metrics by name, without the `eval_` of the Trainer's names."""


class TrainingReport(Document):
    """Report beside the final model, sealed with it (`REPORT_FILE`): the model card is made from it."""

    task: str
    started: datetime
    """Start of the attempt that finished."""
    finished: datetime
    steps: int
    epochs: float
    world_size: int
    global_batch_size: int
    """Rows per optimizer step, all ranks and accumulation steps together."""
    precision: str
    hardware: str
    """Devices: `2 x NVIDIA H200`, `CPU (2 ranks)`."""
    versions: dict[str, str]
    """Package -> version: transformers, torch, datasets, tokenizers, accelerate."""
    training_arguments: dict[str, Any]
    """Arguments that differ from the defaults of transformers, by their own names; nothing of the system's and no secret."""
    evaluations: tuple[Evaluation, ...] = ()
    """All evaluations, oldest first; those of the attempts before the resume are among them."""
    evaluation: FiniteMetrics | None = None
    """Metrics of the last evaluation: what `status.evaluation` shows."""
    kept_step: int | None = None
    """Step of the weights that were saved: an earlier one than `steps` where the best checkpoint was kept."""
    summary: PrepareSummary | None = None
    splits: dict[str, SplitReport] = Field(default_factory=dict)
    """Role of the split -> report on its prepared rows."""
    test: FiniteMetrics | None = None
    """Metrics of the test split."""
    details: dict[str, Any] = Field(default_factory=dict)
    """Details of the task beside its metrics: `confusionMatrix`, `perLabel`, ..."""
    resolved: Resolved = Resolved()


REPORT_FILE = "finetune-report.json"
"""Name of the `TrainingReport` in the folder of a sealed model. Never uploaded."""
PREDICTIONS_FILE = "predictions.jsonl"
"""Inputs, predictions and references of the test split, in the folder of a sealed model. Never uploaded."""
