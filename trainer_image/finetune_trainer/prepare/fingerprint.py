"""Digests that prepared data is named after: of everything that the data was made from, and of nothing else.

Equal keys mean equal files, so that a second run, or a second job, finds them done.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_trainer.contract.effects import Effect, parts
from finetune_trainer.contract.run_config import RunConfig, TaskConfig

FORMAT = 5
"""The version of the files: raised with every change of the code that makes other files from the same input."""


def sha256(value: Any) -> str:
    """Return the digest of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


WEIGHTS = (".safetensors", ".bin")
SAMPLES, SAMPLE_BYTES = 16, 64 << 10


def model_digest(folder: Path) -> str:
    """Return the digest of a base model: of its configuration, and of the size and samples of its weights.

    The digest does not prove that every byte is right; but two trainings of one model differ everywhere. A copy of a model has
    the same digest.
    """
    files = sorted(path for path in folder.iterdir() if path.is_file())
    configs = [[path.name, file_digest(path)] for path in files if path.name in ("config.json", "adapter_config.json")]
    return sha256([configs, [_sampled(path) for path in files if path.suffix in WEIGHTS]])


def _sampled(path: Path) -> list[object]:
    size, state = path.stat().st_size, hashlib.sha256()
    with path.open("rb", buffering=0) as file:
        for sample in range(SAMPLES):
            file.seek(max(0, size - SAMPLE_BYTES) * sample // (SAMPLES - 1))
            state.update(file.read(SAMPLE_BYTES))
    return [path.name, size, state.hexdigest()]


def seed(training_arguments: Mapping[str, Any]) -> int:
    """Return the seed of the shuffle before `maxSamples`."""
    value = training_arguments.get("seed")
    return value if isinstance(value, int) else 42


def config_digest(config: RunConfig) -> str:
    """Return the digest of the parts of a run config that `prepare` reads: another one means prepare again.

    The training arguments are among them: `prepare` checks that they fit the data, before an accelerator is taken.
    """
    checked = parts(config, Effect.CHECKS)
    return sha256(
        {
            "format": FORMAT,
            "problem": checked.pop("problem_type"),
            "endpoint": checked.pop("hub")["endpoint"],
            "ranks": config.world_size,
            **checked,
        }
    )


def data_key(config: TaskConfig, *, data: Any, model: Any, limits: tuple[int | None, ...]) -> str:
    """Return the name of the folder of prepared data.

    `data` says which rows there are (commit or digests of files, and what `spec.dataset` says of them), `model` what tokens
    depend on of the model.
    """
    dataset = config.dataset
    drawn = bool(dataset.max_samples) or dataset.validation_fraction is not None
    in_tokens = parts(config, Effect.TOKENS)
    return sha256(
        {
            "format": FORMAT,
            "problem": in_tokens.pop("problem_type"),
            **{name: value for name, value in in_tokens.items() if name != "dataset"},
            "data": data,
            "model": model,
            "limits": limits,
            "seed": seed(config.training_arguments) if drawn else None,
        }
    )[:32]
