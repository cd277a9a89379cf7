"""The loss that spreads tokens over the experts of a model, where its configuration asks for it.

Models add it to the loss that they compute themselves, but here the loss is computed from their logits.
"""

from __future__ import annotations

from typing import Any

from finetune_trainer.data.model import text_config

NAMES = ("router_aux_loss_coef", "aux_loss_coef")
"""Names of its weight in models and configurations."""


def weight(model: Any) -> float:
    """Return the factor of that loss; 0 where nothing asks for it."""
    text = text_config(model.config)
    if not any(getattr(config, "output_router_logits", False) for config in (model.config, text)):
        return 0.0
    weights = (getattr(owner, name, None) for owner in (model, model.config, text) for name in NAMES)
    return float(next((value for value in weights if value is not None), 0.0))
