"""Libraries that transformers and accelerate import where they find them, and that a rank has no use for until it evaluates.

A sixth of the start goes into them.
"""

from __future__ import annotations

import sys
from collections.abc import Collection

from finetune_trainer.config import RunConfig

LATER = ("datasets", "pandas", "scipy", "sklearn", "nltk", "peft", "bitsandbytes")


def used(config: RunConfig) -> tuple[str, ...]:
    """Those of them that a run trains with: transformers must see them when it is imported."""
    adapters = ("peft",) if config.peft is not None else ()
    return (*adapters, "bitsandbytes") if config.quantization is not None else adapters


def hide(used: Collection[str] = ()) -> None:
    """Make them look absent, but for those that the run trains with."""
    sys.modules.update({name: None for name in LATER if name not in used})  # type: ignore[misc]


def show() -> None:
    """Let them be imported from now on."""
    for name in LATER:
        if sys.modules.get(name, "there") is None:
            del sys.modules[name]
