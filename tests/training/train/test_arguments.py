"""What becomes of training arguments: ours where they differ, the user's verbatim, and what cannot work said at once."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.contract.run_config import EarlyStopping, Env, Peft, TaskConfig
from finetune_trainer.data.sampler import Strategy
from finetune_trainer.prepare import arguments
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.prepare.run_parts import RunParts
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.train import defaults
from tests.support.runs import check_image, run_config


def plan(
    tmp_path: Path,
    *,
    cuda: bool = False,
    has_bf16: bool = False,
    cores: int = 1,
    early: dict[str, Any] | None = None,
    **arguments: Any,
) -> defaults.Plan:
    config = run_config(tmp_path / "output", model="/m", arguments=arguments)
    config = config.model_copy(update={"early_stopping": EarlyStopping(**early)}) if early is not None else config
    return defaults.plan(config, cuda=cuda, bf16=has_bf16, cores=cores)


def test_checkpoints_follow_clock_and_evaluation_where_none_are_asked_for(tmp_path: Path) -> None:
    silent = plan(tmp_path)
    assert silent.timed
    assert silent.arguments["save_strategy"] == "no"
    evaluating = plan(tmp_path, eval_strategy="steps", eval_steps=7)
    assert evaluating.timed
    assert (evaluating.arguments["save_strategy"], evaluating.arguments["save_steps"]) == ("steps", 7)
    assert plan(tmp_path, eval_strategy="epoch").arguments["save_strategy"] == "epoch"


@pytest.mark.parametrize("user_arguments", [{"save_strategy": "no"}, {"save_steps": 100}, {"save_strategy": "epoch"}])
def test_what_the_user_says_about_saving_is_taken_verbatim(user_arguments: dict[str, Any], tmp_path: Path) -> None:
    planned = plan(tmp_path, **user_arguments)
    assert not planned.timed
    assert {name: planned.arguments.get(name) for name in user_arguments} == user_arguments
    assert ("save_strategy" in planned.arguments) == ("save_strategy" in user_arguments)


@pytest.mark.parametrize(
    ("user_arguments", "peft", "rate"),
    [
        ({}, Peft(), 2e-4),
        ({"learning_rate": None}, Peft(), 2e-4),
        ({"learning_rate": 5e-5}, Peft(), 5e-5),
        ({"learning_rate": 0.0}, Peft(), 0.0),
        ({}, None, 5e-5),
    ],
)
def test_the_learning_rate_suits_the_method_unless_it_is_given(
    user_arguments: dict[str, Any], peft: Peft | None, rate: float, tmp_path: Path
) -> None:
    config = run_config(tmp_path / "output", model="/m", arguments=user_arguments).model_copy(update={"peft": peft})
    planned = defaults.plan(config, cuda=False)
    assert defaults.training_arguments(planned, str(tmp_path)).learning_rate == rate


def test_rows_are_grouped_by_length_unless_asked_otherwise(tmp_path: Path) -> None:
    assert plan(tmp_path).strategy is Strategy.GROUPED
    assert plan(tmp_path, train_sampling_strategy="sequential").strategy is Strategy.SEQUENTIAL
    assert plan(tmp_path, train_sampling_strategy="sequential").arguments["train_sampling_strategy"] == "random"


@pytest.mark.parametrize(
    ("user_arguments", "cuda", "precision", "message_count"),
    [
        ({}, False, "fp32", 0),
        ({}, True, "fp16", 0),
        ({"fp16": False}, True, "fp32", 0),
        ({"bf16": False}, True, "fp32", 0),
        ({"fp16": True}, True, "fp16", 0),
        ({"bf16": True}, True, "bf16", 0),
        ({"fp16": True}, False, "fp32", 1),
        ({"bf16": True, "tf32": True}, False, "fp32", 1),
        ({"fp16": False}, False, "fp32", 0),
    ],
)
def test_precision_is_what_the_machine_can_do(
    user_arguments: dict[str, Any], cuda: bool, precision: str, message_count: int, tmp_path: Path
) -> None:
    planned = plan(tmp_path, cuda=cuda, **user_arguments)
    assert planned.precision == precision
    assert len(planned.messages) == message_count
    assert planned.arguments["use_cpu"] is not cuda
    if not cuda:
        assert not {"fp16", "bf16", "tf32"} & {name for name, value in planned.arguments.items() if value}


def test_the_trainers_own_rotation_and_filter_are_off(tmp_path: Path) -> None:
    made = defaults.training_arguments(plan(tmp_path, save_total_limit=7), str(tmp_path))
    assert made.save_total_limit is None
    assert made.logging_nan_inf_filter is False
    assert made.seed == 42


@pytest.mark.parametrize(
    ("user_arguments", "says"),
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
def test_arguments_that_cannot_work_are_the_users(user_arguments: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ExpectedError, match=says) as raised:
        defaults.training_arguments(plan(tmp_path, **user_arguments), str(tmp_path))
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
    with pytest.raises(ExpectedError, match="BertForSequenceClassification cannot recompute") as raised:
        defaults.require_supported(asked, model)
    assert (raised.value.reason, raised.value.cause) == (Reason.ARGUMENTS_INVALID, Cause.USER)


def test_half_precision_is_what_all_accelerators_have(tmp_path: Path) -> None:
    assert plan(tmp_path, cuda=True, has_bf16=True).precision == "bf16"
    assert plan(tmp_path, cuda=True, has_bf16=True).arguments["bf16"] is True
    assert plan(tmp_path, cuda=True, has_bf16=True, fp16=True).precision == "fp16"
    assert plan(tmp_path, cuda=True, has_bf16=True, fp16=False).precision == "fp32"


def test_batches_are_made_beside_the_training_on_an_accelerator(tmp_path: Path) -> None:
    assert "dataloader_num_workers" not in plan(tmp_path, cores=8).arguments
    workers = [plan(tmp_path, cuda=True, cores=cores).arguments.get("dataloader_num_workers") for cores in (1, 3, 64)]
    assert workers == [None, 2, 4]
    own = plan(tmp_path, cuda=True, cores=64, dataloader_num_workers=9, dataloader_persistent_workers=False).arguments
    assert (own["dataloader_num_workers"], own["dataloader_persistent_workers"]) == (9, False)
    assert "dataloader_persistent_workers" not in plan(tmp_path, cuda=True, dataloader_num_workers=0).arguments


@pytest.mark.parametrize(
    ("user_arguments", "metric", "greater"),
    [
        ({"load_best_model_at_end": True}, "loss", False),
        ({"metric_for_best_model": "f1"}, "f1", True),
        ({"metric_for_best_model": "eval_accuracy"}, "eval_accuracy", True),
        ({"metric_for_best_model": "f1", "greater_is_better": False}, "f1", False),
        ({"lr_scheduler_type": "reduce_lr_on_plateau"}, "loss", False),
    ],
)
def test_the_best_is_what_the_metric_says(
    user_arguments: dict[str, Any], metric: str, greater: bool, tmp_path: Path
) -> None:
    planned_arguments = plan(tmp_path, eval_strategy="epoch", **user_arguments).arguments
    assert (planned_arguments["metric_for_best_model"], planned_arguments["greater_is_better"]) == (metric, greater)


@pytest.mark.parametrize(
    ("user_arguments", "best"),
    [
        ({"eval_strategy": "epoch"}, True),
        ({"eval_strategy": "epoch", "save_strategy": "epoch"}, True),
        ({"eval_strategy": "steps", "eval_steps": 5, "save_steps": 5}, True),
        ({"eval_strategy": "steps", "eval_steps": 5, "save_steps": 7}, False),
        ({"eval_strategy": "epoch", "save_strategy": "no"}, False),
        ({"eval_strategy": "epoch", "load_best_model_at_end": False}, False),
    ],
)
def test_who_stops_early_gets_the_best_weights(user_arguments: dict[str, Any], best: bool, tmp_path: Path) -> None:
    planned = plan(tmp_path, early={"patience": 2}, **user_arguments)
    assert planned.load_best is best
    assert planned.arguments["metric_for_best_model"] == "loss"


def asking(tmp_path: Path, *, accelerators: bool = False, **arguments: Any) -> TaskConfig:
    return run_config(tmp_path / "output", model="/m", arguments=arguments, accelerators=accelerators)


def test_a_package_that_the_image_lacks_is_said_in_prepare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = asking(tmp_path, use_liger_kernel=True, accelerators=True)
    with pytest.raises(ExpectedError, match="In the training image there is no package liger-kernel, which") as raised:
        prepare(config)
    assert (raised.value.reason, raised.value.cause) == (Reason.NOT_IN_IMAGE, Cause.USER)
    assert check_image(asking(tmp_path, use_liger_kernel=True)) == (), "it has no use on the CPU, and is dropped"
    monkeypatch.setenv(Env.OTHER_IMAGE, "us/with-liger:1")
    (message,) = check_image(config)
    assert "Whether the image us/with-liger:1 has it shows once the job is prepared." in message


@pytest.mark.parametrize("user_arguments", [{"torch_compile": True}, {"torch_compile_mode": "max-autotune"}])
@pytest.mark.parametrize(("accelerators", "language"), [(True, "C"), (False, "C++")])
def test_a_compiler_that_the_image_lacks_is_said_in_prepare(
    user_arguments: dict[str, Any], accelerators: bool, language: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = asking(tmp_path, accelerators=accelerators, **user_arguments)
    monkeypatch.setenv("PATH", str(tmp_path))
    for variable in ("CC", "CXX"):
        monkeypatch.delenv(variable, raising=False)
    with pytest.raises(
        ExpectedError, match=re.escape(f"there is no {language} compiler, which trainingArguments.torch_co")
    ):
        check_image(config)
    compiler = tmp_path / ("gcc" if accelerators else "g++")
    compiler.write_text("#!/bin/sh\n")
    compiler.chmod(0o755)
    assert check_image(config) == ()


def test_text_that_is_not_written_has_no_scores(tmp_path: Path) -> None:
    user_arguments = {"eval_strategy": "epoch", "metric_for_best_model": "rouge1", "predict_with_generate": False}
    config = run_config(tmp_path / "output", model="/m", arguments=user_arguments).model_copy(
        update={"task": "summarization"}
    )
    with pytest.raises(ExpectedError, match="metric_for_best_model: rouge1 is not reported; choose one of loss"):
        arguments.check(RunParts.of(config).data.training, {"train": 40, "validation": 4})
    written = config.model_copy(update={"training_arguments": {**user_arguments, "predict_with_generate": True}})
    assert arguments.check(RunParts.of(written).data.training, {"train": 40, "validation": 4}) == ()
