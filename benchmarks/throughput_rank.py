"""A rank of `throughput`, the product's or the script's, with a stopwatch among the Trainer's callbacks.

`python -m benchmarks.throughput_rank ours`, started by `launch`; `... hand ARGUMENTS`, started by torchrun.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

from finetune_trainer.train import command, imports


def main() -> None:
    """Add the stopwatch, then be the rank."""
    if sys.argv[1] == "ours":
        imports.hide()  # as the command itself does first
    _measure()
    if sys.argv[1] == "ours":
        command.main()
    from benchmarks import train_by_hand

    train_by_hand.main(sys.argv[2:])


def _measure() -> None:
    import torch
    from transformers import trainer

    from benchmarks.stopwatch import Stopwatch

    class Measured(Stopwatch):
        """One batch of the longest rows goes first: memory and threads are there when the clock starts."""

        def on_train_begin(self, args: Any, state: Any, control: Any, model: Any = None, **kwargs: Any) -> None:
            ids = torch.ones((args.per_device_train_batch_size, int(os.environ["MAX_LENGTH"])), dtype=torch.long)
            model.train()
            model(input_ids=ids, attention_mask=ids).logits.sum().backward()
            model.zero_grad()
            if torch.distributed.is_initialized():
                torch.distributed.barrier()
            super().on_train_begin()

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            seconds = time.perf_counter() - self.began
            if args.process_index == 0:
                rows = state.global_step * args.per_device_train_batch_size * args.world_size
                Path(os.environ["RESULT"]).write_text(json.dumps({"rows": rows, "seconds": seconds}))

    trainer.DEFAULT_CALLBACKS.append(Measured)


if __name__ == "__main__":
    main()
