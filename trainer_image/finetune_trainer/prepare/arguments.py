"""Training arguments that only the data can prove wrong, found before an accelerator is taken."""

from __future__ import annotations

from finetune_trainer.contract import task_facts
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import RunConfig
from finetune_trainer.data.errors import names
from finetune_trainer.shared.failures import ExpectedError

DEFAULT_BATCH_ROWS = 8
LOSS = "loss"


def check(config: RunConfig, rows: dict[str, int]) -> tuple[str, ...]:
    """Raise what cannot work with these rows; return what the user should know."""
    given = config.training_arguments
    if "validation" not in rows:
        _require_no_evaluation(config)
    judged = given.get("load_best_model_at_end") or given.get("save_strategy") == "best"
    needs_evaluation = judged or config.early_stopping is not None
    if needs_evaluation and given.get("eval_strategy") in (None, "no"):
        raise _invalid(
            "eval_strategy: choose steps or epoch; without evaluations during training there is no best one."
        )
    metric = given.get("metric_for_best_model")
    reported = list(task_facts.metrics(config.task, config.problem_type))
    if given.get("predict_with_generate") is False:
        reported = [LOSS]  # there is no text to be scored
    if isinstance(metric, str) and metric.removeprefix("eval_") not in reported:
        raise _invalid(f"metric_for_best_model: {metric} is not reported; choose one of {names(reported)}.")
    batch = global_batch_rows(config)
    if rows["train"] >= batch:
        return ()
    if given.get("dataloader_drop_last"):
        raise ExpectedError(
            Reason.DATA_INVALID,
            f"The training data has {rows['train']} rows, fewer than one global batch of {batch}, and "
            "dataloader_drop_last drops what does not fill a batch: nothing would be trained. Lower "
            "per_device_train_batch_size, or leave dataloader_drop_last out.",
        )
    return (
        f"The training data has {rows['train']} rows, fewer than one global batch of {batch}: an epoch is one step.",
    )


def global_batch_rows(config: RunConfig) -> int:
    """Rows per optimizer step, over all ranks."""
    given = config.training_arguments
    per_rank = given.get("per_device_train_batch_size") or DEFAULT_BATCH_ROWS
    accumulation = given.get("gradient_accumulation_steps") or 1
    if not isinstance(per_rank, int) or not isinstance(accumulation, int):
        raise _invalid("per_device_train_batch_size and gradient_accumulation_steps are whole numbers.")
    return per_rank * accumulation * config.world_size


def _require_no_evaluation(config: RunConfig) -> None:
    given = config.training_arguments
    wanted = {
        "eval_strategy": given.get("eval_strategy") not in (None, "no"),
        "eval_on_start": bool(given.get("eval_on_start")),
        "load_best_model_at_end": bool(given.get("load_best_model_at_end")),
        "save_strategy": given.get("save_strategy") == "best",
    }
    for name, needs_data in wanted.items():
        if needs_data:
            raise _invalid(
                f"{name}: {given[name]} needs validation data, and there is none. Name it in "
                "spec.dataset.files.validation or spec.dataset.splits.validation."
            )
    if config.early_stopping is not None:
        raise ExpectedError(
            Reason.ARGUMENTS_INVALID,
            "spec.earlyStopping needs validation data, and there is none. Name it in spec.dataset.files.validation or "
            "spec.dataset.splits.validation, or set spec.dataset.validationFraction.",
        )


def _invalid(message: str) -> ExpectedError:
    return ExpectedError(Reason.ARGUMENTS_INVALID, f"trainingArguments.{message}")
