"""Names of training arguments in older releases of transformers, and what they are called now. Pure."""

from __future__ import annotations

from typing import Any

from finetune_operator.api.training_arguments import TrainingArguments

SUCCESSORS: dict[str, str] = {
    "evaluation_strategy": "eval_strategy",
    "warmup_ratio": "warmup_steps",
    "group_by_length": "train_sampling_strategy",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "adafactor": "optim",
    "gradient_checkpointing": "activation_checkpointing",
    "gradient_checkpointing_kwargs": "activation_checkpointing_kwargs",
}
"""Older name -> the argument that says the same now."""


def translate(arguments: TrainingArguments) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What the user gave under today's names, and a sentence for each older name that was translated."""
    given = arguments.model_dump(exclude_unset=True, exclude_none=True)
    current: dict[str, Any] = {}
    warnings: list[str] = []
    for name, value in given.items():
        if name not in SUCCESSORS:
            current[name] = value
            continue
        new_name, new_value = SUCCESSORS[name], _translated(name, value)
        if new_value is not None:
            current.setdefault(new_name, new_value)
        said = f"{new_name}: {new_value}" if new_value is not None else "no successor, its default"
        warnings.append(f"trainingArguments.{name} is the name of older releases; it was read as `{said}`")
    return current, tuple(warnings)


def _translated(name: str, value: Any) -> Any:
    """The successor's value; None where the older argument asked for nothing."""
    match name:
        case "group_by_length":
            return "group_by_length" if value else "random"
        case "adafactor":
            return "adafactor" if value else None
        case _:
            return value
