"""What torch itself saves, read without torch: the tensors that are not finite are found, by name."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_trainer.shared.checkpoints import finite

Poison = Callable[[dict[str, Any]], None]


def optimizer_state(dtype: torch.dtype = torch.float32) -> dict[str, Any]:
    """Return the state of AdamW after a step: two tensors of the size of the weights for each, and a count."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(8, 8), torch.nn.Linear(8, 2)).to(dtype)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.ones(4, 8, dtype=dtype)).sum().backward()
    optimizer.step()
    state: dict[str, Any] = optimizer.state_dict()
    return state


def saved(folder: Path, value: object) -> Path:
    file = folder / "optimizer.pt"
    torch.save(value, file)
    return file


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_optimizer(tmp_path: Path, dtype: torch.dtype, bad: float) -> None:
    state = optimizer_state(dtype)
    assert finite.not_finite(saved(tmp_path, state)) == ()
    state["state"][2]["exp_avg_sq"][1, 3] = bad
    assert finite.not_finite(saved(tmp_path, state)) == ("state.2.exp_avg_sq",)


def test_weights_with_views_and_whole_numbers(tmp_path: Path) -> None:
    """What lies beside a view in its storage was perhaps never written."""
    whole = torch.full((10, 4), math.nan)
    whole[2:4] = 1.0
    weights = {
        "view": whole[2:4],
        "half": torch.ones(3, dtype=torch.float16),
        "whole": torch.arange(5),
        "none": torch.empty(0),
        "parameter": torch.nn.Parameter(torch.tensor([1.0, math.nan])),
        "transposed": torch.tensor([[1.0, 2.0, math.inf], [3.0, 4.0, 5.0]]).t(),
    }
    assert finite.not_finite(saved(tmp_path, weights)) == ("parameter", "transposed")


def test_what_else_lies_in_a_checkpoint(tmp_path: Path) -> None:
    """Random states, a scheduler and arguments are classes of any library, and no tensors of training."""
    state = {"cpu": torch.get_rng_state(), "python": object(), "scheduler": {"last_lr": [math.nan]}}
    assert finite.not_finite(saved(tmp_path, state)) == ()
