"""Early stopping ends where transformers' own callback would, and forgets nothing."""

from __future__ import annotations

import random
from typing import Any

import pytest
from transformers import EarlyStoppingCallback, TrainerControl, TrainerState, TrainingArguments

from finetune_trainer.train.early_stopping import EarlyStopper, evaluated, without_improvement


@pytest.mark.parametrize("greater", [True, False])
@pytest.mark.parametrize("threshold", [0.0, 0.05])
def test_it_counts_as_transformers_does(greater: bool, threshold: float) -> None:
    source = random.Random(3)
    for _ in range(50):
        values = [round(source.random(), 2) for _ in range(12)]
        assert [
            without_improvement(values[:count], greater=greater, threshold=threshold) for count in range(1, 13)
        ] == stock(values, greater, threshold)


def stock(values: list[float], greater: bool, threshold: float) -> list[int]:
    """Return the counter of transformers' callback after each evaluation, the best metric kept as the Trainer keeps it."""
    callback: Any = EarlyStoppingCallback(99, threshold)
    state = TrainerState()
    arguments: Any = type("Arguments", (), {"greater_is_better": greater})
    counts = []
    for value in values:
        callback.check_metric_value(arguments, state, TrainerControl(), value)
        counts.append(callback.early_stopping_patience_counter)
        if state.best_metric is None or (value > state.best_metric if greater else value < state.best_metric):
            state.best_metric = value
    return counts


def test_a_metric_that_is_no_number_is_no_improvement() -> None:
    assert without_improvement([float("nan"), 0.5, float("nan")], greater=True, threshold=0.0) == 1


@pytest.mark.parametrize(
    ("values", "best"),
    [
        ([float("nan"), 0.5, float("nan"), None], "its best is 0.5"),
        ([None, None, None], "it was never a finite number"),
    ],
    ids=["some", "all"],
)
def test_it_ends_by_a_metric_that_is_no_number(values: list[float | None], best: str) -> None:
    messages: list[str] = []
    stopping = EarlyStopper(patience=2, threshold=0.0, metric="f1", greater=True, tell=messages.append)
    history = [{"eval_f1": value, "step": step} for step, value in enumerate(values, 1)]
    state = TrainerState(log_history=history, global_step=len(values), max_steps=99)
    arguments: Any = None
    assert stopping.on_evaluate(arguments, state, TrainerControl()).should_training_stop
    assert messages == [
        f"Training ended early, at step {len(values)} of 99: f1 did not improve in 2 evaluations; {best}."
    ]


def test_each_evaluation_in_training_counts_once() -> None:
    """An evaluation before the first step does not count, nor one that a resume or the end has repeated."""
    history = [{"eval_f1": 0.1, "step": 0}, {"loss": 1.0, "step": 5}]
    history += [{"eval_f1": 0.3, "step": 5}, {"eval_f1": 0.3, "step": 5}, {"eval_f1": 0.2, "step": 10}]
    assert evaluated(history, "f1") == {5: 0.3, 10: 0.2}


def test_what_was_to_end_ends_when_it_is_resumed(tmp_path: Any) -> None:
    notes: list[str] = []
    state = TrainerState(global_step=20, max_steps=100)
    state.log_history = [
        {"eval_loss": value, "step": step} for step, value in ((5, 0.5), (10, 0.6), (15, 0.7), (20, 0.8))
    ]
    stopping = EarlyStopper(patience=3, threshold=0.0, metric="eval_loss", greater=False, tell=notes.append)
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    control = stopping.on_train_begin(arguments, state, TrainerControl())
    assert control.should_training_stop
    stopping.on_evaluate(arguments, state, control)
    assert notes == ["Training ended early, at step 20 of 100: loss did not improve in 3 evaluations; its best is 0.5."]
    more = EarlyStopper(patience=4, threshold=0.0, metric="loss", greater=False, tell=notes.append)
    assert not more.on_train_begin(arguments, state, TrainerControl()).should_training_stop
