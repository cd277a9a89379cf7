"""A rank of `tasks`, the product's or the script's: how long the optimizer steps of an epoch took.

`python -m benchmarks.tasks_rank ours`, started by `launch`; `... hand ARGUMENTS`, started by torchrun.
"""

from __future__ import annotations

import json
import os
import sys
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
    from benchmarks import tasks_by_hand

    tasks_by_hand.main(sys.argv[2:])


def _measure() -> None:
    from transformers import trainer

    from benchmarks.stopwatch import Stopwatch

    class Measured(Stopwatch):
        """The first step warms up, and is left out."""

        def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            if args.process_index == 0:
                steps = len(self.ends) - 1
                losses = [entry["loss"] for entry in state.log_history if "loss" in entry]
                measured = {
                    "steps": steps,
                    "seconds": self.ends[-1] - self.ends[0],
                    "loss": losses[-1] if losses else None,
                }
                Path(os.environ["RESULT"]).write_text(json.dumps(measured))

    trainer.DEFAULT_CALLBACKS.append(Measured)


if __name__ == "__main__":
    main()
