"""`spec.trainingArguments`: the arguments of the Hugging Face Trainer, by their own names.

Generated from transformers 5.23.0 by scripts/generate_training_arguments.py: do not edit. None means "not given".
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from finetune_operator.api.api_model import ApiModel

TRANSFORMERS_VERSION = "5.23.0"
"""Release that these arguments are of."""


class SchedulerOptions(ApiModel):
    """Arguments of one scheduler or another."""

    model_config = ConfigDict(alias_generator=None)

    num_cycles: Annotated[float, Field(gt=0)] | None = None
    """Waves of the cosine. For cosine, cosine_with_restarts, cosine_with_min_lr, cosine_warmup_with_min_lr,
    warmup_stable_decay."""
    lr_end: Annotated[float, Field(ge=0)] | None = None
    """Learning rate at the end. For polynomial."""
    power: Annotated[float, Field(gt=0)] | None = None
    """Power of the polynomial. For polynomial."""
    timescale: Annotated[int, Field(ge=1)] | None = None
    """Steps over which the rate halves at first; default: the warmup. For inverse_sqrt."""
    min_lr: Annotated[float, Field(ge=0)] | None = None
    """Learning rate that is not fallen below. For reduce_lr_on_plateau, cosine_with_min_lr, cosine_warmup_with_min_lr,
    greedy."""
    min_lr_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    """The same as a share of `learning_rate`. For cosine_with_min_lr, cosine_warmup_with_min_lr."""
    warmup_lr_rate: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of `learning_rate` that the warmup begins with. For cosine_warmup_with_min_lr."""
    num_decay_steps: Annotated[int, Field(ge=0)] | None = None
    """Steps of the decay at the end. For warmup_stable_decay."""
    num_stable_steps: Annotated[int, Field(ge=0)] | None = None
    """Steps at the peak; default: those that are left. For warmup_stable_decay."""
    warmup_type: Literal["linear", "cosine", "1-sqrt"] | None = None
    """Shape of the warmup. For warmup_stable_decay."""
    decay_type: Literal["linear", "cosine", "1-sqrt"] | None = None
    """Shape of the decay. For warmup_stable_decay."""
    min_lr_ratio: Annotated[float, Field(ge=0, le=1)] | None = None
    """Share of `learning_rate` left at the end. For warmup_stable_decay."""
    mode: Literal["min", "max"] | None = None
    """Whether the metric should fall or rise. For reduce_lr_on_plateau, greedy."""
    factor: Annotated[float, Field(gt=0, lt=1)] | None = None
    """What the learning rate is multiplied by. For reduce_lr_on_plateau, greedy."""
    patience: Annotated[int, Field(ge=0)] | None = None
    """Evaluations without progress before it changes. For reduce_lr_on_plateau, greedy."""
    threshold: Annotated[float, Field(ge=0)] | None = None
    """Change of the metric that counts as progress. For reduce_lr_on_plateau, greedy."""
    threshold_mode: Literal["rel", "abs"] | None = None
    """Whether `threshold` is a share or a difference. For reduce_lr_on_plateau, greedy."""
    cooldown: Annotated[int, Field(ge=0)] | None = None
    """Evaluations to wait after a change. For reduce_lr_on_plateau, greedy."""
    eps: Annotated[float, Field(ge=0)] | None = None
    """A smaller change of the learning rate is not made. For reduce_lr_on_plateau, greedy."""
    warmup: Annotated[int, Field(ge=0)] | None = None
    """Evaluations to wait before the rate may rise. For greedy."""
    max_lr: Annotated[float, Field(gt=0)] | None = None
    """Learning rate that is not exceeded. For greedy."""
    smooth: bool | None = None
    """Judge by the mean of the last `window_size` values. For greedy."""
    window_size: Annotated[int, Field(ge=1)] | None = None
    """Values in that mean. For greedy."""
    reset_start: Annotated[int, Field(ge=0)] | None = None
    """Evaluations after which the scheduler starts anew; 0: never. For greedy."""


class CheckpointingOptions(ApiModel):
    """Arguments of activation checkpointing."""

    model_config = ConfigDict(alias_generator=None)

    use_reentrant: bool | None = None
    """Use the older, reentrant way."""
    every_n_layers: Annotated[int, Field(ge=1)] | None = None
    """Recompute only every n-th layer: quicker, with more memory."""
    offload: bool | None = None
    """Hold what is saved in the host's memory: slower, with less on the accelerator."""
    preserve_rng_state: bool | None = None
    """Recompute with the same dropout."""
    determinism_check: Literal["default", "none"] | None = None
    """Compare shapes of what is recomputed."""


class TrainingArguments(ApiModel):
    """Arguments of the Hugging Face Trainer, by their own names."""

    model_config = ConfigDict(alias_generator=None)

    per_device_train_batch_size: Annotated[int, Field(ge=1)] | None = None
    """Rows per rank and forward pass in training. Default: 8."""
    num_train_epochs: Annotated[float, Field(gt=0)] | None = None
    """Passes over the training data; may be a fraction. Default: 3.0."""
    max_steps: Annotated[int, Field(ge=-1)] | None = None
    """Optimizer steps in all; overrides `num_train_epochs`. -1 is no limit. Default: -1."""
    learning_rate: Annotated[float, Field(ge=0)] | None = None
    """Peak learning rate. Default: 5e-05, with `peft` 2e-4."""
    lr_scheduler_type: (
        Literal[
            "linear",
            "cosine",
            "cosine_with_restarts",
            "polynomial",
            "constant",
            "constant_with_warmup",
            "inverse_sqrt",
            "reduce_lr_on_plateau",
            "cosine_with_min_lr",
            "cosine_warmup_with_min_lr",
            "warmup_stable_decay",
            "greedy",
        ]
        | None
    ) = None
    """How the learning rate changes over training. Default: linear."""
    lr_scheduler_kwargs: SchedulerOptions | None = None
    """More arguments of the scheduler; each says which scheduler takes it."""
    warmup_steps: Annotated[float, Field(ge=0)] | None = None
    """Steps over which the learning rate rises from 0. A whole number, or a share of all steps below 1. Default: 0."""
    optim: Literal["adamw_torch", "adamw_torch_fused", "adafactor", "adagrad", "rmsprop", "sgd"] | None = None
    """Optimizer. Default: adamw_torch_fused."""
    weight_decay: Annotated[float, Field(ge=0)] | None = None
    """Weight decay, on all weights but biases and layer norms. Default: 0.0."""
    adam_beta1: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Decay of Adam's first moment. Default: 0.9."""
    adam_beta2: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Decay of Adam's second moment. Default: 0.999."""
    adam_epsilon: Annotated[float, Field(ge=0)] | None = None
    """Adam's term for numerical stability. Default: 1e-08."""
    gradient_accumulation_steps: Annotated[int, Field(ge=1)] | None = None
    """Forward passes per optimizer step: the global batch is `per_device_train_batch_size` x ranks x this. Default:
    1."""
    max_grad_norm: Annotated[float, Field(ge=0)] | None = None
    """Norm to which gradients are clipped; 0 turns clipping off. Default: 1.0."""
    label_smoothing_factor: Annotated[float, Field(ge=0, lt=1)] | None = None
    """Share of the probability spread over the other labels. Default: 0.0."""
    bf16: bool | None = None
    """Mixed precision with bfloat16 (Ampere or newer). Not together with `fp16`. With false training runs in fp32.
    Default: where there is an accelerator, and neither it nor `fp16` is given: true if the hardware has bfloat16."""
    fp16: bool | None = None
    """Mixed precision with float16 and fp32 master weights. With false, and without an accelerator, training runs in
    fp32. Default: where there is an accelerator, and neither it nor `bf16` is given: true if the hardware has no
    bfloat16."""
    tf32: bool | None = None
    """TF32 arithmetic on Ampere and newer GPUs."""
    torch_compile: bool | None = None
    """Compile the model for the accelerator: slower first steps, quicker ones after them. Needs an image with a C
    compiler (`spec.image`). Default: false."""
    torch_compile_mode: Literal["default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"] | None = (
        None
    )
    """How much `torch_compile` tries."""
    use_liger_kernel: bool | None = None
    """Fused kernels for Llama-like models on CUDA: quicker, with less memory. Needs an image with the package
    liger-kernel (`spec.image`). Default: false."""
    activation_checkpointing: bool | None = None
    """Recompute activations in the backward pass: less memory, some 20 % slower."""
    activation_checkpointing_kwargs: CheckpointingOptions | None = None
    """How activations are recomputed."""
    neftune_noise_alpha: Annotated[float, Field(gt=0)] | None = None
    """Strength of NEFTune noise on the embeddings; 5 to 15 is usual."""
    torch_empty_cache_steps: Annotated[int, Field(ge=1)] | None = None
    """Steps between calls that empty the accelerator's cache."""
    logging_strategy: Literal["no", "steps", "epoch"] | None = None
    """When loss and learning rate are logged. Quote "no": without quotes YAML reads it as false. Default: steps."""
    logging_steps: Annotated[float, Field(gt=0)] | None = None
    """Steps between logs. A whole number, or a share of all steps below 1. Default: 500."""
    logging_first_step: bool | None = None
    """Log the first step as well. Default: false."""
    log_level: Literal["debug", "info", "warning", "error", "critical", "passive"] | None = None
    """How much rank 0 writes to its log. Default: passive."""
    log_level_replica: Literal["debug", "info", "warning", "error", "critical", "passive"] | None = None
    """How much the other ranks write to their logs. Default: warning."""
    eval_strategy: Literal["no", "steps", "epoch"] | None = None
    """When the model is evaluated. Where there is validation data it is evaluated at the end in any case. Quote "no":
    without quotes YAML reads it as false. Default: no."""
    eval_steps: Annotated[float, Field(gt=0)] | None = None
    """Steps between evaluations with `eval_strategy: steps`; default: `logging_steps`. A whole number, or a share of
    all steps below 1."""
    eval_delay: Annotated[float, Field(ge=0)] | None = None
    """Epochs or steps (as `eval_strategy` counts) before the first evaluation. Default: 0."""
    eval_on_start: bool | None = None
    """Evaluate before the first step. Default: false."""
    eval_accumulation_steps: Annotated[int, Field(ge=1)] | None = None
    """Prediction steps kept on the accelerator before they are moved to memory."""
    per_device_eval_batch_size: Annotated[int, Field(ge=1)] | None = None
    """Rows per rank and forward pass in evaluation. Default: 8."""
    save_strategy: Literal["no", "steps", "epoch", "best"] | None = None
    """When a checkpoint is written; `best`: when the metric has improved. Quote "no": without quotes YAML reads it as
    false. Default: by time: every `checkpointIntervalSeconds`, and at each evaluation."""
    save_steps: Annotated[float, Field(gt=0)] | None = None
    """Steps between checkpoints with `save_strategy: steps`. A whole number, or a share of all steps below 1. Default:
    by time, see `save_strategy`."""
    save_total_limit: Annotated[int, Field(ge=1)] | None = None
    """Checkpoints to keep; the newest and the best are always kept. Default: 2."""
    load_best_model_at_end: bool | None = None
    """Take the best checkpoint as the final model. Needs `save_strategy` equal to `eval_strategy`, or `best`. Default:
    true with `earlyStopping`, where every evaluation has a checkpoint."""
    metric_for_best_model: (
        Literal[
            "accuracy",
            "bleu",
            "chrf",
            "exact_match",
            "f1",
            "f1_micro",
            "gen_len",
            "loss",
            "mse",
            "pearson",
            "perplexity",
            "precision",
            "recall",
            "rouge1",
            "rouge2",
            "rougeL",
            "rougeLsum",
            "eval_accuracy",
            "eval_bleu",
            "eval_chrf",
            "eval_exact_match",
            "eval_f1",
            "eval_f1_micro",
            "eval_gen_len",
            "eval_loss",
            "eval_mse",
            "eval_pearson",
            "eval_perplexity",
            "eval_precision",
            "eval_recall",
            "eval_rouge1",
            "eval_rouge2",
            "eval_rougeL",
            "eval_rougeLsum",
        ]
        | None
    ) = None
    """Metric that the best checkpoint is chosen by, one of the task's; default: `loss`."""
    greater_is_better: bool | None = None
    """Whether a greater metric is better; default: what is so for the metric."""
    predict_with_generate: bool | None = None
    """Let the model write text in evaluations and score that (ROUGE, BLEU); with false there is the loss alone. For
    summarization and translation. Default: true."""
    generation_max_length: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    """Tokens at most of what is written in evaluations; default: `preprocessing.maxTargetLength`. For summarization and
    translation."""
    generation_num_beams: Annotated[int, Field(ge=1, le=1024)] | None = None
    """Beams of the search for what is written in evaluations; default: the model's own. For summarization and
    translation."""
    full_determinism: bool | None = None
    """Make every operation deterministic: slower, for debugging. Default: false."""
    seed: Annotated[int, Field(ge=0, le=4_294_967_295)] | None = None
    """Seed of weights, dropout and data order. Default: 42."""
    data_seed: Annotated[int, Field(ge=0, le=4_294_967_295)] | None = None
    """Seed of the data order alone; default: `seed`."""
    dataloader_drop_last: bool | None = None
    """Drop the last batch of an epoch where it is not full. Default: false."""
    dataloader_num_workers: Annotated[int, Field(ge=0, le=1024)] | None = None
    """Processes per rank that load data; 0: the rank itself. Default: by the cores, at most 4, where there is an
    accelerator; 0 on the CPU."""
    dataloader_pin_memory: bool | None = None
    """Load batches into pinned memory. Default: true."""
    dataloader_persistent_workers: bool | None = None
    """Keep the loader's processes between epochs. Needs `dataloader_num_workers`. Default: true where there is an
    accelerator."""
    dataloader_prefetch_factor: Annotated[int, Field(ge=1)] | None = None
    """Batches that each loader process has ready. Needs `dataloader_num_workers`."""
    dataloader_multiprocessing_context: Literal["fork", "spawn", "forkserver"] | None = None
    """How loader processes are started."""
    train_sampling_strategy: Literal["random", "sequential", "group_by_length"] | None = None
    """Order of the training rows; `group_by_length` batches rows of similar length, with the least padding. The longest
    batches of the first epoch come first, but with `sequential`. Default: group_by_length."""
    ddp_find_unused_parameters: bool | None = None
    """Look for parameters that took no part in the loss."""
    ddp_bucket_cap_mb: Annotated[int, Field(ge=1)] | None = None
    """Size in MiB of the buckets in which gradients are exchanged."""
    ddp_broadcast_buffers: bool | None = None
    """Broadcast the model's buffers at each forward pass."""
    ddp_static_graph: bool | None = None
    """Promise that the graph of the computation never changes, for a quicker exchange."""
    ddp_timeout: Annotated[int, Field(ge=1)] | None = None
    """Seconds after which an exchange between ranks counts as stuck. Default: 1800."""
    debug: Literal["underflow_overflow"] | None = None
    """`underflow_overflow`: stop with a report where an activation or weight is not finite."""
    evaluation_strategy: Literal["no", "steps", "epoch"] | None = Field(default=None, deprecated=True)
    """Deprecated: write `eval_strategy`."""
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)] | None = Field(default=None, deprecated=True)
    """Deprecated: write `warmup_steps`."""
    group_by_length: bool | None = Field(default=None, deprecated=True)
    """Deprecated: write `train_sampling_strategy: group_by_length`."""
    per_gpu_train_batch_size: Annotated[int, Field(ge=1)] | None = Field(default=None, deprecated=True)
    """Deprecated: write `per_device_train_batch_size`."""
    per_gpu_eval_batch_size: Annotated[int, Field(ge=1)] | None = Field(default=None, deprecated=True)
    """Deprecated: write `per_device_eval_batch_size`."""
    adafactor: bool | None = Field(default=None, deprecated=True)
    """Deprecated: write `optim: adafactor`."""
    gradient_checkpointing: bool | None = Field(default=None, deprecated=True)
    """Deprecated: write `activation_checkpointing`."""
    gradient_checkpointing_kwargs: CheckpointingOptions | None = Field(default=None, deprecated=True)
    """Deprecated: write `activation_checkpointing_kwargs`."""


SCHEDULER_OPTIONS: dict[str, tuple[str, ...]] = {
    "linear": (),
    "cosine": ("num_cycles",),
    "cosine_with_restarts": ("num_cycles",),
    "polynomial": ("lr_end", "power"),
    "constant": (),
    "constant_with_warmup": (),
    "inverse_sqrt": ("timescale",),
    "reduce_lr_on_plateau": ("mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lr", "eps"),
    "cosine_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate"),
    "cosine_warmup_with_min_lr": ("num_cycles", "min_lr", "min_lr_rate", "warmup_lr_rate"),
    "warmup_stable_decay": (
        "num_decay_steps",
        "num_stable_steps",
        "warmup_type",
        "decay_type",
        "min_lr_ratio",
        "num_cycles",
    ),
    "greedy": (
        "mode",
        "factor",
        "patience",
        "threshold",
        "threshold_mode",
        "cooldown",
        "warmup",
        "min_lr",
        "max_lr",
        "eps",
        "smooth",
        "window_size",
        "reset_start",
    ),
}
"""Scheduler -> keyword arguments that it takes."""


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
"""Why -> arguments that a job cannot give."""
