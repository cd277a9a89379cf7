"""A stopwatch for the optimizer steps of a stock Trainer."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback


class Stopwatch(TrainerCallback):  # type: ignore[misc]
    """A stopwatch from the end of a step to the end of the next, with everything that happens between."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        """Note the time, as the last of the callbacks."""
        self.ends.append(time.perf_counter())


class Report(Stopwatch):
    """A callback by which rank 0 writes a `one_node.Measured` to the file of RESULT.

    A batch whose rows have WARM_UP tokens may go first, so that memory and threads exist when the clock starts.
    """

    def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        """Warm up if asked to, and start the clock when all ranks have."""
        if tokens := int(os.environ["WARM_UP"]):
            ids = torch.ones((args.per_device_train_batch_size, tokens), dtype=torch.long)
            model.train()
            model(input_ids=ids, attention_mask=ids).logits.sum().backward()
            model.zero_grad()
            if torch.distributed.is_initialized():
                torch.distributed.barrier()
        self.began = time.perf_counter()

    def on_train_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Write the measurements."""
        seconds = time.perf_counter() - self.began
        if args.process_index == 0:
            measured = {
                "steps": len(self.ends),
                "seconds": seconds,
                "later_seconds": self.ends[-1] - self.ends[0],
                "loss": next((entry["loss"] for entry in reversed(state.log_history) if "loss" in entry), None),
            }
            Path(os.environ["RESULT"]).write_text(json.dumps(measured))
