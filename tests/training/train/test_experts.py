"""Models with experts: the loss that spreads tokens over them, and that experts which four bits leave whole are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_trainer import tasks
from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.contract.run_config import Peft, Quantization
from finetune_trainer.data import model as prepare_model
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks.loading import skeleton
from finetune_trainer.train import balance
from tests.support.labelled import config
from tests.support.ranks import run_ranks
from tests.support.tiny import write_rows
from tests.support.tiny_kinds import byte_tokenizer, tiny_config, tiny_whole

AUTO = "AutoModelForCausalLM"
ROWS = [{"text": f"the soup was {word}"} for word in ("cold", "good", "fine", "warm")]
"""Rows of one length: each has as much weight in the loss as any other."""
WEIGHT = 0.5


def job(folder: Path, model: Path, **fields: Any) -> Any:
    train = write_rows(folder / "train.jsonl", ROWS)
    return config(
        folder / "output",
        task="text-generation",
        model=model,
        files={"train": train, "validation": train},
        columns={"text": "text"},
        preprocessing={"packing": False},
        **fields,
    )


@pytest.mark.parametrize("kind", ["mixtral", "jetmoe", "gpt_oss", "qwen3_moe"])
def test_the_weight_of_the_loss_over_experts_is_that_of_transformers(kind: str) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    ids = torch.arange(5, 45).reshape(2, 20)
    without = AutoModelForCausalLM.from_config(tiny_config(kind)).eval()
    assert balance.weight(without) == 0.0, "nobody asked for it"
    model = AutoModelForCausalLM.from_config(tiny_config(kind, output_router_logits=True)).eval()
    with torch.no_grad():
        outputs = model(input_ids=ids, labels=ids)
        alone = model(input_ids=ids, labels=ids, output_router_logits=False).loss
    assert balance.weight(model) > 0
    assert float(outputs.loss) == pytest.approx(float(alone + balance.weight(model) * outputs.aux_loss), abs=1e-6)


def test_expert_loss_is_learnt_not_reported(tmp_path: Path) -> None:
    """Two ranks with two steps of accumulation: each sees one row at a time, as transformers does here."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tiny_whole(tmp_path / "model", "qwen3_moe", output_router_logits=True, router_aux_loss_coef=WEIGHT)
    arguments = {
        "max_steps": 1,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "learning_rate": 1e-12,  # evaluated are the weights that the step has seen
        "logging_steps": 1,
        "eval_strategy": "steps",
    }
    finished = run_ranks(tmp_path / "ranks", job(tmp_path, folder, training_arguments=arguments, processes=2), world=2)
    assert finished.returncode == 0, finished.output
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    whole, alone = [], []
    with torch.no_grad():
        for row in ROWS:
            ids = torch.tensor([tokenizer(row["text"])["input_ids"]])
            whole.append(float(model(input_ids=ids, labels=ids).loss))
            alone.append(float(model(input_ids=ids, labels=ids, output_router_logits=False).loss))
    logged = {name: value for entry in finished.log() for name, value in entry.items()}
    assert logged["loss"] == pytest.approx(sum(whole) / len(ROWS), abs=1e-4)
    assert logged["eval_loss"] == pytest.approx(sum(alone) / len(ROWS), abs=1e-4)
    assert logged["loss"] > logged["eval_loss"] + WEIGHT, "the experts' share is at least its weight"


def test_a_loss_over_experts_that_is_not_computed_is_refused(tmp_path: Path) -> None:
    from transformers import AutoModelForSeq2SeqLM

    AutoModelForSeq2SeqLM.from_config(tiny_config("nllb-moe", output_router_logits=True)).save_pretrained(tmp_path)
    byte_tokenizer().save_pretrained(tmp_path)
    files = {"train": tmp_path / "train.jsonl"}
    translation = config(tmp_path / "output", task="translation", model=tmp_path, files=files)
    with pytest.raises(ExpectedError, match="asks for a loss over its experts") as raised:
        tasks.find("translation").check_model(prepare_model.load(tmp_path, "The model"), translation)
    assert raised.value.cause is Cause.USER


@pytest.mark.parametrize("kind", ["llama", "gpt2", "qwen3_moe", "mixtral", "falcon"])
def test_what_four_bits_leave_whole_is_what_is_left_whole(kind: str, tmp_path: Path) -> None:
    """The library itself is asked, with a model that it has loaded in four bits, on this processor."""
    from transformers import AutoModelForCausalLM, BitsAndBytesConfig

    from finetune_trainer.train.four_bit_probe import MATRIX, answer

    folder = tiny_whole(tmp_path / "model", kind)
    quantization: Any = BitsAndBytesConfig(load_in_4bit=True)
    model = AutoModelForCausalLM.from_pretrained(folder, quantization_config=quantization)
    kept = {id(model.get_input_embeddings().weight), id(model.get_output_embeddings().weight)}
    left = sum(
        weight.numel()
        for name, weight in model.named_parameters()
        if weight.dim() >= MATRIX
        and type(weight).__name__ != "Params4bit"
        and id(weight) not in kept
        and "wpe" not in name
    )
    meta = skeleton(AUTO, folder)
    shares = answer(meta)
    assert shares["left"] == pytest.approx(left / sum(weight.numel() for weight in meta.parameters()))
    assert (shares["left"] > 0.1) is (kind not in ("llama", "gpt2"))


def test_experts_left_whole_by_four_bits_are_refused(tmp_path: Path) -> None:
    """Experts that four bits leave whole are refused before a device is taken."""
    four_bits = {"peft": Peft(), "quantization": Quantization(), "accelerators": True}
    with pytest.raises(
        ExpectedError, match=r"spec.quantization: \d\d% of the weights of .* stay in full prec"
    ) as raised:
        prepare(job(tmp_path, tiny_whole(tmp_path / "model", "qwen3_moe"), **four_bits))
    assert raised.value.reason is Reason.ARGUMENTS_INVALID
    assert "model.layers.0.mlp.experts, a Qwen3MoeExperts" in str(raised.value)
