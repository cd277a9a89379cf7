"""Things that a job needs and the training image lacks. Prepare runs in the same image, and takes no accelerator.

The ranks would fail only once they had taken their accelerators. What only a device can tell is left to them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import Env
from finetune_trainer.prepare import probes
from finetune_trainer.shared.failures import ExpectedError

PACKAGES = {"liger_kernel": "liger-kernel", "peft": "peft", "bitsandbytes": "bitsandbytes"}
"""Module -> package, for packages that only some jobs need."""
OF_KINDS = {"gemma3n": "timm"}
"""Kind of model -> package that some of its layers come from."""
COMPILERS = {True: ("CC", ("cc", "gcc", "clang")), False: ("CXX", ("c++", "g++", "clang++"))}
"""The variable that names torch.compile's compiler, and the compilers that it looks for, for an accelerator or not."""


def check_arguments(
    training_arguments: Mapping[str, Any], *, accelerators: bool, peft: bool, quantization: bool
) -> tuple[str, ...]:
    """Raise ExpectedError where the image lacks what the job's fields need; return messages where the job runs in another image."""
    return _refuse(_of_arguments(training_arguments, accelerators=accelerators, peft=peft, quantization=quantization))


def check_model(name: str, folder: Path, *, accelerators: bool) -> tuple[str, ...]:
    """Raise ExpectedError where the image lacks what the model in the folder needs; return messages as `check_arguments` does."""
    return _refuse(chain(_of_kind(name, folder), _of_weights(name, folder, accelerators)))


def _refuse(missing: Iterable[str]) -> tuple[str, ...]:
    """Raise ExpectedError for the first thing that is missing; return messages where the job runs in another image than this."""
    texts = tuple(missing)
    elsewhere = os.environ.get(Env.OTHER_IMAGE)
    if texts and not elsewhere:
        raise ExpectedError(Reason.NOT_IN_IMAGE, f"In the training image {texts[0]}")
    return tuple(f"Here {text} Whether the image {elsewhere} has it shows once the job is prepared." for text in texts)


def has_compiler(*, accelerator: bool) -> bool:
    """Tell whether torch.compile finds a compiler for its kernels."""
    variable, usual = COMPILERS[accelerator]
    named = os.environ.get(variable)
    return any(shutil.which(name) for name in ((named,) if named else usual))


def _of_arguments(
    training_arguments: Mapping[str, Any], *, accelerators: bool, peft: bool, quantization: bool
) -> Iterator[str]:
    wanted = {
        "trainingArguments.use_liger_kernel": bool(training_arguments.get("use_liger_kernel")) and accelerators,
        "spec.peft": peft,
        "spec.quantization": quantization,
    }
    for (module, package), (field, needs) in zip(PACKAGES.items(), wanted.items(), strict=True):
        if needs and importlib.util.find_spec(module) is None:
            yield (
                f"there is no package {package}, which {field} needs. Name an image that has it in spec.image, or leave the "
                "field out."
            )
    if (training_arguments.get("torch_compile") or training_arguments.get("torch_compile_mode")) and not has_compiler(
        accelerator=accelerators
    ):
        yield (
            f"there is no {'C' if accelerators else 'C++'} compiler, which trainingArguments.torch_compile needs. "
            "Name an image that has one in spec.image, or leave the argument out."
        )


def _of_kind(name: str, model: Path) -> Iterator[str]:
    """Yield a message where the image lacks the package that layers of the model come from."""
    package = OF_KINDS.get(_kind(model) or "")
    if package is not None and importlib.util.find_spec(package) is None:
        yield (
            f"there is no package {package}, in which transformers finds layers of {name}. Name an image that has it "
            "in spec.image, or choose a model of another kind."
        )


def _of_weights(name: str, model: Path, accelerators: bool) -> Iterator[str]:
    """Yield a message where the image cannot load weights in few bits. Raise ExpectedError if nothing can be trained upon them."""
    if not accelerators or not _is_quantized(model):
        return  # without an accelerator they are refused in any case
    answer = probes.ask("quantizer_probe", str(model))
    if "missing" in answer:
        yield (
            f"there is not what loads the weights of {name}: {answer['missing']} Name an image that has it in "
            "spec.image, or choose the model that these weights were made from."
        )
    if "untrainable" in answer:
        raise ExpectedError(
            Reason.MODEL_NOT_FOUND,
            f"The model {name} has weights in few bits ({answer['untrainable']}), upon which transformers can "
            "train nothing. Choose the model that they were made from.",
        )


def _kind(model: Path) -> str | None:
    try:
        kind = json.loads((model / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        return None  # who loads the configuration says what is wrong with it
    return kind if isinstance(kind, str) else None


def _is_quantized(model: Path) -> bool:
    """Tell whether the configuration names weights in few bits, without transformers, which takes seconds to import."""
    try:
        return '"quantization_config"' in (model / "config.json").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return False  # who loads the configuration says what is wrong with it
