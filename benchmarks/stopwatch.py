"""When each optimizer step of a stock Trainer ended."""

from __future__ import annotations

import time
from typing import Any

from transformers import TrainerCallback


class Stopwatch(TrainerCallback):  # type: ignore[misc]
    """From the end of a step to the end of the next: everything that happens between is in it."""

    def __init__(self) -> None:
        self.began = 0.0
        self.ends: list[float] = []

    def on_train_begin(self, *_: Any, **__: Any) -> None:
        """Note the time."""
        self.began = time.perf_counter()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the time; last of the callbacks."""
        self.ends.append(time.perf_counter())
