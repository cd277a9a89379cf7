"""What the image lacks, and what no image can: said in prepare. What only loading shows ends a rank for good, with its reason."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.contract.run_config import Peft, Quantization
from finetune_trainer.data import model as prepare_model
from finetune_trainer.prepare import adapter_checks
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.failures import ExpectedError
from tests.support.labelled import config
from tests.support.ranks import run_ranks
from tests.support.runs import check_image, run_config
from tests.support.tiny import reviews, tiny_bert, write_rows
from tests.support.tiny_llama import tiny_llama

GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": False}
FP8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "fmt": "e4m3", "weight_block_size": [128, 128]}


@pytest.fixture
def pretended_device(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """Let what a test pretends of devices end with it: transformers would remember the answer for all tests to come."""
    from transformers.utils import import_utils

    import_utils.is_torch_cuda_available.cache_clear()
    yield monkeypatch
    import_utils.is_torch_cuda_available.cache_clear()


@pytest.mark.parametrize(
    ("quantization", "kind", "named"),
    [
        (GPTQ, "missing", "optimum"),
        ({"quant_method": "awq", "bits": 4}, "missing", "gptqmodel"),
        ({"quant_method": "compressed-tensors"}, "missing", "compressed-tensors"),
        ({"quant_method": "torchao", "quant_type": "int8_weight_only"}, "missing", "torchao"),
        ({"quant_method": "bitnet"}, "untrainable", "bitnet"),
        ({"quant_method": "nobody-knows-it"}, "untrainable", "nobody-knows-it"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, None, ""),
        (FP8, None, ""),
        ({"quant_method": "mxfp4"}, None, ""),
    ],
    ids=lambda value: value["quant_method"] if isinstance(value, dict) else None,
)
def test_transformers_is_asked_for_quantized_weights(
    quantization: dict[str, Any], kind: str | None, named: str, pretended_device: pytest.MonkeyPatch
) -> None:
    """Whether weights in few bits can be loaded here is asked of transformers."""
    import torch

    from finetune_trainer.train.quantizer_probe import answer

    for name in ("is_available", "get_device_capability"):  # the probe has a process of its own to change
        pretended_device.setattr(torch.cuda, name, getattr(torch.cuda, name))
    refusals = answer(quantization)
    assert list(refusals) == ([kind] if kind else [])
    assert named in "".join(refusals.values())


def quantised(folder: Path, quantization: dict[str, Any]) -> Path:
    """Save a Llama whose configuration says that its weights are in few bits."""
    model = tiny_llama(folder)
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**settings, "quantization_config": quantization}))
    return model


def text_job(folder: Path, model: Path, **fields: Any) -> Any:
    train = write_rows(folder / "train.jsonl", [{"text": "cold soup"}] * 4)
    columns = {"text": "text"}
    return config(
        folder / "output", task="text-generation", model=model, files={"train": train}, columns=columns, **fields
    )


def test_gptq_base_without_packages_is_refused(tmp_path: Path) -> None:
    """A base in GPTQ without its packages is refused before a device is taken."""
    model = quantised(tmp_path / "model", GPTQ)
    with pytest.raises(ExpectedError, match="In the training image there is not what loads the weights of") as raised:
        prepare(text_job(tmp_path, model, peft=Peft(), accelerators=True))
    assert (raised.value.reason, raised.value.cause) == (Reason.NOT_IN_IMAGE, Cause.USER)
    assert "requires optimum" in str(raised.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"accelerators": True}, "which only train with spec.peft on a CUDA accelerator"),
        ({"peft": Peft()}, "which only train with spec.peft on a CUDA accelerator"),
        ({"peft": Peft(save_merged=True), "accelerators": True}, "spec.peft.saveMerged: "),
        ({"peft": Peft(), "quantization": Quantization(), "accelerators": True}, "spec.quantization: "),
    ],
)
def test_what_weights_in_few_bits_cannot_do_is_refused(fields: dict[str, Any], message: str, tmp_path: Path) -> None:
    model = prepare_model.load(quantised(tmp_path / "model", FP8), "The model")
    with pytest.raises(ExpectedError) as raised:
        adapter_checks.check(
            model, "AutoModelForCausalLM", **{"peft": None, "quantization": None, "accelerators": False, **fields}
        )
    assert raised.value.reason is Reason.ARGUMENTS_INVALID
    assert message in str(raised.value)
    assert "has weights in few bits already (fp8)" in str(raised.value)


def test_eight_bit_floats_are_made_whole(tmp_path: Path, pretended_device: pytest.MonkeyPatch) -> None:
    """The code that computes with 8-bit floats comes from the Hub: on an H100 the first step would fail."""
    import torch
    from safetensors.torch import load_file, save_file

    from finetune_trainer.tasks.loading import load

    plain, model = tiny_llama(tmp_path / "plain"), quantised(tmp_path / "model", FP8)
    weights: dict[str, Any] = {}
    for name, weight in load_file(plain / "model.safetensors").items():
        weights[name] = weight
        if "proj" in name:
            scale = weight.abs().max() / torch.finfo(torch.float8_e4m3fn).max
            weights[name] = (weight / scale).to(torch.float8_e4m3fn)
            weights[f"{name}_scale_inv"] = scale.reshape(1, 1)
    save_file(weights, model / "model.safetensors", {"format": "pt"})
    pretended_device.setattr(torch.cuda, "is_available", lambda: True)
    pretended_device.setattr(torch.cuda, "get_device_capability", lambda device=None: (9, 0))
    loaded, _ = load("AutoModelForCausalLM", model, "write text", {"device_map": "cpu"})
    whole, _ = load("AutoModelForCausalLM", plain, "write text", {})
    assert type(loaded.model.layers[0].mlp.up_proj) is torch.nn.Linear
    assert {weight.dtype for weight in loaded.parameters()} == {torch.float32}
    ids = torch.arange(5, 25).reshape(1, 20)
    with torch.no_grad():
        assert (loaded(input_ids=ids).logits - whole(input_ids=ids).logits).abs().max() < 0.05


@pytest.mark.parametrize(
    ("field", "changes", "module"),
    [("spec.peft", {"peft": Peft()}, "peft"), ("spec.quantization", {"quantization": Quantization()}, "bitsandbytes")],
)
def test_a_package_that_adapters_need_is_said_where_the_image_lacks_it(
    field: str, changes: dict[str, Any], module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = run_config(tmp_path / "output", model="/m", accelerators=True).model_copy(update=changes)
    assert check_image(job) == ()
    monkeypatch.setitem(sys.modules, module, None)  # as Python marks what can't be imported
    with pytest.raises(ExpectedError, match=f"there is no package {module}, which {field} needs"):
        check_image(job)


def test_model_not_loaded_ends_rank_for_good(tmp_path: Path) -> None:
    """The weights of the model were cut off behind prepare's back."""
    model = tiny_bert(tmp_path / "model")
    job = run_config(tmp_path / "output", model=model, train=write_rows(tmp_path / "train.csv", reviews(8)))
    prepared = prepare(job)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    finished = run_ranks(tmp_path / "ranks", job, prepared=prepared)
    assert finished.returncode != 0
    failure = finished.failure
    assert (failure["reason"], failure["cause"]) == (Reason.MODEL_NOT_LOADED, Cause.USER), "no try is spent on it"
    assert failure["message"].startswith("The model cannot classify text: ")
    assert "Traceback" not in failure["message"]


def test_what_may_pass_while_a_model_is_loaded_is_tried_again() -> None:
    import torch

    from finetune_trainer.tasks.loading import may_pass

    passing = (
        OSError(errno.EIO, "Input/output error"),
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory"),
        torch.AcceleratorError("device-side assert"),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
    )
    lasting = (OSError("no file named model.safetensors"), ImportError("optimum"), ValueError("size"), KeyError("w"))
    assert [error for error in passing if not may_pass(error)] == []
    assert [error for error in lasting if may_pass(error)] == []
