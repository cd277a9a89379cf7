"""Names of training arguments in older releases of transformers, and their present names. Pure."""

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
"""Older name -> argument that has taken its place."""

_ON_ACCELERATOR = "what resources asks for is used; without accelerators the job trains on the CPU"
_HALF = "set fp16 or bf16"
_PUBLISH = "publishing is a step of its own: spec.publish"
_SHARDED = "sharded training is not offered"
REMOVED: dict[str, str] = {
    **dict.fromkeys(("no_cuda", "use_mps_device", "tpu_num_cores", "use_ipex", "xpu_backend"), _ON_ACCELERATOR),
    **dict.fromkeys(("fp16_backend", "half_precision_backend", "fp16_opt_level"), _HALF),
    **dict.fromkeys(("push_to_hub_model_id", "push_to_hub_organization", "push_to_hub_token"), _PUBLISH),
    **dict.fromkeys(("fsdp_min_num_params", "fsdp_transformer_layer_cls_to_wrap", "sharded_ddp"), _SHARDED),
    **dict.fromkeys(("dispatch_batches", "split_batches"), "each rank reads its own rows; leave it out"),
    "overwrite_output_dir": "each run has a folder of its own; leave it out",
    "logging_dir": "progress and metrics are reported by the system; leave it out",
    "include_tokens_per_second": "metrics tell the tokens; leave it out",
    "save_safetensors": "models are always saved as safetensors; leave it out",
    "jit_mode_eval": "leave it out",
    "tpu_metrics_debug": "leave it out",
    "past_index": "leave it out",
    "use_legacy_prediction_loop": "leave it out",
    "include_inputs_for_metrics": "the task owns its metrics; leave it out",
    "mp_parameters": "leave it out",
    "torchdynamo": "set torch_compile",
    "ray_scope": "there is no search of hyperparameters; leave it out",
}
"""Arguments of older releases that have no successor -> what to do."""


def translate(arguments: TrainingArguments) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the user's arguments under today's names, and a sentence for each older name that was translated."""
    arguments_set = arguments.model_dump(exclude_unset=True, exclude_none=True)
    current: dict[str, Any] = {}
    warnings: list[str] = []
    for name, value in arguments_set.items():
        if name not in SUCCESSORS:
            current[name] = value
            continue
        new_name, new_value = SUCCESSORS[name], _translated(name, value)
        if new_value is not None:
            current.setdefault(new_name, new_value)
        reading = f"{new_name}: {new_value}" if new_value is not None else "no successor, its default"
        warnings.append(f"trainingArguments.{name} is the name of older releases; it was read as `{reading}`")
    return current, tuple(warnings)


def _translated(name: str, value: Any) -> Any:
    """Return the successor's value; None where the older argument asked for nothing."""
    match name:
        case "group_by_length":
            return "group_by_length" if value else "random"
        case "adafactor":
            return "adafactor" if value else None
        case _:
            return value
