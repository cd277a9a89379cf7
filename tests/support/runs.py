"""Run configs for reviews on this machine's disk: pod paths are local ones."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_trainer.contract.run_config import DatasetSource, HubSettings, ModelSource, Preprocessing, TaskConfig
from finetune_trainer.prepare import image


def run_config(
    output: Path,
    *,
    model: Path | str,
    train: Path | tuple[Path, ...] | None = None,
    validation: Path | None = None,
    dataset: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    max_length: int | None = None,
    processes: int = 1,
    accelerators: bool = False,
    hub: Mapping[str, Any] | None = None,
    checkpoint_interval_seconds: int = 600,
) -> TaskConfig:
    """Return a run that classifies column `review` into column `stars`."""
    output.mkdir(parents=True, exist_ok=True)
    files = {}
    if train is not None:
        files["train"] = tuple(str(path) for path in (train if isinstance(train, tuple) else (train,)))
    if validation is not None:
        files["validation"] = (str(validation),)
    source = {"files": files, "columns": {"text": "review", "label": "stars"}, **(dataset or {})}
    return TaskConfig(
        namespace="default",
        job="reviews",
        uid="11111111-aaaa",
        task="text-classification",
        model=ModelSource(name=str(model)),
        dataset=DatasetSource.model_validate(source),
        preprocessing=Preprocessing(max_length=max_length),
        training_arguments=dict(arguments or {}),
        nodes=1,
        processes_per_node=processes,
        accelerators=accelerators,
        output=str(output),
        checkpoint_interval_seconds=checkpoint_interval_seconds,
        prepare="inline",
        hub=HubSettings.model_validate(hub or {}),
    )


def check_image(config: TaskConfig) -> tuple[str, ...]:
    """Check the image for what the fields of a run need, as `prepare` does."""
    return image.check_arguments(
        config.training_arguments,
        accelerators=config.accelerators,
        peft=config.peft is not None,
        quantization=config.quantization is not None,
    )
