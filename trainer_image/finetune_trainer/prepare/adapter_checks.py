"""Adapters and weights in four bits: what cannot be trained is refused before an accelerator is taken.

Which modules a model has is only known with torch; here the names of its saved weights are asked, and where they leave a
doubt (heads that are new, weights that are put together while loading) the ranks decide.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import Peft, Quantization
from finetune_trainer.data.data_errors import names
from finetune_trainer.data.model import ModelDescription, quantization_of
from finetune_trainer.prepare import probes
from finetune_trainer.shared.failures import ExpectedError

ALL_LINEAR = "all-linear"
NEW = ("classifier", "pre_classifier", "score", "qa_outputs", "classification_head", "lm_head", "embed_out")
"""Modules that saved weights may lack: heads, and output embeddings that are the input's."""
MATRIX = 2
LEFT_MOST = 0.1
"""Share of the weights that may stay in full precision where four bits are asked for."""


def check(
    model: ModelDescription,
    model_class: str,
    *,
    peft: Peft | None,
    quantization: Quantization | None,
    accelerators: bool,
) -> None:
    """Raise ExpectedError where the model's weights cannot be trained as asked; `model_class` is what loads them."""
    if quantization is not None:
        _require_accelerator(peft, accelerators)
    saved = quantization_of(model.config)
    if saved is not None:
        _require_adapter_upon(model, str(saved.get("quant_method")), peft, accelerators)
        _require_nothing_else(model, str(saved.get("quant_method")), peft, quantization)
    if peft is not None:
        _require_modules(peft.target_modules, model)
    if quantization is not None:
        _require_few_bits(model, model_class)


def _require_accelerator(peft: Peft | None, accelerators: bool) -> None:
    if not accelerators:
        raise _refusal(
            "spec.quantization: weights in four bits need a CUDA accelerator, and the job asks for none. Ask for one in "
            "spec.resources, or leave spec.quantization out: spec.peft alone trains on a CPU too."
        )
    if peft is None:
        raise _refusal("spec.quantization: weights in four bits cannot be trained themselves; add spec.peft.")


def _require_adapter_upon(model: ModelDescription, method: str, peft: Peft | None, accelerators: bool) -> None:
    """Refuse all but adapters on a CUDA accelerator where the saved weights have few bits already."""
    if peft is None or not accelerators:
        raise _refusal(
            f"{model.name} has weights in few bits already ({method}), which only train with spec.peft on a CUDA accelerator. "
            "Choose the model that it was made from."
        )


def _require_nothing_else(
    model: ModelDescription, method: str, peft: Peft | None, quantization: Quantization | None
) -> None:
    """Refuse what would change saved weights of few bits: adapters stay beside them."""
    merged = peft is not None and peft.save_merged
    refused = {"spec.peft.saveMerged": merged, "spec.quantization": quantization is not None}
    for field, asked in refused.items():
        if asked:
            raise _refusal(
                f"{field}: {model.name} has weights in few bits already ({method}), which take an adapter beside them and no other "
                "change. Leave it out, or choose the model that it was made from."
            )


def _require_few_bits(model: ModelDescription, model_class: str) -> None:
    """Refuse four bits that most weights would not have: the model would take the memory of a whole one."""
    answer = probes.ask("four_bit_probe", str(model.folder), model_class)
    left = answer.get("left", 0.0)
    if left > LEFT_MOST:
        raise _refusal(
            f"spec.quantization: {left:.0%} of the weights of {model.name} would stay in full precision, because they are in no "
            f"plain linear layer, as the experts of most models with experts (the largest part is {answer.get('where')}). Leave "
            "spec.quantization out, or choose a model without experts."
        )


def _require_modules(wanted: tuple[str, ...], model: ModelDescription) -> None:
    if ALL_LINEAR in wanted and len(wanted) > 1:
        raise _refusal(f"spec.peft.targetModules: {ALL_LINEAR} stands for all of them; name nothing beside it.")
    saved = _matrices(model.folder)
    if not saved:
        return
    known = {part for path in saved for part in path.split(".")}
    missing = [name for name in wanted if name.rpartition(".")[2] not in {*known, *NEW, ALL_LINEAR}]
    if missing:
        modules = sorted({path.rpartition(".")[2] for path in saved if not path.rpartition(".")[2].isdigit()})
        raise _refusal(
            f"spec.peft.targetModules: {model.name} has no module {names(missing)}. Choose from {names(modules)}, or "
            f"say {ALL_LINEAR}."
        )


def _matrices(folder: Path) -> list[str]:
    """Return the paths of the modules whose weight is a matrix; empty where the files do not tell without torch."""
    paths = []
    for file in sorted(folder.glob("model*.safetensors")):
        for name, shape in _shapes(file):
            if name.endswith(".weight") and len(shape) == MATRIX:
                paths.append(name.removesuffix(".weight"))
    return paths


def _shapes(file: Path) -> Iterator[tuple[str, list[int]]]:
    """Yield name and shape of each tensor, from the header of the file alone."""
    with file.open("rb") as opened:
        header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
    for name, entry in header.items():
        if name != "__metadata__":
            yield name, entry["shape"]


def _refusal(message: str) -> ExpectedError:
    return ExpectedError(Reason.ARGUMENTS_INVALID, message)
