"""A rank of `throughput` and `tasks`, the product's or a script's, with a stopwatch among the Trainer's callbacks.

`python -m benchmarks.training_rank ours`, started by `launch`; `... tasks_by_hand ARGUMENTS`, started by torchrun.
"""

from __future__ import annotations

import sys
from importlib import import_module

from finetune_trainer.shared import startup
from finetune_trainer.train import train_command


def main() -> None:
    """Add the stopwatch, then run the rank."""
    program, *arguments = sys.argv[1:]
    if program == "ours":
        startup.hide_packages()  # as the command itself does first
    from transformers import trainer

    from benchmarks.stopwatch import Report

    trainer.DEFAULT_CALLBACKS.append(Report)
    if program == "ours":
        train_command.main()
    import_module(f"benchmarks.{program}").main(arguments)


if __name__ == "__main__":
    main()
