"""The gpu tier: training in half precision on CUDA devices, by real ranks.

Where there is no device the tests are left out and one line says so (`tests/conftest.py`); it alone may be absent.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import machine
from tests.support.ranks import Finished, run_ranks
from tests.support.runs import run_config
from tests.support.tiny import reviews, tiny_bert, write_rows

ARGUMENTS: dict[str, Any] = {
    "num_train_epochs": 3,
    "learning_rate": 1e-2,
    "logging_steps": 1,
    "per_device_train_batch_size": 16,
    "save_strategy": "steps",
    "save_steps": 10,
    "fp16": True,
}
Train = Callable[..., Finished]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run tests with a `world` of 1, and of 2 where there are two devices."""
    if "world" in metafunc.fixturenames:
        metafunc.parametrize("world", _worlds(), ids=lambda size: f"{size}-ranks")


def _worlds() -> list[int]:
    if not machine.has_cuda():
        return [1]
    import torch

    return [1, 2] if torch.cuda.device_count() >= 2 else [1]


@pytest.fixture
def train(tmp_path: Path) -> Train:
    """Train on CUDA devices with fp16: `train(name, world=..., resume=..., **arguments)`; `fields` are of the run config."""
    data = write_rows(tmp_path / "train.jsonl", reviews(203))
    validation = write_rows(tmp_path / "validation.jsonl", reviews(61, seed=1))

    def run(
        name: str,
        *,
        world: int = 1,
        model: Path | None = None,
        resume: Path | None = None,
        kill_after_checkpoint: int | None = None,
        fields: dict[str, Any] | None = None,
        **arguments: Any,
    ) -> Finished:
        config = run_config(
            tmp_path / "output",
            model=model or tiny_bert(tmp_path / "initial"),
            train=data,
            validation=validation,
            arguments={**ARGUMENTS, "per_device_train_batch_size": 16 // world, **arguments},
            processes=world,
            accelerators=True,
        ).model_copy(update=fields or {})
        return run_ranks(
            tmp_path / name, config, world=world, resume=resume, kill_after_checkpoint=kill_after_checkpoint
        )

    return run
