"""The report that rank 0 leaves beside the final model, for its card: how the model was made.

The report holds values that training has anyway; nothing is measured here. Settings that the user did not choose, and secrets,
are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import fields
from datetime import UTC, datetime
from importlib import metadata
from typing import Any

import torch

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.training_report import Evaluation, TrainingReport
from finetune_trainer.train.callback import plain
from finetune_trainer.train.defaults import OWNED, Plan
from finetune_trainer.train.world import World

PACKAGES = ("transformers", "torch", "datasets", "tokenizers", "accelerate")
LEFT_OUT = ("output_dir", "logging_dir", "run_name", "use_cpu", "local_rank", "project", "trackio_space_id")
"""Arguments that name places on this system: they do not change the model."""
SECRETIVE = ("hub_", "push_to_hub")


def training_report(
    *,
    task: str,
    plan: Plan,
    user_arguments: Mapping[str, Any],
    prepared: PreparedTask,
    state: Any,
    world: World,
    batch_rows: int,
    started: datetime,
    evaluation: Mapping[str, float] | None,
    kept_step: int,
    test: Mapping[str, float] | None,
    details: Mapping[str, Any],
    packages: Iterable[str] = (),
) -> TrainingReport:
    """Return the report of a finished training. `state` is the Trainer's, `kept_step` the step of the saved weights.

    `packages` are those that only some runs train with.
    """
    return TrainingReport(
        task=task,
        started=started,
        finished=datetime.now(UTC),
        steps=state.global_step,
        epochs=float(state.epoch or 0.0),
        world_size=world.size,
        global_batch_size=batch_rows,
        precision=plan.precision,
        hardware=hardware(world),
        versions=versions((*PACKAGES, *packages)),
        training_arguments=differing(plan, user_arguments),
        evaluations=tuple(evaluations(state.log_history, best_again=kept_step != state.global_step)),
        evaluation=dict(evaluation) if evaluation is not None else None,
        kept_step=kept_step,
        test=dict(test) if test is not None else None,
        details=dict(details),
        summary=prepared.summary,
        splits=prepared.splits,
        resolved=prepared.resolved.model_copy(update={"precision": plan.precision}),
    )


def hardware(world: World) -> str:
    """Describe the hardware of the training, for people."""
    if not world.cuda:
        return f"CPU ({world.size} {'rank' if world.size == 1 else 'ranks'})"
    return f"{world.size} x {torch.cuda.get_device_name()}"


def versions(packages: Iterable[str] = PACKAGES) -> dict[str, str]:
    """Return the versions of the packages that decide the result."""
    versions = {}
    for name in packages:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue  # a user's own image may lack what its task does not need
    return versions


def differing(plan: Plan, user_arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the user's arguments that took effect and are not the default, and the order of the rows."""
    from transformers import TrainingArguments

    defaults = {field.name: field.default for field in fields(TrainingArguments)}
    default_order = defaults["train_sampling_strategy"]
    reported = {
        name: plan.arguments[name]
        for name in user_arguments
        if name in plan.arguments
        and name not in OWNED
        and name not in LEFT_OUT
        and not name.startswith(SECRETIVE)
        and not _same(plan.arguments[name], defaults.get(name))
    }
    if not _same(str(plan.strategy), default_order):
        reported["train_sampling_strategy"] = str(plan.strategy)
    return dict(sorted(reported.items()))


def _same(value: Any, default: Any) -> bool:
    return bool(value == default or str(value) == str(getattr(default, "value", default)))


def evaluations(history: Iterable[Mapping[str, Any]], *, best_again: bool) -> list[Evaluation]:
    """Return the evaluations of a Trainer's log, oldest first, each with the training loss as logged before it.

    With `best_again` the last one is left out: it was of the best weights, loaded after training, whose own step has it
    already. Of two evaluations of one step (a resume after the last one) the first counts.
    """
    by_step: dict[int, Evaluation] = {}
    entries = list(history)
    judged = [index for index, entry in enumerate(entries) if any(name.startswith("eval_") for name in entry)]
    reported = set(judged[:-1] if best_again else judged)
    loss: float | None = None
    for index, entry in enumerate(entries):
        if "loss" in entry:
            loss = entry["loss"]
        if index in reported:
            step = int(entry["step"])
            # In the log of a checkpoint a value that is not finite is null.
            metrics = {name: value for name, value in entry.items() if name.startswith("eval_") and value is not None}
            evaluation = Evaluation(
                step=step,
                epoch=float(entry.get("epoch") or 0.0),
                loss=loss if loss is not None and math.isfinite(loss) else None,
                metrics=plain(metrics),
            )
            by_step.setdefault(step, evaluation)
    return list(by_step.values())
