"""The metrics that a person reads when a job has succeeded. Pure; the line of code that tries the model is in `try_snippet`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.cli.terminal import one_line
from finetune_operator.plan.types import Manifest
from finetune_trainer.contract import task_facts
from finetune_trainer.contract.prepared import PrepareSummary

NAME_MAX = 100
"""Characters of a metric's name that are shown: a script may choose it."""
EVAL, TEST = "eval_", "test_"
HIDDEN = ("runtime", "per_second", "epoch", "step")
"""Suffixes of the names of metrics that say nothing about the model."""


def metric_lines(job: FineTuneJob, status: Manifest, prepared: PrepareSummary | None) -> Iterator[str]:
    """Yield the metrics of the last evaluation and of the test, the task's own metrics first."""
    evaluation = status.get("evaluation") or {}
    task = job.spec.task
    task_metrics = task_facts.metrics(task, job.spec.problem_type) if task is not None else {}
    guess = prepared.majority_share if prepared is not None else None
    accuracy = of_name(evaluation, "accuracy")
    if accuracy is not None and guess is not None and task is not None and task_facts.TASKS[task].labels_rows:
        yield f"accuracy   {accuracy:.3f} (guessing the commonest label: {guess:.3f})"
    evaluated = {name: value for name, value in evaluation.items() if not name.startswith(TEST)}
    tested = {name.removeprefix(TEST): value for name, value in evaluation.items() if name.startswith(TEST)}
    for head, values in (("evaluation", evaluated), ("test", tested)):
        if values:
            yield f"{head:<10} {metrics(values, task_metrics)}"


def metrics(evaluation: Mapping[str, float], first: Mapping[str, bool] | None = None) -> str:
    """Return the metrics as a short text for people: the metrics that `first` names, in its order, then the others."""
    names = {name.removeprefix(EVAL): value for name, value in evaluation.items() if not name.endswith(HIDDEN)}
    order = [name for name in first or () if name in names and name != "loss"]
    rest = [name for name in names if name not in order]
    return ", ".join(f"{one_line(name, NAME_MAX)} {names[name]:.4g}" for name in (*order, *rest))


def of_name(evaluation: Mapping[str, float] | None, name: str) -> float | None:
    """Return a metric under its own name, or under the Trainer's."""
    metrics = evaluation or {}
    return metrics.get(name, metrics.get(f"{EVAL}{name}"))
