"""Layers that a model leaves out of a step at random (LayerDrop), as its configuration says: M2M100 by default.

Ranks exchange the gradient of every weight, and wait for ever for one that a step does not compute, unless they look for
such weights first. `prepare` and each rank import this module; no torch in here.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_trainer.contract.run_config import TaskConfig

ENDING = "layerdrop"
"""The end of the fields' names: `encoder_layerdrop`, `decoder_layerdrop`, `layerdrop`."""
PROMISES = {"ddp_find_unused_parameters": False, "ddp_static_graph": True}
"""Argument -> the value that promises that all weights take part in each step."""


def shares(config: Mapping[Any, Any]) -> dict[str, float]:
    """Return the share of the layers that is left out in training, by its name in a configuration or in a part of one."""
    left_out: dict[str, float] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            left_out |= shares(value)
        elif str(name).endswith(ENDING) and isinstance(value, int | float) and value > 0:
            left_out[str(name)] = float(value)
    return left_out


def shares_of(model: Path) -> dict[str, float]:
    """Return the shares of the model in a folder; none where its configuration can't be read: the code that loads it says why."""
    try:
        config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return shares(config) if isinstance(config, Mapping) else {}


def problem(run: TaskConfig, left_out: Mapping[str, float]) -> str | None:
    """Say why several ranks cannot train a model that leaves layers out as the user wants it; None where they can."""
    if run.world_size == 1 or not left_out:
        return None
    training_arguments = run.training_arguments
    promise = next((name for name, value in PROMISES.items() if training_arguments.get(name) is value), None)
    if promise is None:
        return None
    return (
        f"trainingArguments.{promise}: {str(PROMISES[promise]).lower()} says that every weight takes part in every step, and "
        f"the model leaves out layers at random ({described(left_out)} in its config.json): ranks would wait for their gradients for "
        "ever. Leave it out."
    )


def described(left_out: Mapping[str, float]) -> str:
    """Write the shares as messages name them."""
    return ", ".join(f"{name} {share:g}" for name, share in left_out.items())
