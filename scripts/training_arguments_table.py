"""The arguments of the Hugging Face Trainer that a FineTuneJob offers, and why the others are left out.

Every field of the dataclass must be in exactly one table, so that a new release of transformers makes the generator
fail until somebody has decided about each new argument. The descriptions are our own; types and defaults come from the dataclass.
"""

from __future__ import annotations

from typing import NamedTuple

from finetune_trainer.contract.task_facts import TASKS, metrics

LEFT_OUT: dict[str, tuple[str, ...]] = {
    "where output goes is the volume layout's decision (storage)": ("output_dir", "save_on_each_node"),
    "which checkpoint a run goes on from, and exactly how, is decided once for all ranks (resumeFrom)": (
        "resume_from_checkpoint",
        "ignore_data_skip",
        "restore_callback_states_from_checkpoint",
    ),
    "a checkpoint that cannot be resumed from breaks the promise of surviving preemption": ("save_only_model",),
    "nothing saves at SIGTERM yet; the stock way loses the newest checkpoint where only one pod is told": (
        "enable_jit_checkpoint",
    ),
    "publishing is a step of its own, after the accelerators are given back (spec.publish)": (
        "push_to_hub",
        "hub_token",
        "hub_private_repo",
        "hub_model_id",
        "hub_strategy",
        "hub_always_push",
        "hub_revision",
    ),
    "progress and metrics are reported by the system; no tracker is in the image": (
        "report_to",
        "run_name",
        "project",
        "trackio_space_id",
        "trackio_bucket_id",
        "trackio_static_space_id",
        "disable_tqdm",
        "log_on_each_node",
        "include_num_input_tokens_seen",
        "skip_memory_metrics",
    ),
    "hides a loss that is not finite, which is an error here": ("logging_nan_inf_filter",),
    "the world is formed from nodes, processesPerNode and resources": (
        "local_rank",
        "ddp_backend",
        "use_cpu",
        "accelerator_config",
    ),
    "sharded training enters with the work that makes its checkpoints resumable": (
        "parallelism_config",
        "fsdp",
        "fsdp_config",
        "deepspeed",
    ),
    "the global batch is part of what a run is; one rank that shrinks it alone blocks the others": (
        "auto_find_batch_size",
    ),
    "only example scripts read it; here the task and the data decide": ("do_train", "do_eval", "do_predict"),
    "the task owns its metrics and needs all predictions for them": (
        "prediction_loss_only",
        "eval_do_concat_batches",
        "eval_use_gather_object",
        "include_for_metrics",
        "batch_eval_metrics",
        "label_names",
    ),
    "prepare owns the columns of the tokenised data": ("remove_unused_columns", "length_column_name"),
    "rows must come in one order, or a resume trains some twice": ("dataloader_in_order",),
    "rows are grouped by length in any case (train_sampling_strategy)": ("sortish_sampler",),
    "how text is generated stands in the model's own folder (generation_config.json)": ("generation_config",),
    "the loss is always the mean over the tokens, or rows, of the global batch": ("average_tokens_across_devices",),
    "nothing is generated while training": ("use_cache",),
    "inductor is the compiler that trains quicker": ("torch_compile_backend",),
    "which of its kernels fit the model is the package's own knowledge": ("liger_kernel_config",),
    "only for optimizers that need packages that are not in the image": ("optim_args", "optim_target_modules"),
    "is ignored while training runs, and afterwards would save the model in half precision": (
        "bf16_full_eval",
        "fp16_full_eval",
    ),
}
"""Arguments that are left out: why -> names."""

METRICS = sorted(
    {name for task, facts in TASKS.items() for problem in (None, *facts.of_problem) for name in metrics(task, problem)}
)
"""Metrics of any task; which task has which is a rule."""

NARROWED: dict[str, tuple[str, ...]] = {
    # The others need bitsandbytes, torchao, galore, apollo, lomo, ..., or an accelerator that is not supported.
    "optim": ("adamw_torch", "adamw_torch_fused", "adafactor", "adagrad", "rmsprop", "sgd"),
    # `batch_rebalance` orders rows by the per-process batch, so that another number of ranks trains on another order.
    "train_sampling_strategy": ("random", "sequential", "group_by_length"),
    "torch_compile_mode": ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
    "log_level": ("debug", "info", "warning", "error", "critical", "passive"),
    "log_level_replica": ("debug", "info", "warning", "error", "critical", "passive"),
    "dataloader_multiprocessing_context": ("fork", "spawn", "forkserver"),
    # `tpu_metrics_debug` is for TPUs.
    "debug": ("underflow_overflow",),
    "metric_for_best_model": tuple(f"{prefix}{name}" for prefix in ("", "eval_") for name in METRICS),
}
"""Values that work here, where they are fewer than the release's, or the dataclass says only `str`."""

SYSTEM_DEFAULTS: dict[str, str] = {
    "save_strategy": "by time: every `checkpointIntervalSeconds`, and at each evaluation",
    "save_steps": "by time, see `save_strategy`",
    "save_total_limit": "2",
    "train_sampling_strategy": "group_by_length",
    "dataloader_num_workers": "by the cores, at most 4, where there is an accelerator; 0 on the CPU",
    "bf16": "where there is an accelerator, and neither it nor `fp16` is given: true if the hardware has bfloat16",
    "fp16": "where there is an accelerator, and neither it nor `bf16` is given: true if the hardware has no bfloat16",
    "dataloader_persistent_workers": "true where there is an accelerator",
    "load_best_model_at_end": "true with `earlyStopping`, where every evaluation has a checkpoint",
    "predict_with_generate": "true",
}
"""Defaults of the system that differ from the release's."""

QUOTE = 'Quote "no": without quotes YAML reads it as false.'


class Offer(NamedTuple):
    """An argument that a job may give."""

    description: str
    bounds: str = ""
    """Keyword arguments of pydantic's Field."""


_STEPS_OR_SHARE = "A whole number, or a share of all steps below 1."

OFFERED: dict[str, Offer] = {
    "per_device_train_batch_size": Offer("Rows per rank and forward pass in training.", "ge=1"),
    "num_train_epochs": Offer("Passes over the training data; may be a fraction.", "gt=0"),
    "max_steps": Offer("Optimizer steps in all; overrides `num_train_epochs`. -1 is no limit.", "ge=-1"),
    "learning_rate": Offer("Peak learning rate. Default: 5e-05, with `peft` 2e-4.", "ge=0"),
    "lr_scheduler_type": Offer("How the learning rate changes over training."),
    "lr_scheduler_kwargs": Offer("More arguments of the scheduler; each says which scheduler takes it."),
    "warmup_steps": Offer("Steps over which the learning rate rises from 0. " + _STEPS_OR_SHARE, "ge=0"),
    "optim": Offer("Optimizer."),
    "weight_decay": Offer("Weight decay, on all weights but biases and layer norms.", "ge=0"),
    "adam_beta1": Offer("Decay of Adam's first moment.", "ge=0, lt=1"),
    "adam_beta2": Offer("Decay of Adam's second moment.", "ge=0, lt=1"),
    "adam_epsilon": Offer("Adam's term for numerical stability.", "ge=0"),
    "gradient_accumulation_steps": Offer(
        "Forward passes per optimizer step: the global batch is `per_device_train_batch_size` x ranks x this.", "ge=1"
    ),
    "max_grad_norm": Offer("Norm to which gradients are clipped; 0 turns clipping off.", "ge=0"),
    "label_smoothing_factor": Offer("Share of the probability spread over the other labels.", "ge=0, lt=1"),
    "bf16": Offer(
        "Mixed precision with bfloat16 (Ampere or newer). Not together with `fp16`. With false training runs in fp32."
    ),
    "fp16": Offer(
        "Mixed precision with float16 and fp32 master weights. With false, and without an accelerator, training runs in fp32."
    ),
    "tf32": Offer("TF32 arithmetic on Ampere and newer GPUs."),
    "torch_compile": Offer(
        "Compile the model for the accelerator: slower first steps, quicker ones after them. Needs an image with a C compiler "
        "(`spec.image`)."
    ),
    "torch_compile_mode": Offer("How much `torch_compile` tries."),
    "use_liger_kernel": Offer(
        "Fused kernels for Llama-like models on CUDA: quicker, with less memory. Needs an image with the package "
        "liger-kernel (`spec.image`)."
    ),
    "activation_checkpointing": Offer("Recompute activations in the backward pass: less memory, some 20 % slower."),
    "activation_checkpointing_kwargs": Offer("How activations are recomputed."),
    "neftune_noise_alpha": Offer("Strength of NEFTune noise on the embeddings; 5 to 15 is usual.", "gt=0"),
    "torch_empty_cache_steps": Offer("Steps between calls that empty the accelerator's cache.", "ge=1"),
    "logging_strategy": Offer("When loss and learning rate are logged. " + QUOTE),
    "logging_steps": Offer("Steps between logs. " + _STEPS_OR_SHARE, "gt=0"),
    "logging_first_step": Offer("Log the first step as well."),
    "log_level": Offer("How much rank 0 writes to its log."),
    "log_level_replica": Offer("How much the other ranks write to their logs."),
    "eval_strategy": Offer(
        "When the model is evaluated. Where there is validation data it is evaluated at the end in any case. " + QUOTE
    ),
    "eval_steps": Offer(
        "Steps between evaluations with `eval_strategy: steps`; default: `logging_steps`. " + _STEPS_OR_SHARE, "gt=0"
    ),
    "eval_delay": Offer("Epochs or steps (as `eval_strategy` counts) before the first evaluation.", "ge=0"),
    "eval_on_start": Offer("Evaluate before the first step."),
    "eval_accumulation_steps": Offer(
        "Prediction steps kept on the accelerator before they are moved to memory.", "ge=1"
    ),
    "per_device_eval_batch_size": Offer("Rows per rank and forward pass in evaluation.", "ge=1"),
    "save_strategy": Offer("When a checkpoint is written; `best`: when the metric has improved. " + QUOTE),
    "save_steps": Offer("Steps between checkpoints with `save_strategy: steps`. " + _STEPS_OR_SHARE, "gt=0"),
    "save_total_limit": Offer("Checkpoints to keep; the newest and the best are always kept.", "ge=1"),
    "load_best_model_at_end": Offer(
        "Take the best checkpoint as the final model. Needs `save_strategy` equal to `eval_strategy`, or `best`."
    ),
    "metric_for_best_model": Offer("Metric that the best checkpoint is chosen by, one of the task's; default: `loss`."),
    "greater_is_better": Offer("Whether a greater metric is better; default: what is so for the metric."),
    "predict_with_generate": Offer(
        "Let the model write text in evaluations and score that (ROUGE, BLEU); with false there is the loss alone. For "
        "summarization and translation."
    ),
    "generation_max_length": Offer(
        "Tokens at most of what is written in evaluations; default: `preprocessing.maxTargetLength`. For summarization and "
        "translation.",
        "ge=1, le=1_000_000",
    ),
    "generation_num_beams": Offer(
        "Beams of the search for what is written in evaluations; default: the model's own. For summarization and "
        "translation.",
        "ge=1, le=1024",
    ),
    "full_determinism": Offer("Make every operation deterministic: slower, for debugging."),
    "seed": Offer("Seed of weights, dropout and data order.", "ge=0, le=4_294_967_295"),
    "data_seed": Offer("Seed of the data order alone; default: `seed`.", "ge=0, le=4_294_967_295"),
    "dataloader_drop_last": Offer("Drop the last batch of an epoch where it is not full."),
    "dataloader_num_workers": Offer("Processes per rank that load data; 0: the rank itself.", "ge=0, le=1024"),
    "dataloader_pin_memory": Offer("Load batches into pinned memory."),
    "dataloader_persistent_workers": Offer(
        "Keep the loader's processes between epochs. Needs `dataloader_num_workers`."
    ),
    "dataloader_prefetch_factor": Offer(
        "Batches that each loader process has ready. Needs `dataloader_num_workers`.", "ge=1"
    ),
    "dataloader_multiprocessing_context": Offer("How loader processes are started."),
    "train_sampling_strategy": Offer(
        "Order of the training rows; `group_by_length` batches rows of similar length, with the least padding. The longest "
        "batches of the first epoch come first, but with `sequential`."
    ),
    "ddp_find_unused_parameters": Offer("Look for parameters that took no part in the loss."),
    "ddp_bucket_cap_mb": Offer("Size in MiB of the buckets in which gradients are exchanged.", "ge=1"),
    "ddp_broadcast_buffers": Offer("Broadcast the model's buffers at each forward pass."),
    "ddp_static_graph": Offer("Promise that the graph of the computation never changes, for a quicker exchange."),
    "ddp_timeout": Offer("Seconds after which an exchange between ranks counts as stuck.", "ge=1"),
    "debug": Offer("`underflow_overflow`: stop with a report where an activation or weight is not finite."),
}


class Option(NamedTuple):
    """A keyword argument of a scheduler, or of activation checkpointing."""

    annotation: str
    description: str
    bounds: str = ""


SCHEDULER_OPTIONS: dict[str, Option] = {
    "num_cycles": Option("float", "Waves of the cosine.", "gt=0"),
    "lr_end": Option("float", "Learning rate at the end.", "ge=0"),
    "power": Option("float", "Power of the polynomial.", "gt=0"),
    "timescale": Option("int", "Steps over which the rate halves at first; default: the warmup.", "ge=1"),
    "min_lr": Option("float", "Learning rate that is not fallen below.", "ge=0"),
    "min_lr_rate": Option("float", "The same as a share of `learning_rate`.", "ge=0, le=1"),
    "warmup_lr_rate": Option("float", "Share of `learning_rate` that the warmup begins with.", "ge=0, le=1"),
    "num_decay_steps": Option("int", "Steps of the decay at the end.", "ge=0"),
    "num_stable_steps": Option("int", "Steps at the peak; default: those that are left.", "ge=0"),
    "warmup_type": Option('Literal["linear", "cosine", "1-sqrt"]', "Shape of the warmup."),
    "decay_type": Option('Literal["linear", "cosine", "1-sqrt"]', "Shape of the decay."),
    "min_lr_ratio": Option("float", "Share of `learning_rate` left at the end.", "ge=0, le=1"),
    "mode": Option('Literal["min", "max"]', "Whether the metric should fall or rise."),
    "factor": Option("float", "What the learning rate is multiplied by.", "gt=0, lt=1"),
    "patience": Option("int", "Evaluations without progress before it changes.", "ge=0"),
    "threshold": Option("float", "Change of the metric that counts as progress.", "ge=0"),
    "threshold_mode": Option('Literal["rel", "abs"]', "Whether `threshold` is a share or a difference."),
    "cooldown": Option("int", "Evaluations to wait after a change.", "ge=0"),
    "eps": Option("float", "A smaller change of the learning rate is not made.", "ge=0"),
    "warmup": Option("int", "Evaluations to wait before the rate may rise.", "ge=0"),
    "max_lr": Option("float", "Learning rate that is not exceeded.", "gt=0"),
    "smooth": Option("bool", "Judge by the mean of the last `window_size` values."),
    "window_size": Option("int", "Values in that mean.", "ge=1"),
    "reset_start": Option("int", "Evaluations after which the scheduler starts anew; 0: never.", "ge=0"),
}
"""Keyword arguments of the schedulers; which takes which is read from their signatures."""

SCHEDULER_OPTIONS_LEFT_OUT = ("verbose", "kwargs")
"""Keyword arguments that are not offered: `verbose` prints to a log that nobody reads; `kwargs` stands for the arguments of a class."""

CHECKPOINTING_OPTIONS: dict[str, Option] = {
    "use_reentrant": Option("bool", "Use the older, reentrant way."),
    "every_n_layers": Option("int", "Recompute only every n-th layer: quicker, with more memory.", "ge=1"),
    "offload": Option("bool", "Hold what is saved in the host's memory: slower, with less on the accelerator."),
    "preserve_rng_state": Option("bool", "Recompute with the same dropout."),
    "determinism_check": Option('Literal["default", "none"]', "Compare shapes of what is recomputed."),
}

_INSTEAD = "Deprecated: write "


class Old(NamedTuple):
    """A name of older releases, which `finetune_operator.api.deprecated` translates."""

    annotation: str
    successor: str
    bounds: str = ""

    @property
    def description(self) -> str:
        """Description for `kubectl explain`."""
        return f"{_INSTEAD}`{self.successor}`."


DEPRECATED: dict[str, Old] = {
    "evaluation_strategy": Old('Literal["no", "steps", "epoch"]', "eval_strategy"),
    "warmup_ratio": Old("float", "warmup_steps", "ge=0, lt=1"),
    "group_by_length": Old("bool", "train_sampling_strategy: group_by_length"),
    "per_gpu_train_batch_size": Old("int", "per_device_train_batch_size", "ge=1"),
    "per_gpu_eval_batch_size": Old("int", "per_device_eval_batch_size", "ge=1"),
    "adafactor": Old("bool", "optim: adafactor"),
    "gradient_checkpointing": Old("bool", "activation_checkpointing"),
    "gradient_checkpointing_kwargs": Old("CheckpointingOptions", "activation_checkpointing_kwargs"),
}
"""Names that tutorials still use, with those that the release itself calls deprecated."""
