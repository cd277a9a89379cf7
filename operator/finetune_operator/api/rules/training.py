"""Rules of `spec.trainingArguments`: combinations that the Trainer would refuse, minutes later and on a GPU."""

from __future__ import annotations

from finetune_operator.api.deprecated import SUCCESSORS
from finetune_operator.api.rules.rule import Rule, of_tasks
from finetune_operator.api.training_arguments import SCHEDULER_OPTIONS
from finetune_trainer.contract.run_config import LEARNING_RATE, LORA_LEARNING_RATE

AT = "spec.trainingArguments"

_EVAL = (
    "(has(self.eval_strategy) ? self.eval_strategy : has(self.evaluation_strategy) ? self.evaluation_strategy : 'no')"
)
_EVAL_OF_JOB = _EVAL.replace("self.", "self.trainingArguments.")
EVALUATES = f"(has(self.trainingArguments) && {_EVAL_OF_JOB} != 'no')"
"""CEL on spec: the job asks for evaluations while it trains."""
_HAS_EVALUATION_DATA = (
    "!has(self.dataset.files) || has(self.dataset.files.validation) || has(self.dataset.validationFraction) || "
    "has(self.dataset.splits) && has(self.dataset.splits.validation)"
)
_GIVE_EVALUATION_DATA = (
    "needs data to evaluate on: give dataset.files.validation, or hold some out with dataset.validationFraction"
)
_BEST = "(has(self.load_best_model_at_end) && self.load_best_model_at_end)"
# Without either argument a checkpoint is saved by time and at each evaluation, which suits every rule.
_SAVE_STEPS = "(has(self.save_strategy) ? self.save_strategy == 'steps' : has(self.save_steps))"
_EVERY_SAVE = "(has(self.save_steps) ? double(self.save_steps) : 500.0)"
_EVERY_EVAL = (
    "(has(self.eval_steps) ? double(self.eval_steps) : has(self.logging_steps) ? double(self.logging_steps) : 500.0)"
)
_SCHEDULER = "(has(self.lr_scheduler_type) ? self.lr_scheduler_type : 'linear')"
_LR_END = (
    "(has(self.lr_scheduler_kwargs) && has(self.lr_scheduler_kwargs.lr_end) ? "
    "double(self.lr_scheduler_kwargs.lr_end) : 0.0000001)"
)
_OF_JOB = "self.trainingArguments."
_LEARNING_RATE = (
    f"(has({_OF_JOB}learning_rate) ? double({_OF_JOB}learning_rate) : "
    f"has(self.peft) ? {LORA_LEARNING_RATE:.5f} : {LEARNING_RATE:.5f})"
)
"""CEL on spec: the learning rate of the job."""
_WORKERS = "has(self.dataloader_num_workers) && self.dataloader_num_workers > 0"
_MIN_LR = ("cosine_with_min_lr", "cosine_warmup_with_min_lr")
_NEEDS_EVALUATION = ("reduce_lr_on_plateau", "greedy")


def _schedulers_with(option: str) -> list[str]:
    return [scheduler for scheduler, options in SCHEDULER_OPTIONS.items() if option in options]


PRECISION = (
    Rule(
        AT,
        "!(has(self.fp16) && self.fp16 && has(self.bf16) && self.bf16)",
        "fp16 and bf16 exclude each other: set one of them",
        field=".bf16",
    ),
)

EVALUATION = (
    Rule(
        AT,
        f"!{_BEST} || {_EVAL} != 'no'",
        "needs evaluations to know the best: set eval_strategy to epoch or steps",
        field=".load_best_model_at_end",
    ),
    Rule(
        AT,
        f"!{_BEST} || {_EVAL} == 'no' || (has(self.save_strategy) ? self.save_strategy in ['best', {_EVAL}] : "
        f"!has(self.save_steps) || {_EVAL} == 'steps')",
        "needs a checkpoint at each evaluation: leave save_strategy and save_steps out, or set save_strategy to what "
        "eval_strategy is, or to best",
        field=".load_best_model_at_end",
    ),
    Rule(
        AT,
        f"!{_BEST} || {_EVAL} != 'steps' || !{_SAVE_STEPS} || "
        f"({_EVERY_EVAL} < 1.0) == ({_EVERY_SAVE} < 1.0) && ({_EVERY_EVAL} < 1.0 ? "
        f"int({_EVERY_SAVE} * 1000000.0 + 0.5) % int({_EVERY_EVAL} * 1000000.0 + 0.5) == 0 : "
        f"int({_EVERY_SAVE}) % int({_EVERY_EVAL}) == 0)",
        "needs a checkpoint at an evaluation: make save_steps a multiple of eval_steps (default of both: 500)",
        field=".save_steps",
    ),
    Rule(
        AT,
        f"!has(self.save_strategy) || self.save_strategy != 'best' || has(self.metric_for_best_model) || {_BEST}",
        "best needs metric_for_best_model, such as accuracy",
        field=".save_strategy",
    ),
    Rule(
        AT,
        f"!has(self.save_strategy) || self.save_strategy != 'best' || {_EVAL} != 'no'",
        "best needs evaluations: set eval_strategy to epoch or steps",
        field=".save_strategy",
    ),
    Rule(
        "spec",
        f"{_HAS_EVALUATION_DATA} || !{EVALUATES}",
        _GIVE_EVALUATION_DATA,
        field=".trainingArguments.eval_strategy",
    ),
    Rule(
        "spec",
        f"{_HAS_EVALUATION_DATA} || !has(self.trainingArguments) || "
        "!has(self.trainingArguments.eval_on_start) || !self.trainingArguments.eval_on_start",
        _GIVE_EVALUATION_DATA,
        field=".trainingArguments.eval_on_start",
    ),
)

SCHEDULER = (
    Rule(
        AT,
        f"!has(self.lr_scheduler_type) || !(self.lr_scheduler_type in {list(_NEEDS_EVALUATION)}) || {_EVAL} != 'no'",
        "follows a metric: set eval_strategy to epoch or steps",
        "self.lr_scheduler_type",
        field=".lr_scheduler_type",
    ),
    Rule(
        AT,
        f"!({_SCHEDULER} in {list(_MIN_LR)}) || has(self.lr_scheduler_kwargs) && "
        "has(self.lr_scheduler_kwargs.min_lr) != has(self.lr_scheduler_kwargs.min_lr_rate)",
        "a cosine with a minimum needs exactly one of lr_scheduler_kwargs.min_lr and lr_scheduler_kwargs.min_lr_rate",
        field=".lr_scheduler_type",
    ),
    Rule(
        AT,
        f"{_SCHEDULER} != 'warmup_stable_decay' || has(self.lr_scheduler_kwargs) && "
        "has(self.lr_scheduler_kwargs.num_decay_steps)",
        "warmup_stable_decay needs lr_scheduler_kwargs.num_decay_steps",
        field=".lr_scheduler_type",
    ),
    Rule(
        "spec",
        f"!has(self.trainingArguments) || {_SCHEDULER.replace('self.', _OF_JOB)} != 'polynomial' || "
        f"{_LR_END.replace('self.', _OF_JOB)} < {_LEARNING_RATE}",
        f"polynomial needs lr_scheduler_kwargs.lr_end (default: 1e-07) below learning_rate (default: {LEARNING_RATE}, with peft "
        f"{LORA_LEARNING_RATE})",
        field=".trainingArguments.lr_scheduler_type",
    ),
    *(
        Rule(
            AT,
            f"!has(self.lr_scheduler_kwargs) || !has(self.lr_scheduler_kwargs.{option}) || "
            f"{_SCHEDULER} in {_schedulers_with(option)}",
            f"only goes with lr_scheduler_type {' or '.join(_schedulers_with(option))}",
            field=f".lr_scheduler_kwargs.{option}",
        )
        for option in sorted({option for options in SCHEDULER_OPTIONS.values() for option in options})
    ),
)

STEPS = (
    Rule(f"{AT}.max_steps", "self != 0", "0 trains nothing: leave it out for no limit"),
    *(
        Rule(
            f"{AT}.{name}",
            "double(self) <= 1.0 || double(self) == double(int(double(self)))",
            "must be a whole number of steps, or a share of all steps below 1",
            "self",
        )
        for name in ("logging_steps", "eval_steps", "save_steps", "warmup_steps")
    ),
)

LOADER = tuple(
    Rule(
        AT, f"!({is_set}) || {_WORKERS}", "needs loader processes: set dataloader_num_workers above 0", field=f".{name}"
    )
    for name, is_set in (
        ("dataloader_prefetch_factor", "has(self.dataloader_prefetch_factor)"),
        ("dataloader_multiprocessing_context", "has(self.dataloader_multiprocessing_context)"),
        (
            "dataloader_persistent_workers",
            "has(self.dataloader_persistent_workers) && self.dataloader_persistent_workers",
        ),
    )
)

RENAMED = tuple(
    Rule(
        AT,
        f"!has(self.{old}) || !has(self.{new})",
        f"is the older name of {new}, which is given too: leave the older one out",
        field=f".{old}",
    )
    for old, new in SUCCESSORS.items()
)

RULES = of_tasks((*PRECISION, *EVALUATION, *SCHEDULER, *STEPS, *LOADER, *RENAMED))
