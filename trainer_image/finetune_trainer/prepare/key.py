"""What prepared data is named after: everything that it was made from, and nothing else.

Equal keys mean equal files, so that a second run, or a second job, finds them done.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from finetune_trainer.config import RunConfig

FORMAT = 2
"""Raised with every change of this code that makes other files from the same input."""


def sha256(value: Any) -> str:
    """Digest of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def seed(config: RunConfig) -> int:
    """Seed of the shuffle before `maxSamples`."""
    value = config.training_arguments.get("seed")
    return value if isinstance(value, int) else 42


def config_digest(config: RunConfig) -> str:
    """Digest of the parts of a run config that `prepare` reads: another one means prepare again."""
    return sha256(
        {
            "format": FORMAT,
            "task": config.task,
            "problem": config.problem_type,
            "model": config.model.model_dump(),
            "dataset": config.dataset.model_dump(),
            "preprocessing": config.preprocessing.model_dump(),
            "endpoint": config.hub.endpoint,
            "seed": seed(config),
        }
    )


def data_key(config: RunConfig, *, data: Any, tokenizer: str, limits: tuple[int | None, ...]) -> str:
    """Name of the folder of prepared data; `data` is the dataset's commit or the digests of its files."""
    settings = config.dataset.model_dump(include={"name", "config", "splits", "columns", "max_samples"})
    return sha256(
        {
            "format": FORMAT,
            "task": config.task,
            "problem": config.problem_type,
            "data": data,
            "dataset": settings,
            "preprocessing": config.preprocessing.model_dump(),
            "tokenizer": tokenizer,
            "limits": limits,
            "seed": seed(config),
        }
    )[:32]
