"""The run config, cut into the parts that the steps of `prepare` take.

Tasks, digests and checks of memory take all of it: their functions are bound to it here, so that no step holds more than it
uses. Knows nothing of the volume and the Hub.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from finetune_trainer import tasks
from finetune_trainer.contract.effects import Effect, parts
from finetune_trainer.contract.run_config import DatasetSource, ModelSource, TaskConfig
from finetune_trainer.contract.task_facts import TASKS, ProblemType, TaskName, metrics
from finetune_trainer.data.column_request import ColumnRequest
from finetune_trainer.data.model import ModelDescription
from finetune_trainer.data.split import Split
from finetune_trainer.prepare import adapter_checks
from finetune_trainer.prepare.arguments import TrainingSettings
from finetune_trainer.prepare.fingerprint import data_key
from finetune_trainer.shared import device_memory, layerdrop
from finetune_trainer.tasks.task import Checked, Limits, Reading, Task


@dataclass(frozen=True)
class RunTask:
    """The task of a run; those of its functions that take the whole run config are bound to that of the run."""

    task: Task
    check_model: Callable[[ModelDescription], None]
    limits: Callable[[ModelDescription], tuple[Limits, tuple[str, ...]]]
    asked: Callable[[], ColumnRequest]
    check: Callable[[dict[str, Split]], Checked]
    reading: Callable[[ModelDescription, Limits, tuple[str, ...], str], Reading]
    """The constructor of a `Reading`, from the model, its limits, the names of the labels and the role of the split."""

    @classmethod
    def of(cls, config: TaskConfig) -> RunTask:
        task = tasks.find(config.task)
        return cls(
            task=task,
            check_model=partial(task.check_model, config=config),
            limits=partial(task.limits, config),
            asked=partial(task.asked, config),
            check=partial(task.check, config=config),
            reading=partial(Reading, config),
        )


@dataclass(frozen=True)
class DataSettings:
    """Settings of how the rows of a dataset are taken and tokenised."""

    dataset: DatasetSource
    class_column: str | None
    """The column that holds the class of a row as a whole; None where rows have none, or several."""
    num_proc: int | None
    training: TrainingSettings


@dataclass(frozen=True)
class RunParts:
    """The parts of a run config, each as the step that takes it wants it."""

    model: ModelSource
    data: DataSettings
    row_settings: dict[str, Any]
    """What `spec.dataset` says of the rows that are taken, as JSON."""
    accelerators: bool
    device_memory_bytes: int | None
    task: Callable[[], RunTask]
    """The function that imports the task, which takes a while, and is not needed where prepared data is found."""
    check_adapter: Callable[[ModelDescription, str], None]
    data_key: Callable[..., str]
    memory_note: Callable[[Path], str | None]
    memory_problem: Callable[[Path, int], str | None]
    layerdrop_problem: Callable[[Mapping[str, float]], str | None]

    @classmethod
    def of(cls, config: TaskConfig) -> RunParts:
        training = TrainingSettings(
            training_arguments=config.training_arguments,
            early_stopping=config.early_stopping is not None,
            adapter=config.peft is not None,
            ranks=config.world_size,
            metrics=tuple(metrics(config.task, config.problem_type)),
        )
        return cls(
            model=config.model,
            data=DataSettings(
                dataset=config.dataset,
                class_column=_class_column(config.task, config.problem_type, config.dataset.columns),
                num_proc=config.preprocessing.num_proc,
                training=training,
            ),
            row_settings=parts(config, Effect.TOKENS, mode="json", exclude_defaults=True)["dataset"],
            accelerators=config.accelerators,
            device_memory_bytes=config.device_memory_bytes,
            task=partial(RunTask.of, config),
            check_adapter=partial(
                adapter_checks.check,
                peft=config.peft,
                quantization=config.quantization,
                accelerators=config.accelerators,
            ),
            data_key=partial(data_key, config),
            memory_note=partial(device_memory.note, config),
            memory_problem=partial(device_memory.problem, config),
            layerdrop_problem=partial(layerdrop.problem, config),
        )


def _class_column(task: TaskName, problem_type: ProblemType | None, columns: Mapping[str, str]) -> str | None:
    has_class = TASKS[task].labels_rows and problem_type in (None, "single_label_classification")
    return columns.get("label", "label") if has_class else None
