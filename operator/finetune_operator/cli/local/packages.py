"""A check that the packages of the training image are installed on this machine."""

from __future__ import annotations

import importlib.util

from finetune_operator.cli.command_errors import CommandError

TRAINER_PACKAGES = ("torch", "transformers", "datasets", "accelerate")


def require_trainer(doing: str) -> None:
    """Raise CommandError where packages of the training image are missing here."""
    absent = [name for name in TRAINER_PACKAGES if importlib.util.find_spec(name) is None]
    if absent:
        raise CommandError(f"{doing} needs {', '.join(absent)}: pip install 'finetune-operator[operator,trainer]'")
