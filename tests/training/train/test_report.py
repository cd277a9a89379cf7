"""The report beside a model, from a Trainer's log: every evaluation once, those before a resume too."""

from __future__ import annotations

from typing import Any

from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.train import defaults
from finetune_trainer.train.report_of_training import differing, evaluations
from tests.support.checkpoints import run_config

HISTORY: list[dict[str, Any]] = [
    {"loss": 0.7, "step": 5, "epoch": 0.5},
    {"loss": 0.6, "step": 10, "epoch": 1.0},
    {"eval_loss": 0.5, "eval_accuracy": 0.8, "eval_runtime": 1.0, "step": 10, "epoch": 1.0},
    {"loss": 0.4, "step": 20, "epoch": 2.0},
    {"eval_loss": 0.6, "eval_accuracy": 0.7, "eval_runtime": 1.0, "step": 20, "epoch": 2.0},
    {"train_runtime": 9.0, "train_loss": 0.55, "step": 20, "epoch": 2.0},
]


def arguments(**training_arguments: Any) -> TaskConfig:
    return run_config(training_arguments=training_arguments)


def reported_arguments(config: TaskConfig) -> dict[str, Any]:
    return differing(defaults.plan(config, cuda=False), config.training_arguments)


def test_each_evaluation_with_the_loss_before_it() -> None:
    first, second = evaluations(HISTORY, best_again=False)
    assert (first.step, first.epoch, first.loss, first.metrics) == (10, 1.0, 0.6, {"loss": 0.5, "accuracy": 0.8})
    assert (second.step, second.epoch, second.loss, second.metrics) == (20, 2.0, 0.4, {"loss": 0.6, "accuracy": 0.7})


def test_the_best_weights_judged_again_are_no_evaluation_of_the_last_step() -> None:
    again = {"eval_loss": 0.5, "eval_accuracy": 0.8, "step": 20, "epoch": 2.0}
    assert evaluations([*HISTORY, again], best_again=True) == evaluations(HISTORY, best_again=False)
    assert [evaluation.step for evaluation in evaluations([*HISTORY[:4], again], best_again=True)] == [10]


def test_a_resume_after_the_last_evaluation_counts_it_once() -> None:
    again = {**HISTORY[4], "eval_runtime": 2.0}
    assert evaluations([*HISTORY, again], best_again=False) == evaluations(HISTORY, best_again=False)


def test_the_last_evaluation_alone_where_no_other_was_asked_for() -> None:
    (evaluation,) = evaluations([HISTORY[3], HISTORY[5], HISTORY[4]], best_again=False)
    assert (evaluation.step, evaluation.loss) == (20, 0.4)
    assert evaluations([HISTORY[0]], best_again=False) == []


def test_what_json_cannot_hold_is_left_out() -> None:
    for value in (float("nan"), float("inf"), None):  # null, in the log of a checkpoint
        (evaluation,) = evaluations([{"loss": value, "step": 1}, {"eval_loss": value, "step": 1}], best_again=False)
        assert (evaluation.loss, evaluation.metrics) == (None, {})


def test_only_what_the_user_chose_and_what_took_effect_is_told() -> None:
    config = arguments(
        learning_rate=5e-5,  # the default
        weight_decay=0.1,
        num_train_epochs=3,
        fp16=True,  # there is no accelerator
        save_total_limit=5,
        save_strategy="steps",
        lr_scheduler_type="cosine",
        lr_scheduler_kwargs={"num_cycles": 2},
        seed=7,
        label_smoothing_factor=None,
    )
    assert reported_arguments(config) == {
        "lr_scheduler_kwargs": {"num_cycles": 2},
        "lr_scheduler_type": "cosine",
        "seed": 7,
        "train_sampling_strategy": "group_by_length",
        "weight_decay": 0.1,
    }
    assert reported_arguments(arguments(train_sampling_strategy="random")) == {}


def test_nothing_of_the_systems_and_no_secret() -> None:
    config = arguments(hub_token="hf_x", push_to_hub=True, run_name="secret-project", output_dir="/x")
    assert reported_arguments(config).keys() == {"train_sampling_strategy"}
