"""The precision of a finished model: that of the model it was made from, whatever precision it was trained in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
"""Types by their names in the header of a safetensors file; other types stay as they are."""


def as_in(folder: Path, model: Any) -> torch.dtype | None:
    """Give weights the types of the model in `folder`; return the type that most have, or None where nothing changes.

    A new head, and weights that are saved under other names, get the type of most weights. Nothing changes where a weight has
    grown out of the smaller range.
    """
    saved = saved_dtypes(folder)
    most = main_dtype(saved) or named_dtype(folder)
    if most in (None, torch.float32):
        return None
    strict = tuple(getattr(model, "_keep_in_fp32_modules_strict", None) or ())
    wanted = {
        name: saved.get(name, torch.float32 if any(part in name for part in strict) else most)
        for name, tensor in model.named_parameters()
        if tensor.dtype == torch.float32
    }
    weights = dict(model.named_parameters())
    if any(weights[name].detach().abs().max() > torch.finfo(dtype).max for name, dtype in wanted.items()):
        return None
    for name, dtype in wanted.items():
        weights[name].data = weights[name].data.to(dtype)
    return most


def main_dtype(saved: dict[str, torch.dtype]) -> torch.dtype | None:
    """Return the type that most of the weights have."""
    dtypes = list(saved.values())
    return max(set(dtypes), key=dtypes.count) if dtypes else None


def named_dtype(folder: Path) -> torch.dtype | None:
    """Return the type that the model's configuration names, for weights in files that only loading would read."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    name = config.get("dtype") or config.get("torch_dtype")
    return next((dtype for dtype in DTYPES.values() if str(dtype) == f"torch.{name}"), None)


def saved_dtypes(folder: Path) -> dict[str, torch.dtype]:
    """Return the types of the weights in a model's folder; none where only loading them would tell."""
    dtypes = {}
    for file in sorted(folder.glob("model*.safetensors")):
        with file.open("rb") as opened:
            header = json.loads(opened.read(int.from_bytes(opened.read(8), "little")))
        for name, entry in header.items():
            if name != "__metadata__" and entry["dtype"] in DTYPES:
                dtypes[name] = DTYPES[entry["dtype"]]
    return dtypes
