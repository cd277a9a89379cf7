"""Libraries that transformers and accelerate import where they find them, and that a rank has no use for until it evaluates.

A sixth of the start goes into them.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from finetune_trainer.contract.run_config import RunConfig

LATER = ("datasets", "pandas", "scipy", "sklearn", "nltk", "peft", "bitsandbytes")

IN_FEW_BITS = ("8bit", "paged")
"""In the names of optimizers that come from bitsandbytes."""


def used(config: RunConfig) -> tuple[str, ...]:
    """Those of them that a run trains with: transformers must see them when it is imported."""
    adapters = ("peft",) if config.peft is not None else ()
    optimizer = str(config.training_arguments.get("optim"))
    few_bits = config.quantization is not None or any(sign in optimizer for sign in IN_FEW_BITS)
    return (*adapters, "bitsandbytes") if few_bits else adapters


@contextmanager
def at_once() -> Iterator[None]:
    """Import without a collection in between: what modules are made of stays, and looking through it took a fifth.

    Nor is it looked through later on, in the middle of a step.
    """
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def hide(used: Collection[str] = ()) -> None:
    """Make them look absent, but for those that the run trains with."""
    sys.modules.update({name: None for name in LATER if name not in used})  # type: ignore[misc]


def show() -> None:
    """Let them be imported from now on."""
    for name in LATER:
        if sys.modules.get(name, "there") is None:
            del sys.modules[name]
