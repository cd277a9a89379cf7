"""What becomes of training arguments: ours where they differ, the user's verbatim, and what cannot work said at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.config import Cause, Reason
from finetune_trainer.train import defaults
from finetune_trainer.train.failures import TrainError
from finetune_trainer.train.order import Strategy
from tests.support.runs import run_config


def plan(tmp_path: Path, *, cuda: bool = False, **arguments: Any) -> defaults.Plan:
    return defaults.plan(run_config(tmp_path / "output", model="/m", arguments=arguments), cuda=cuda)


def test_checkpoints_follow_clock_and_evaluation_where_none_are_asked_for(tmp_path: Path) -> None:
    silent = plan(tmp_path)
    assert silent.timed
    assert silent.arguments["save_strategy"] == "no"
    evaluating = plan(tmp_path, eval_strategy="steps", eval_steps=7)
    assert evaluating.timed
    assert (evaluating.arguments["save_strategy"], evaluating.arguments["save_steps"]) == ("steps", 7)
    assert plan(tmp_path, eval_strategy="epoch").arguments["save_strategy"] == "epoch"


@pytest.mark.parametrize("given", [{"save_strategy": "no"}, {"save_steps": 100}, {"save_strategy": "epoch"}])
def test_what_the_user_says_about_saving_is_taken_verbatim(given: dict[str, Any], tmp_path: Path) -> None:
    found = plan(tmp_path, **given)
    assert not found.timed
    assert {name: found.arguments.get(name) for name in given} == given
    assert ("save_strategy" in found.arguments) == ("save_strategy" in given)


def test_rows_are_grouped_by_length_unless_asked_otherwise(tmp_path: Path) -> None:
    assert plan(tmp_path).strategy is Strategy.GROUPED
    assert plan(tmp_path, train_sampling_strategy="sequential").strategy is Strategy.SEQUENTIAL
    assert plan(tmp_path, train_sampling_strategy="sequential").arguments["train_sampling_strategy"] == "random"


@pytest.mark.parametrize(
    ("given", "cuda", "precision", "said"),
    [
        ({}, False, "fp32", 0),
        ({}, True, "fp32", 0),
        ({"fp16": True}, True, "fp16", 0),
        ({"bf16": True}, True, "bf16", 0),
        ({"fp16": True}, False, "fp32", 1),
        ({"bf16": True, "tf32": True}, False, "fp32", 1),
        ({"fp16": False}, False, "fp32", 0),
    ],
)
def test_precision_is_what_the_machine_can_do(
    given: dict[str, Any], cuda: bool, precision: str, said: int, tmp_path: Path
) -> None:
    found = plan(tmp_path, cuda=cuda, **given)
    assert found.precision == precision
    assert len(found.messages) == said
    assert found.arguments["use_cpu"] is not cuda
    if not cuda:
        assert not {"fp16", "bf16", "tf32"} & {name for name, value in found.arguments.items() if value}


def test_the_trainers_own_rotation_and_filter_are_off(tmp_path: Path) -> None:
    made = defaults.training_arguments(plan(tmp_path, save_total_limit=7), str(tmp_path))
    assert made.save_total_limit is None
    assert made.logging_nan_inf_filter is False
    assert made.seed == 42


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"max_steps": 0}, "max_steps: 0"),
        ({"load_best_model_at_end": True, "save_strategy": "steps"}, "load_best_model_at_end"),
        ({"optim": "no_such_optimizer"}, "no_such_optimizer"),
        ({"learning_rate": -1.0}, "Invalid learning rate: -1.0"),
        ({"adam_beta1": 1.5}, "Invalid beta parameter"),
        ({"optim": "galore_adamw"}, "galore_torch"),
        ({"dataloader_prefetch_factor": 2}, "dataloader_prefetch_factor"),
        ({"no_such_argument": 1}, "no_such_argument"),
        ({"lr_scheduler_type": "cosine", "lr_scheduler_kwargs": {"no_such": 1}}, "no_such"),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "eval strategy"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_arguments_that_cannot_work_are_the_users(given: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(TrainError, match=says) as raised:
        defaults.training_arguments(plan(tmp_path, **given), str(tmp_path))
    assert (raised.value.reason, raised.value.cause) == (Reason.ARGUMENTS_INVALID, Cause.USER)
    assert str(raised.value).startswith("trainingArguments")


def test_what_the_model_cannot_do_is_said_before_training_begins(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForSequenceClassification

    model = BertForSequenceClassification(
        BertConfig(vocab_size=9, hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4)
    )
    asked = defaults.training_arguments(plan(tmp_path, activation_checkpointing=True), str(tmp_path))
    defaults.require_supported(asked, model)
    model.supports_gradient_checkpointing = False
    defaults.require_supported(defaults.training_arguments(plan(tmp_path), str(tmp_path)), model)
    with pytest.raises(TrainError, match="BertForSequenceClassification cannot recompute") as raised:
        defaults.require_supported(asked, model)
    assert (raised.value.reason, raised.value.cause) == (Reason.ARGUMENTS_INVALID, Cause.USER)
