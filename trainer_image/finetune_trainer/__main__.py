"""`python -m finetune_trainer launch | prepare | train | publish`: what the training image runs.

Each command imports only its own part: `launch` must be up long before torch could be.
"""

from __future__ import annotations

import argparse
import sys


def _launch() -> int:
    from finetune_trainer.launch.run import main

    return main()


def _prepare() -> int:
    from finetune_trainer.prepare import main

    return main()


def _train() -> int:
    from finetune_trainer.launch.rank_output import attach

    attach()
    from finetune_trainer.train import main

    return main()


def _publish() -> int:
    from finetune_trainer.publish import main

    return main()


COMMANDS = {
    "launch": (_launch, "pid 1 of a training pod: waits for its peers, runs torchrun, seals checkpoints"),
    "prepare": (_prepare, "resolve, download, check and tokenise, once for all ranks"),
    "train": (_train, "one rank; torchrun starts it"),
    "publish": (_publish, "the finished model to the Hub, with its card, in one commit"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its return value is the exit code."""
    parser = argparse.ArgumentParser(prog="finetune_trainer", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, (_, text) in COMMANDS.items():
        commands.add_parser(name, help=text, description=text)
    run, _ = COMMANDS[parser.parse_args(arguments).command]
    return run()


if __name__ == "__main__":
    sys.exit(main())
