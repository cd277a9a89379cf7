"""The end of a training whose evaluations no longer improve, as in transformers' own callback.

That callback counts in memory: on a resume its count is lost, or comes back together with unwanted state. Here the count is
read from the evaluations in the Trainer's log, which every checkpoint holds. So a resumed run ends where an undisturbed one
does, even if it resumes from the very step at which it was to end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class EarlyStopper(TrainerCallback):
    """A callback that decides the same on every rank, because all have the same log."""

    def __init__(
        self, *, patience: int, threshold: float, metric: str, greater: bool, tell: Callable[[str], None]
    ) -> None:
        self._patience, self._threshold = patience, threshold
        self._metric = metric.removeprefix("eval_")
        self._greater = greater
        self._tell = tell
        self._over = False

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        return self._judge(state, control)

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        return self._judge(state, control)

    def _judge(self, state: TrainerState, control: TrainerControl) -> TrainerControl:
        values = evaluated(state.log_history, self._metric)
        count = without_improvement(values.values(), greater=self._greater, threshold=self._threshold)
        if count < self._patience:
            return control
        control.should_training_stop = True
        if not self._over and state.global_step < state.max_steps:
            self._over = True
            finite = [value for value in values.values() if math.isfinite(value)]
            best = (
                f"its best is {(max if self._greater else min)(finite):.4g}"
                if finite
                else "it was never a finite number"
            )
            self._tell(
                f"Training ended early, at step {state.global_step} of {state.max_steps}: {self._metric} did not "
                f"improve in {count} evaluation{'s' * (count != 1)}; {best}."
            )
        return control


def evaluated(history: Iterable[Mapping[str, Any]], metric: str) -> dict[int, float]:
    """Return the metric of the evaluations in training, by step. An evaluation before the first step does not count.

    A value that is not finite is null in the log of a checkpoint, and is no improvement.
    """
    name = f"eval_{metric}"
    values: dict[int, float] = {}
    for entry in history:
        if name in entry and entry["step"] > 0:
            value = entry[name]
            values.setdefault(int(entry["step"]), math.nan if value is None else float(value))
    return values


def without_improvement(values: Iterable[float], *, greater: bool, threshold: float) -> int:
    """Count the evaluations, back from the last one, that are not better than the best before them."""
    count, best = 0, None
    for value in values:
        if best is None:
            count, best = 0, -math.inf if greater else math.inf
        elif (value > best if greater else value < best) and abs(value - best) > threshold:
            count = 0
        else:
            count += 1
        if value > best if greater else value < best:
            best = value
    return count
