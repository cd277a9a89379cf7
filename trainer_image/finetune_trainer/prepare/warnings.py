"""Warnings that a user wants to see before hours are spent: nothing here is an error.

`of_data` depends on data and limits alone and is kept with them; `of_training` on how it is trained, too.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from finetune_trainer.contract.prepared import SplitReport
from finetune_trainer.contract.run_config import LEARNING_RATE, LORA_LEARNING_RATE
from finetune_trainer.data.data_errors import names
from finetune_trainer.prepare.arguments import global_batch_rows
from finetune_trainer.tasks.task import Limits

MANY_CUT = 0.05
"""Share of the rows beyond which what is cut off may be what the label is about."""
FEW_STEPS = 10
"""Optimizer steps in which hardly a model learns anything: the rate has hardly been more than the optimizer's start."""
DEFAULT_EPOCHS = 3.0
"""The number of epochs that transformers trains by default."""


@dataclass(frozen=True)
class Rates:
    """Learning rates between which a method trains."""

    lowest: float
    highest: float
    too_low: str
    too_high: str


LORA = Rates(
    1e-4,
    1e-2,
    "is low for LoRA: its matrices begin at zero and need about ten times the rate of full fine-tuning to get anywhere. "
    "1e-4 to 5e-4 is usual.",
    "is high even for LoRA: training is likely to diverge. 1e-4 to 5e-4 is usual.",
)
FULL = Rates(
    1e-7,
    1e-3,
    "is so low that hardly a weight changes. 1e-5 to 1e-4 is usual.",
    "is high for all weights of a pretrained model: what it has learnt is likely to be lost in the first steps. 1e-5 to "
    "1e-4 is usual (3e-4 for T5), and more for LoRA only (spec.peft).",
)
OTHER_SCALE = ("sgd", "adagrad", "rmsprop", "lomo", "schedule_free", "apollo", "galore")
"""Optimizers whose rates are of another size."""


def of_data(
    splits: Mapping[str, SplitReport], overlaps: Mapping[str, int], limits: Limits, reads: int | None
) -> list[str]:
    """Warn of rows that are cut, classes that are not judged, rows in two splits; `reads` is what the model reads at most."""
    messages = []
    for role, split in splits.items():
        if split.truncated:
            messages.append(
                f"{split.truncated} of {split.rows} {role} rows are longer than {limits.tokens} tokens and are cut."
            )
        if split.truncated > MANY_CUT * split.rows:
            messages.append(_many_cut(role, split, limits, reads))
        if split.truncated_targets:
            messages.append(
                f"{split.truncated_targets} of {split.rows} {role} rows have a target longer than "
                f"{limits.target_tokens} tokens, which is cut."
            )
    if "validation" in splits:
        messages += _unjudged(splits["train"].labels, splits["validation"].labels)
    for role, count in overlaps.items():
        messages.append(
            f"{count} of {splits['train'].rows} train rows occur in the {role} data too ({count / splits['train'].rows:.1%}): "
            f"metrics on the {role} data look better than they are. Leave them out of one of the two."
        )
    return messages


def _many_cut(role: str, split: SplitReport, limits: Limits, reads: int | None) -> str:
    message = f"{split.truncated / split.rows:.0%} of the {role} rows lose their end"
    if limits.tokens is not None and (reads is None or reads > limits.tokens):
        field = "maxLength" if limits.target_tokens is None else "maxSourceLength"
        room = f" (the model reads {reads} tokens)" if reads is not None else ""
        return f"{message}: raise preprocessing.{field}{room}, unless what is cut off does not matter."
    return (
        f"{message}, and the model reads no more: choose one that reads longer texts, or split them, unless what is cut off "
        "does not matter."
    )


def _unjudged(train: Mapping[str, int], validation: Mapping[str, int]) -> list[str]:
    missing = [name for name, count in train.items() if count and validation and not validation.get(name)]
    if not missing:
        return []
    subject = "class has" if len(missing) == 1 else "classes have"
    return [f"{len(missing)} {subject} no example in the validation data, so that nothing tells how well it is learnt: "
            f"{names(missing, 10)}."]  # fmt: skip


def of_training(training_arguments: Mapping[str, Any], rows: int, *, ranks: int, adapter: bool) -> list[str]:
    """Warn of too few steps to learn in, and of a learning rate that does not fit the method; `rows` make batches."""
    batch = global_batch_rows(training_arguments, ranks)
    return [*_steps(training_arguments, rows, batch), *_rate(training_arguments, adapter=adapter)]


def _steps(training_arguments: Mapping[str, Any], rows: int, batch: int) -> list[str]:
    steps = total_steps(training_arguments, rows, batch)
    row_counts = f"{rows} rows, {batch} in a step"
    messages = []
    if steps < FEW_STEPS:
        messages.append(
            f"Training is {steps} optimizer step{'s' * (steps > 1)} in all ({row_counts}), in which little is learnt: more "
            "epochs (num_train_epochs), or fewer rows in a step (per_device_train_batch_size)."
        )
    warmup = _number(training_arguments.get("warmup_steps"), 0.0)
    if 1 <= steps <= warmup:
        messages.append(
            f"warmup_steps is {warmup:g}, training is {steps} optimizer steps in all ({row_counts}): it ends before the "
            "learning rate is reached. A number below 1 is a share of the steps: warmup_steps: 0.1."
        )
    return messages


def total_steps(training_arguments: Mapping[str, Any], rows: int, batch: int) -> int:
    """Count the optimizer steps of the run, as the Trainer does."""
    max_steps = _number(training_arguments.get("max_steps"), -1.0)
    if max_steps > 0:
        return int(max_steps)
    full, rest = divmod(rows, batch)
    per_epoch = max(1, full + (1 if rest and not training_arguments.get("dataloader_drop_last") else 0))
    return math.ceil(per_epoch * _number(training_arguments.get("num_train_epochs"), DEFAULT_EPOCHS))


def _rate(training_arguments: Mapping[str, Any], *, adapter: bool) -> list[str]:
    if training_arguments.get("learning_rate") is None and adapter:
        return [
            f"learning_rate is not given: {LORA_LEARNING_RATE:g} is used, which suits LoRA ({LEARNING_RATE:g} without spec.peft)."
        ]
    if any(part in str(training_arguments.get("optim", "")) for part in OTHER_SCALE):
        return []
    rate, rates = _number(training_arguments.get("learning_rate"), LEARNING_RATE), LORA if adapter else FULL
    if rate < rates.lowest:
        return [f"learning_rate {rate:g} {rates.too_low}"]
    return [f"learning_rate {rate:g} {rates.too_high}"] if rate > rates.highest else []


def _number(value: Any, default: float) -> float:
    """Return the number that the user gave, which the resource has checked; text is what YAML made of 5e-5."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return default
    return float(value) if isinstance(value, int | float) else default
