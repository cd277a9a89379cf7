"""`python -m finetune_trainer launch | prepare | train | script | publish`: what the training image runs.

Each command imports only its own part: `launch` must be up long before torch could be.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys

STOPPED = 143
"""`contract.records.Exit.STOPPED` without an import: this module runs before anything else."""


def _launch() -> int:
    from finetune_trainer.launch.node_run import main

    return main()


def _prepare() -> int:
    from finetune_trainer.prepare import main

    return main()


def _train() -> int:
    from finetune_trainer.launch.rank_output import attach

    attach()
    from finetune_trainer.train import main

    return main()


def _script() -> int:
    from finetune_trainer.launch.rank_output import attach

    attach()
    from finetune_trainer.script import main

    return main()


def _publish() -> int:
    from finetune_trainer.publish import main

    return main()


COMMANDS = {
    "launch": (_launch, "pid 1 of a training pod: waits for its peers, runs torchrun, seals checkpoints"),
    "prepare": (_prepare, "resolve, download, check and tokenise, once for all ranks"),
    "train": (_train, "one rank; torchrun starts it"),
    "script": (_script, "one rank of the user's own program; its launcher starts it"),
    "publish": (_publish, "the finished model to the Hub, with its card, in one commit"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    parser = argparse.ArgumentParser(prog="finetune_trainer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text, description=text)
    command = parser.parse_args(arguments).command
    if command not in ("train", "script"):  # their launcher ends them
        _end_when_told()
    run, _ = COMMANDS[command]
    return run()


def _end_when_told() -> None:
    """End this process at SIGTERM. Process 1 of a container ignores it otherwise, and a deleted pod would wait out its grace period.

    It covers the time until the command sets a handler of its own: an end before that leaves nothing half done.
    """
    signal.signal(signal.SIGTERM, lambda *_: os._exit(STOPPED))


if __name__ == "__main__":
    sys.exit(main())
