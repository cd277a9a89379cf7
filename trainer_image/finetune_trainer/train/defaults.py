"""Training arguments: those of the user, our defaults that differ from Hugging Face's, and those that the system owns.

Every default that differs stands here and nowhere else. A value that the user gives is taken verbatim; only where the machine
can't do it (half precision on a CPU) is it replaced, with a message. (The optimizer is AdamW in its fused form, which is the
default of transformers already.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from finetune_trainer.contract import task_facts
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import LORA_LEARNING_RATE, TaskConfig
from finetune_trainer.data.sampler import Strategy
from finetune_trainer.shared.failures import ExpectedError

LOGGING_STEPS = 500
"""Default of transformers, which `eval_steps` takes where it is not set."""
OWNED: dict[str, Any] = {
    "report_to": "none",
    "disable_tqdm": True,
    "logging_nan_inf_filter": False,  # the filter would log a loss of 0.0 where there is none
    "save_total_limit": None,  # launch rotates what is sealed on the volume; see `save_total_limit` of the job
    "train_sampling_strategy": "random",  # the sampler decides in training; the stock one would order evaluation too
    "label_names": ["labels"],
    "remove_unused_columns": False,  # `PreparedDataset` gives what the model takes
}
GENERATION = ("predict_with_generate", "generation_max_length", "generation_num_beams")
"""Arguments of tasks that write text. They read them from the run config, because the Trainer does not know them."""
ACCELERATOR_ONLY = ("fp16", "bf16", "tf32", "use_liger_kernel")
MAX_WORKERS = 4
"""Processes of a rank that make batches. They only pad tokens, and each costs memory and a start."""
DEFAULT_METRIC = "loss"
"""Metric for the best model where the user names none."""
BY_METRIC = ("reduce_lr_on_plateau", "greedy")
"""Schedulers that need a metric too."""


@dataclass(frozen=True)
class Plan:
    """The training arguments of a run, resolved for this machine."""

    arguments: dict[str, Any]
    """Keyword arguments of TrainingArguments, without the output folder."""
    strategy: Strategy
    precision: str
    timed: bool
    """Whether the clock says when checkpoints are made (besides each evaluation)."""
    load_best: bool
    messages: tuple[str, ...]


def plan(config: TaskConfig, *, cuda: bool, bf16: bool = False, cores: int = 1) -> Plan:
    """Resolve the training arguments of a run. `bf16` says whether all accelerators support it, `cores` how many a rank has."""
    user_arguments = {name: value for name, value in config.training_arguments.items() if value is not None}
    if user_arguments.get("max_steps") == 0:
        raise ExpectedError(
            Reason.ARGUMENTS_INVALID,
            "trainingArguments.max_steps: 0 trains nothing; leave it out for no limit.",
        )
    strategy = Strategy(str(user_arguments.pop("train_sampling_strategy", Strategy.GROUPED)))
    user_arguments = {name: value for name, value in user_arguments.items() if name not in GENERATION}
    timed = "save_strategy" not in user_arguments and "save_steps" not in user_arguments
    messages = []
    if not cuda:
        refused = [name for name in ACCELERATOR_ONLY if user_arguments.pop(name, False)]
        if refused:
            messages.append(f"{', '.join(refused)}: there is no accelerator, training runs in fp32 on the CPU.")
    if config.publish and config.peft and not config.peft.save_merged and config.model.name.startswith("/"):
        messages.append(
            f"The adapter names {config.model.name} as its base model, which nobody finds who loads it from the Hub: "
            "choose a model of the Hub, or set spec.peft.saveMerged."
        )
    # A later entry takes precedence over those before it.
    arguments = {
        **(_accelerator_arguments(user_arguments, bf16=bf16, cores=cores) if cuda else {}),
        **(_save_arguments(user_arguments) if timed else {}),
        **_best_metric_arguments(config, user_arguments, timed=timed),
        **({"learning_rate": LORA_LEARNING_RATE} if config.peft is not None else {}),
        **user_arguments,
        **OWNED,
        "use_cpu": not cuda,
    }
    return Plan(
        arguments=arguments,
        strategy=strategy,
        precision="fp16" if arguments.get("fp16") else "bf16" if arguments.get("bf16") else "fp32",
        timed=timed,
        load_best=bool(arguments.get("load_best_model_at_end")),
        messages=tuple(messages),
    )


def _accelerator_arguments(user_arguments: dict[str, Any], *, bf16: bool, cores: int) -> dict[str, Any]:
    """Return the half precision that the hardware has, unless the user chose one, and workers that make batches meanwhile."""
    arguments: dict[str, Any] = {}
    if "fp16" not in user_arguments and "bf16" not in user_arguments:
        arguments["bf16" if bf16 else "fp16"] = True
    workers = user_arguments.get("dataloader_num_workers", min(MAX_WORKERS, max(cores - 1, 0)))
    if workers:
        arguments |= {"dataloader_num_workers": workers, "dataloader_persistent_workers": True}
    return arguments


def _best_metric_arguments(config: TaskConfig, user_arguments: dict[str, Any], *, timed: bool) -> dict[str, Any]:
    """Return the metric that says what is best, and its direction; a training that may stop early keeps its best weights."""
    arguments: dict[str, Any] = {}
    if config.early_stopping is not None and _saves_what_it_evaluates(user_arguments, timed=timed):
        arguments["load_best_model_at_end"] = True
    wanted = user_arguments.get("metric_for_best_model")
    judged = config.early_stopping is not None or user_arguments.get("load_best_model_at_end")
    if wanted is None and not judged and user_arguments.get("lr_scheduler_type") not in BY_METRIC:
        return arguments
    metric = str(wanted or DEFAULT_METRIC)
    reported = task_facts.metrics(config.task, config.problem_type)
    arguments["metric_for_best_model"] = metric
    arguments["greater_is_better"] = reported.get(metric.removeprefix("eval_"), not metric.endswith(DEFAULT_METRIC))
    return arguments


def _saves_what_it_evaluates(user_arguments: dict[str, Any], *, timed: bool) -> bool:
    """Return whether the Trainer can find the best weights again: that takes a checkpoint of every evaluation."""
    strategy = user_arguments.get("eval_strategy", "no")
    if timed or user_arguments.get("save_strategy") == "best":
        return True
    if user_arguments.get("save_strategy", "steps") != strategy:
        return False
    evaluates = user_arguments.get("eval_steps") or user_arguments.get("logging_steps", LOGGING_STEPS)
    return bool(strategy != "steps" or user_arguments.get("save_steps", LOGGING_STEPS) == evaluates)


def _save_arguments(user_arguments: dict[str, Any]) -> dict[str, Any]:
    """Return arguments for a checkpoint at each evaluation; `pulse` makes those by the clock."""
    strategy = user_arguments.get("eval_strategy", "no")
    if strategy != "steps":
        return {"save_strategy": strategy}
    return {
        "save_strategy": "steps",
        "save_steps": user_arguments.get("eval_steps") or user_arguments.get("logging_steps", LOGGING_STEPS),
    }


def training_arguments(plan: Plan, staging: str) -> Any:
    """Return the Trainer's arguments. What the Trainer refuses is the user's error."""
    from transformers import TrainingArguments

    try:
        arguments = TrainingArguments(output_dir=staging, **plan.arguments)
        _try_optimizer_and_scheduler(arguments)
    except (ValueError, TypeError, ImportError) as error:
        raise ExpectedError(Reason.ARGUMENTS_INVALID, f"trainingArguments: {error}") from error
    return arguments


def require_supported(arguments: Any, model: Any) -> None:
    """Check what the Trainer would ask of a model only once training begins."""
    if arguments.activation_checkpointing and not model.supports_gradient_checkpointing:
        raise ExpectedError(
            Reason.ARGUMENTS_INVALID,
            f"trainingArguments.activation_checkpointing: {type(model).__name__} cannot recompute its activations; "
            "leave it out, or choose another model.",
        )


def _try_optimizer_and_scheduler(arguments: Any) -> None:
    """Make optimizer and scheduler once: their arguments would be checked only after model and data were loaded."""
    import torch
    from transformers import Trainer, get_scheduler

    kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
    optimizer = kind([torch.zeros(1, requires_grad=True)], **options)
    kwargs = arguments.lr_scheduler_kwargs or {}
    get_scheduler(arguments.lr_scheduler_type, optimizer, 0, 1, scheduler_specific_kwargs=kwargs)
