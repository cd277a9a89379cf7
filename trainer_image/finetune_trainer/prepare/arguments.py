"""Training arguments that only the data can prove wrong, found before an accelerator is taken."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.data_errors import names
from finetune_trainer.shared.failures import ExpectedError

DEFAULT_BATCH_ROWS = 8
LOSS = "loss"


@dataclass(frozen=True)
class TrainingSettings:
    """Settings of a training that have to fit the number of its rows."""

    training_arguments: Mapping[str, Any]
    early_stopping: bool
    adapter: bool
    """Whether an adapter is trained in place of all weights."""
    ranks: int
    metrics: tuple[str, ...]
    """The metrics that the task reports."""


def check(settings: TrainingSettings, rows: dict[str, int]) -> tuple[str, ...]:
    """Raise ExpectedError where the settings cannot work with so many rows of each split; return messages for the user."""
    training_arguments = settings.training_arguments
    if "validation" not in rows:
        _require_no_evaluation(training_arguments, early_stopping=settings.early_stopping)
    judged = training_arguments.get("load_best_model_at_end") or training_arguments.get("save_strategy") == "best"
    needs_evaluation = judged or settings.early_stopping
    if needs_evaluation and training_arguments.get("eval_strategy") in (None, "no"):
        raise _invalid(
            "eval_strategy: choose steps or epoch; without evaluations during training there is no best one."
        )
    metric = training_arguments.get("metric_for_best_model")
    # Without generated text there is nothing to score.
    reported = [LOSS] if training_arguments.get("predict_with_generate") is False else list(settings.metrics)
    if isinstance(metric, str) and metric.removeprefix("eval_") not in reported:
        raise _invalid(f"metric_for_best_model: {metric} is not reported; choose one of {names(reported)}.")
    batch = global_batch_rows(training_arguments, settings.ranks)
    if rows["train"] >= batch:
        return ()
    if training_arguments.get("dataloader_drop_last"):
        raise ExpectedError(
            Reason.DATA_INVALID,
            f"The training data has {rows['train']} rows, fewer than one global batch of {batch}, and "
            "dataloader_drop_last drops what does not fill a batch: nothing would be trained. Lower "
            "per_device_train_batch_size, or leave dataloader_drop_last out.",
        )
    return (
        f"The training data has {rows['train']} rows, fewer than one global batch of {batch}: an epoch is one step.",
    )


def global_batch_rows(training_arguments: Mapping[str, Any], ranks: int) -> int:
    """Count the rows of an optimizer step, over all ranks."""
    per_rank = training_arguments.get("per_device_train_batch_size") or DEFAULT_BATCH_ROWS
    accumulation = training_arguments.get("gradient_accumulation_steps") or 1
    if not isinstance(per_rank, int) or not isinstance(accumulation, int):
        raise _invalid("per_device_train_batch_size and gradient_accumulation_steps are whole numbers.")
    return per_rank * accumulation * ranks


def _require_no_evaluation(training_arguments: Mapping[str, Any], *, early_stopping: bool) -> None:
    wanted = {
        "eval_strategy": training_arguments.get("eval_strategy") not in (None, "no"),
        "eval_on_start": bool(training_arguments.get("eval_on_start")),
        "load_best_model_at_end": bool(training_arguments.get("load_best_model_at_end")),
        "save_strategy": training_arguments.get("save_strategy") == "best",
    }
    for name, needs_data in wanted.items():
        if needs_data:
            raise _invalid(
                f"{name}: {training_arguments[name]} needs validation data, and there is none. Name it in "
                "spec.dataset.files.validation or spec.dataset.splits.validation."
            )
    if early_stopping:
        raise ExpectedError(
            Reason.ARGUMENTS_INVALID,
            "spec.earlyStopping needs validation data, and there is none. Name it in spec.dataset.files.validation or "
            "spec.dataset.splits.validation, or set spec.dataset.validationFraction.",
        )


def _invalid(message: str) -> ExpectedError:
    return ExpectedError(Reason.ARGUMENTS_INVALID, f"trainingArguments.{message}")
