"""Ways to train that are not arguments of the Trainer: adapters, weights in few bits, and when to stop."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from finetune_operator.api.api_model import ApiModel, Name


class PeftSpec(ApiModel):
    """Train a small adapter in place of all weights: less memory, and a result of a few megabytes."""

    method: Literal["lora"] = "lora"
    """Kind of adapter."""
    r: Annotated[int, Field(ge=1, le=4096)] = 8
    """Rank of the adapter's matrices: more learns more, and takes more memory."""
    alpha: Annotated[float, Field(gt=0)] | None = None
    """Scale of the adapter's part in the output, which is `alpha / r`; default: twice `r`."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout before the adapter."""
    target_modules: Annotated[tuple[Name, ...], Field(min_length=1, max_length=128)] | None = None
    """Names of the modules that get an adapter (`[q_proj, v_proj]`), or `[all-linear]`; default: peft's choice for the
    architecture, all linear ones where it has none."""
    save_merged: bool = False
    """Leave a plain model with the adapter merged into it, which loads without peft; else the adapter alone."""


class QuantizationSpec(ApiModel):
    bits: Literal[4] = 4
    """Bits that a weight of the frozen base model is stored in (NF4)."""


class EarlyStoppingSpec(ApiModel):
    patience: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Evaluations in a row without improvement after which training ends."""
    threshold: Annotated[float, Field(ge=0)] = 0.0
    """Improvement of the metric below which it counts as none."""
