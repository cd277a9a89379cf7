"""Adapters on a base model in four bits, and half precision where nobody says which."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract.run_config import Peft, Quantization
from tests.gpu.conftest import Train
from tests.support.tiny import tiny_bert

WANTED: dict[str, Any] = {"peft": Peft(r=8, target_modules=("all-linear",)), "quantization": Quantization()}
MERGED: dict[str, Any] = {**WANTED, "peft": Peft(r=8, target_modules=("all-linear",), save_merged=True)}


def test_half_precision_is_the_hardwares_where_nobody_says_which(train: Train, world: int) -> None:
    import torch

    best = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    finished = train("run", world=world, fp16=None, max_steps=5)
    assert finished.returncode == 0, finished.output
    assert finished.heard.last("precision") == best
    assert (finished.checkpoint(5) / "scaler.pt").exists() is (best == "fp16")


def test_an_adapter_on_four_bits_learns_and_goes_on_where_it_was(train: Train, world: int, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    run = partial(
        train,
        world=world,
        model=tiny_bert(tmp_path / "small", size="small"),
        full_determinism=True,
        fields=WANTED,
        fp16=None,
    )
    undisturbed = run("undisturbed")
    assert undisturbed.returncode == 0, undisturbed.output
    losses = [entry["loss"] for entry in undisturbed.log() if "loss" in entry]
    assert min(losses) < losses[0] - 0.05
    assert "model.safetensors" not in {name for part in undisturbed.heard.checkpoints for name in part["files"]}
    killed = run("killed", kill_after_checkpoint=20)
    resumed = run("resumed", resume=killed.checkpoint(20))
    assert resumed.returncode == 0, resumed.output
    expected, weights = (load_file(finished.model / "adapter_model.safetensors") for finished in (undisturbed, resumed))
    assert all((expected[name] == weights[name]).all() for name in expected)


def test_merged_it_is_a_plain_model_in_full_precision(train: Train, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModelForSequenceClassification

    finished = train("run", model=tiny_bert(tmp_path / "small", size="small"), fields=MERGED, fp16=None)
    assert finished.returncode == 0, finished.output
    assert not (finished.model / "adapter_config.json").exists()
    assert {tensor.dtype for tensor in load_file(finished.model / "model.safetensors").values()} == {torch.float32}
    model = AutoModelForSequenceClassification.from_pretrained(finished.model)
    assert model.config.id2label == {0: "negative", 1: "positive"}
    assert not hasattr(model.config, "quantization_config")


@pytest.mark.parametrize("peft", [None, WANTED["peft"]], ids=["whole", "adapter"])
def test_activations_are_recomputed_with_and_without_an_adapter(train: Train, peft: Peft | None) -> None:
    finished = train("run", fields={"peft": peft}, max_steps=3, activation_checkpointing=True)
    assert finished.returncode == 0, finished.output
