"""Check of whether a model can fit into a device at all, from the headers of its weights: before an accelerator is taken, if possible.

The need is the least that training holds in each device, whatever the rows: weights, their gradients, the optimizer's state.
Activations, buffers and the memory of libraries come on top and are left out, and so are weights that may not be loaded: a model
that is refused here could not have been trained.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.contract.task_facts import TASKS

WEIGHT_BYTES = 4
"""The bytes of each weight as ranks load it (`tasks.loading`), frozen ones too: fp32, also where training is in half precision."""
GRADIENT_BYTES = 4
FOUR_BIT_BYTES = 0.5
OPTIMIZER_BYTES = {"adamw_torch": 8, "adamw_torch_fused": 8, "adagrad": 4, "rmsprop": 4, "adafactor": 0, "sgd": 0}
"""The bytes of an optimizer's state for each weight that is trained, at least."""
DEFAULT_OPTIMIZER = "adamw_torch_fused"
SMALLER_OPTIMIZER = "adafactor"
GIB = 1 << 30
NOTE_FROM_BYTES = 20 * GIB
"""The need from which on the user gets a note, where nobody knows the device: less fits into most."""
HEADER_MAX_BYTES = 100_000_000
"""The longest header that safetensors allows."""
FLOATS = ("F64", "F32", "F16", "BF16")
COUNTS = ("I64", "I32", "BOOL")
"""Types of positions and the like, which some models save with their weights; all other types are those of quantised weights."""
EMBEDDINGS = re.compile(r"(embed|shared|lm_head|wte|embeddings|decoder|generator|output_projection)[^.]*[.]weight$")
"""Weights that may be saved twice and loaded once, because one is the other."""
LEFT_OUT = re.compile(
    r"vision|visual|image|audio|speech|projector|multi_modal|mm_|\bmtp\b|pooler|\bcls\b|classifi|qa_outputs|\bscore\b|lm_head[.].+[.]",
    re.IGNORECASE,
)
"""Parts of a model that training on text may do without: towers for other data, and whole heads of other tasks."""
ENCODER, DECODER = re.compile(r"\bencoder[.]"), re.compile(r"\bdecoder[.]")


@dataclass(frozen=True)
class Need:
    """The memory that a rank holds, at least."""

    parameters: int
    bytes_each: float
    made_of: str
    """What the bytes of a weight are made of, in words."""

    @property
    def total_bytes(self) -> int:
        return math.ceil(self.parameters * self.bytes_each)


def problem(config: TaskConfig, model: Path, device_bytes: int) -> str | None:
    """Say why the model cannot fit into a device of `device_bytes`; None where it may."""
    parameters = parameters_of(model, config.task)
    if parameters is None:
        return None
    need = needed(config, parameters)
    if need.total_bytes <= device_bytes:
        return None
    return (
        f"The model {config.model.name} does not fit: {_text(config, need)}. A device has {_gib(device_bytes)} at most. Each rank holds "
        f"all of it, so that more of them do not help. {_ways_out(config, parameters, device_bytes)}"
    )


def note(config: TaskConfig, model: Path) -> str | None:
    """Say how much memory a rank needs, where that is much; for a job whose devices nobody knows."""
    parameters = parameters_of(model, config.task)
    need = needed(config, parameters) if parameters is not None else None
    if need is None or need.total_bytes < NOTE_FROM_BYTES:
        return None
    return f"Each device needs more than {_gib(need.total_bytes)} of memory: {_text(config, need)}."


def needed(config: TaskConfig, parameters: int) -> Need:
    """Return the need of a model of `parameters` weights, trained as the job says."""
    if config.quantization is not None:
        return Need(parameters, FOUR_BIT_BYTES, "four bits")
    if config.peft is not None:
        return Need(parameters, WEIGHT_BYTES, f"{WEIGHT_BYTES} for the weight, which is frozen")
    optimizer = str(config.training_arguments.get("optim") or DEFAULT_OPTIMIZER)
    state = OPTIMIZER_BYTES.get(optimizer, 0)
    parts = f"{WEIGHT_BYTES} for the weight, {GRADIENT_BYTES} for its gradient"
    made_of = f"{parts}, {state} for {optimizer}" if state else parts
    return Need(parameters, WEIGHT_BYTES + GRADIENT_BYTES + state, made_of)


def parameters_of(model: Path, task: str) -> int | None:
    """Count the weights that a task loads, at least; None where the files do not tell without being loaded."""
    try:
        shapes = {
            name: tuple(map(int, entry["shape"])) for name, entry in _tensors(model) if _is_weight(entry["dtype"])
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # quantised weights, or broken ones, which are refused elsewhere
    left_out = [LEFT_OUT]
    if not TASKS[task].writes and any(map(ENCODER.search, shapes)):
        left_out.append(DECODER)
    kept = {name: shape for name, shape in shapes.items() if not any(part.search(name) for part in left_out)}
    counted = {("one of", shape) if EMBEDDINGS.search(name) else name: math.prod(shape) for name, shape in kept.items()}
    return sum(counted.values()) or None


def _is_weight(kind: str) -> bool:
    if kind not in (*FLOATS, *COUNTS):
        raise ValueError(f"{kind} is no type of a plain weight")
    return kind in FLOATS


def _tensors(model: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and description of each tensor, from the headers of the files that transformers would load."""
    for file in _files(model):
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            if length > HEADER_MAX_BYTES:
                raise ValueError(f"{file} has no header of safetensors")
            header = json.loads(opened.read(length))
        yield from ((name, entry) for name, entry in header.items() if name != "__metadata__")


def _files(model: Path) -> list[Path]:
    whole, index = model / "model.safetensors", model / "model.safetensors.index.json"
    if whole.exists() or not index.exists():
        return [whole]
    return [model / part for part in sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))]


def _text(config: TaskConfig, need: Need) -> str:
    how = "holding" if config.peft is not None else "training all of"
    each = f"{need.bytes_each:g} bytes each ({need.made_of})" if config.quantization is None else "four bits each"
    return f"{how} its {need.parameters / 1e9:.2f} billion weights takes {each}, {_gib(need.total_bytes)} in all before the first row"


def _ways_out(config: TaskConfig, parameters: int, device_bytes: int) -> str:
    """Name ways to train the model that need less memory and may fit."""
    adapter = WEIGHT_BYTES * parameters
    full = config.peft is None and config.quantization is None
    state = OPTIMIZER_BYTES.get(str(config.training_arguments.get("optim") or DEFAULT_OPTIMIZER), 0)
    ways = (
        (full, adapter, "train an adapter (spec.peft)"),
        (
            config.quantization is None,
            FOUR_BIT_BYTES * parameters,
            "train an adapter on four bits (spec.peft, spec.quantization)",
        ),
        (full and state > 0, (WEIGHT_BYTES + GRADIENT_BYTES) * parameters, f"set optim: {SMALLER_OPTIMIZER}"),
    )
    fitting = [f"{change}: {_gib(size)}" for possible, size, change in ways if possible and size <= device_bytes]
    others = "ask for devices with more memory, or choose a smaller model."
    return f"What may fit: {'; '.join(fitting)}. Or {others}" if fitting else f"{others[0].upper()}{others[1:]}"


def _gib(size: float) -> str:
    return f"{size / GIB:.1f} GiB"
