"""Mistakes in `spec.trainingArguments` that the API server refuses, and the way to write a row of the API server."""

from __future__ import annotations

from typing import Any

from tests.support.bad_input.row import BadInput, SaidBy


def refused(name: str, what: str, field: str, message: str, **spec: Any) -> BadInput:
    """Return a row whose message `finetune validate` shows too; `__` in a keyword is a dot of the path."""
    patch = {path.replace("__", "."): value for path, value in spec.items()}
    return BadInput(name, what, SaidBy.API_SERVER, message, reason=field, spec=patch, on_laptop=True)


def _argument(name: str, what: str, message: str, argument: str, value: Any, **others: Any) -> BadInput:
    return refused(
        name, what, f"spec.trainingArguments.{argument}", message, trainingArguments={argument: value, **others}
    )


ARGUMENTS = (
    _argument(
        "argument-misspelt",
        "a training argument misspelt by a letter (`finetune validate` names the right one)",
        "unknown field",
        "learnin_rate",
        5e-5,
    ),
    _argument(
        "argument-mistyped",
        "text where a training argument is a number",
        'spec.trainingArguments.learning_rate in body must be of type number: "string"',
        "learning_rate",
        "5e-5",
    ),
    _argument(
        "argument-fraction",
        "a fraction where a training argument is a whole number",
        'spec.trainingArguments.per_device_train_batch_size in body must be of type integer: "number"',
        "per_device_train_batch_size",
        0.5,
    ),
    _argument(
        "argument-out-of-range",
        "a training argument out of its range",
        "spec.trainingArguments.learning_rate in body should be greater than or equal to 0",
        "learning_rate",
        -0.1,
    ),
    _argument("argument-not-a-choice", "a value that is none of the choices", "supported values", "optim", "adam"),
    _argument(
        "argument-of-older-release",
        "an argument of transformers 4 that has no successor (`finetune validate` says what to do)",
        "unknown field",
        "no_cuda",
        True,
    ),
    _argument(
        "argument-of-the-system",
        "an argument that the system decides (`finetune validate` says why)",
        "unknown field",
        "output_dir",
        "/output",
    ),
    _argument(
        "argument-and-older-name",
        "an argument and its older name",
        "is the older name of eval_strategy, which is given too: leave the older one out",
        "evaluation_strategy",
        "epoch",
        eval_strategy="epoch",
    ),
    _argument(
        "no-without-quotes",
        "`eval_strategy: no` without quotes, which YAML reads as a boolean",
        'spec.trainingArguments.eval_strategy in body must be of type string: "boolean"',
        "eval_strategy",
        False,
    ),
    _argument(
        "fp16-and-bf16", "fp16 with bf16", "fp16 and bf16 exclude each other: set one of them", "bf16", True, fp16=True
    ),
    _argument(
        "best-model-without-evaluation",
        "the best model without an evaluation",
        "needs evaluations to know the best: set eval_strategy to epoch or steps",
        "load_best_model_at_end",
        True,
    ),
    _argument("no-steps", "no step at all", "0 trains nothing: leave it out for no limit", "max_steps", 0),
)
