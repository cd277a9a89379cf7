"""What the training image lacks of what the job asks for. Prepare runs in the same image, and takes no accelerator.

The ranks would fail on it once they had taken theirs. What needs a device to know is left to them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetune_trainer.config import Env, Reason, RunConfig
from finetune_trainer.prepare.errors import PrepareError
from finetune_trainer.text import log_line

PROBE = "finetune_trainer.train.quantizer_probe"
"""Asks transformers, which answers only where it has found torch: a process of its own, for models that need it."""
PROBE_SECONDS = 600.0
COMPILERS = {True: ("CC", ("cc", "gcc", "clang")), False: ("CXX", ("c++", "g++", "clang++"))}
"""For an accelerator or not: the variable that names torch.compile's compiler, and the ones that it looks for."""


def check(config: RunConfig, model: Path | None = None) -> tuple[str, ...]:
    """PrepareError for what is not there; a message in its place where the job runs in another image than this.

    `model` is the folder of the weights, once it is there.
    """
    missing = list(_of_weights(config, model) if model is not None else _of_arguments(config))
    if not missing:
        return ()
    elsewhere = os.environ.get(Env.OTHER_IMAGE)
    if elsewhere:
        return tuple(
            f"Here {text} Whether the image {elsewhere} has it shows once the job is prepared." for text in missing
        )
    raise PrepareError(Reason.NOT_IN_IMAGE, f"In the training image {missing[0]}")


def has_compiler(*, accelerator: bool) -> bool:
    """Whether torch.compile finds what it compiles its kernels with."""
    variable, usual = COMPILERS[accelerator]
    named = os.environ.get(variable)
    return any(shutil.which(name) for name in ((named,) if named else usual))


def _of_arguments(config: RunConfig) -> Iterator[str]:
    given = config.training_arguments
    if given.get("use_liger_kernel") and config.accelerators and importlib.util.find_spec("liger_kernel") is None:
        yield (
            "there is no package liger-kernel, which trainingArguments.use_liger_kernel needs. Name an image that has it in "
            "spec.image, or leave the argument out."
        )
    if (given.get("torch_compile") or given.get("torch_compile_mode")) and not has_compiler(
        accelerator=config.accelerators
    ):
        yield (
            f"there is no {'C' if config.accelerators else 'C++'} compiler, which trainingArguments.torch_compile needs. "
            "Name an image that has one in spec.image, or leave the argument out."
        )


def _of_weights(config: RunConfig, model: Path) -> Iterator[str]:
    """Of weights that another library has put into few bits: what loads them, and whether they can be trained upon."""
    if not config.accelerators or _quantization(model) is None:
        return  # without an accelerator they are refused in any case
    answer = _ask(model)
    if "missing" in answer:
        yield (
            f"there is not what loads the weights of {config.model.name}: {answer['missing']} Name an image that has it in "
            "spec.image, or choose the model that these weights were made from."
        )
    if "untrainable" in answer:
        raise PrepareError(
            Reason.MODEL_NOT_FOUND,
            f"The model {config.model.name} has weights in few bits ({answer['untrainable']}), upon which transformers can "
            "train nothing. Choose the model that they were made from.",
        )


def _quantization(model: Path) -> Any:
    try:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None  # who loads the configuration says what is wrong with it
    return config.get("quantization_config") if isinstance(config, dict) else None


def _ask(model: Path) -> dict[str, str]:
    """What the probe says; nothing where it does not come to an answer: then the ranks will see."""
    command = [sys.executable, "-m", PROBE, str(model)]
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROBE_SECONDS,
            check=False,
        )
        found = json.loads(done.stdout.strip().splitlines()[-1])
    except (subprocess.TimeoutExpired, IndexError, ValueError):
        log_line("prepare", "Whether the image can load these weights could not be found out; the ranks will see.")
        return {}
    return {str(key): str(value) for key, value in found.items()}
