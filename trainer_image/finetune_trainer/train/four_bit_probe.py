"""The part of a model that four bits would leave as it is: `... FOLDER AUTO` prints a line of JSON.

`{"left": share of the weights, "where": path and class of the largest part}`. The library for four bits (bitsandbytes,
through transformers) replaces plain linear layers. Experts in one tensor are no linear layers, so they would stay in fp32.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from transformers.pytorch_utils import Conv1D

from finetune_trainer.tasks.loading import skeleton

MATRIX = 2


def main() -> None:
    """Answer for the folder and the class of transformers on the command line."""
    folder, auto = sys.argv[1:]
    print(json.dumps(answer(skeleton(auto, Path(folder)))))  # noqa: T201


def answer(model: Any) -> dict[str, Any]:
    """Return the part of this model that stays in full precision, without embeddings and layers that have no matrix."""
    left: Counter[str] = Counter()
    total = sum(weight.numel() for weight in model.parameters())
    output = model.get_output_embeddings()
    for path, layer in model.named_modules():
        if type(layer) is torch.nn.Linear or isinstance(layer, Conv1D | torch.nn.Embedding) or layer is output:
            continue
        size = sum(weight.numel() for weight in layer.parameters(recurse=False) if weight.dim() >= MATRIX)
        if size:
            left[path] = size
    if not left:
        return {"left": 0.0}
    (largest, _), *_ = left.most_common(1)
    return {
        "left": left.total() / total,
        "where": f"{largest}, a {type(model.get_submodule(largest)).__name__}",
    }


if __name__ == "__main__":
    main()
