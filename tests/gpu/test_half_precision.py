"""fp16 with the gradient scaler: fp32 master weights, models saved in fp16, the scaler's state across a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from finetune_trainer.prepare.prepare_run import prepare
from tests.gpu.conftest import Train
from tests.support.headers import write_headers
from tests.support.ranks import Finished, run_ranks
from tests.support.runs import run_config
from tests.support.tiny import reviews, tiny_bert, write_rows


def scaler(finished: Finished, step: int) -> dict[str, Any]:
    import torch

    return dict(torch.load(finished.checkpoint(step) / "scaler.pt", weights_only=True))


def test_fp16_trains_with_a_scaler_and_fp32_masters(train: Train, world: int) -> None:
    import torch
    from safetensors.torch import load_file

    finished = train("run", world=world)
    assert finished.returncode == 0, finished.output
    assert finished.heard.last("precision") == "fp16"
    assert finished.heard.results[0]["evaluation"]["accuracy"] > 0.8
    checkpoint = finished.checkpoint(39)
    assert {tensor.dtype for tensor in load_file(checkpoint / "model.safetensors").values()} == {torch.float32}
    optimizer = torch.load(checkpoint / "optimizer.pt", map_location="cpu", weights_only=True)
    assert {state["exp_avg"].dtype for state in optimizer["state"].values()} == {torch.float32}
    assert scaler(finished, 39)["scale"] > 1
    assert {tensor.dtype for tensor in load_file(finished.model / "model.safetensors").values()} == {torch.float32}


def test_every_rank_has_a_device_of_its_own(train: Train, world: int) -> None:
    finished = train("run", world=world, max_steps=2)
    assert finished.returncode == 0, finished.output
    assert sorted(finished.heard.results) == list(range(world))
    parts = {part["rank"] for part in finished.heard.checkpoints}
    assert parts == set(range(world))


def test_a_model_saved_in_fp16_is_trained_in_fp16(train: Train, tmp_path: Path) -> None:
    finished = train("run", model=tiny_bert(tmp_path / "half", dtype="float16"))
    assert finished.returncode == 0, finished.output
    assert "Attempting to unscale FP16 gradients" not in finished.output
    assert finished.heard.results[0]["evaluation"]["accuracy"] > 0.8


def test_fp16_is_near_fp32(train: Train) -> None:
    half, full = train("half", max_steps=10), train("full", max_steps=10, fp16=False)
    assert full.heard.last("precision") == "fp32"
    losses = [[entry["loss"] for entry in finished.log() if "loss" in entry] for finished in (half, full)]
    assert len(losses[0]) == 10
    assert max(abs(mine - theirs) for mine, theirs in zip(*losses, strict=True)) < 0.05


def test_the_scaler_goes_on_where_it_was(train: Train, world: int) -> None:
    from safetensors.torch import load_file

    undisturbed = train("undisturbed", world=world, full_determinism=True)
    assert undisturbed.returncode == 0, undisturbed.output
    killed = train("killed", world=world, full_determinism=True, kill_after_checkpoint=20)
    assert not killed.heard.results
    resumed = train("resumed", world=world, full_determinism=True, resume=killed.checkpoint(20))
    assert resumed.returncode == 0, resumed.output
    assert scaler(resumed, 39) == scaler(undisturbed, 39)
    assert scaler(killed, 20)["_growth_tracker"] > 0, "a fresh scaler would count from 0 again"
    expected, weights = (load_file(finished.model / "model.safetensors") for finished in (undisturbed, resumed))
    assert all((expected[name] == weights[name]).all() for name in expected)


def test_two_ranks_agree_with_one(train: Train, world: int) -> None:
    alone = train("alone", fp16=False, max_steps=5)
    several = train("several", world=world, fp16=False, max_steps=5)
    losses = [[entry["loss"] for entry in finished.log() if "loss" in entry] for finished in (alone, several)]
    assert max(abs(mine - theirs) for mine, theirs in zip(*losses, strict=True)) < 1e-3


def test_bf16_trains_without_a_scaler(train: Train) -> None:
    finished = train("run", fp16=False, bf16=True, max_steps=5)
    assert finished.returncode == 0, finished.output
    assert finished.heard.last("precision") == "bf16"
    assert not (finished.checkpoint(5) / "scaler.pt").exists()


def test_a_rank_that_sees_a_device_and_is_told_to_use_the_cpu_says_so(train: Train) -> None:
    finished = train("run", fields={"accelerators": False}, fp16=None, max_steps=5)
    assert finished.returncode == 0, finished.output
    assert any("and training runs on the CPU" in message for message in finished.heard.messages())


def test_a_model_that_no_device_holds_is_the_users_to_change(tmp_path: Path) -> None:
    model = tiny_bert(tmp_path / "tiny")
    data = write_rows(tmp_path / "train.jsonl", reviews(30))
    config = run_config(tmp_path / "output", model=model, train=data, accelerators=True)
    large = write_headers(tmp_path / "large", {"a.weight": (1 << 20, 1 << 20)})
    prepared = prepare(config).model_copy(update={"model": str(large)})
    finished = run_ranks(tmp_path / "run", config, prepared=prepared)
    assert (finished.failure["reason"], finished.failure["cause"]) == ("ModelTooLarge", "user")
