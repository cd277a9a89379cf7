"""Names of older releases are translated, and said."""

import pytest

from finetune_operator.api import crd
from finetune_operator.api.deprecated import SUCCESSORS, translate
from finetune_operator.api.training_arguments import TrainingArguments


@pytest.mark.parametrize(
    ("arguments", "current"),
    [
        ({"evaluation_strategy": "epoch"}, {"eval_strategy": "epoch"}),
        ({"warmup_ratio": 0.1}, {"warmup_steps": 0.1}),
        ({"group_by_length": True}, {"train_sampling_strategy": "group_by_length"}),
        ({"group_by_length": False}, {"train_sampling_strategy": "random"}),
        ({"per_gpu_train_batch_size": 4}, {"per_device_train_batch_size": 4}),
        ({"per_gpu_eval_batch_size": 4}, {"per_device_eval_batch_size": 4}),
        ({"adafactor": True}, {"optim": "adafactor"}),
        ({"adafactor": False}, {}),
        ({"gradient_checkpointing": True}, {"activation_checkpointing": True}),
        (
            {"gradient_checkpointing_kwargs": {"use_reentrant": False}},
            {"activation_checkpointing_kwargs": {"use_reentrant": False}},
        ),
    ],
)
def test_an_older_name_is_translated_and_said(arguments: dict[str, object], current: dict[str, object]) -> None:
    (name,) = arguments

    translated, warnings = translate(TrainingArguments.model_validate(arguments))

    assert translated == current
    assert len(warnings) == 1
    assert name in warnings[0]


def test_todays_names_are_taken_verbatim() -> None:
    arguments = {"learning_rate": 5e-5, "eval_strategy": "epoch", "lr_scheduler_kwargs": {"num_cycles": 2.0}}

    assert translate(TrainingArguments.model_validate(arguments)) == (arguments, ())


def test_what_is_not_given_is_not_there() -> None:
    assert translate(TrainingArguments(fp16=None)) == ({}, ())


def test_the_schema_says_of_every_older_name_what_to_write() -> None:
    arguments = crd.schema()["properties"]["spec"]["properties"]["trainingArguments"]["properties"]

    for old, new in SUCCESSORS.items():
        assert arguments[old]["description"].startswith(f"Deprecated: write `{new}")
    assert {name for name, field in arguments.items() if field["description"].startswith("Deprecated")} == set(
        SUCCESSORS
    )
