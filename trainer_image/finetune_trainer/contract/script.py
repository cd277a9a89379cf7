"""A user's own training program: what runs it, where it lies, and what it is told."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, Any

from pydantic import Field

from finetune_trainer.contract.effects import Effect
from finetune_trainer.contract.frozen_document import Document, PodPath

CHECKPOINT_NAME = re.compile(r"^(?P<form>checkpoint-|checkpoint_|step_|epoch_)(?P<number>[0-9]{1,12})$")
"""Names of folders that are checkpoints: those of the Trainer, and of programs with Accelerate."""


class Launcher(StrEnum):
    """Program that starts the ranks of a node."""

    TORCHRUN = "torchrun"
    ACCELERATE = "accelerate"
    """`accelerate launch`, with a configuration as `accelerate config` writes it."""
    PYTHON = "python"
    """One plain process a node, which finds the others by TF_CONFIG or the variables of its accelerators."""


class ScriptEnv(StrEnum):
    """Environment variables that `launch` sets for every program, beside those of its launcher."""

    OUTPUT_DIR = "OUTPUT_DIR"
    """Folder on the volume for all that the program writes. The same one in every attempt."""
    CHECKPOINT_DIR = "CHECKPOINT_DIR"
    """`$OUTPUT_DIR/checkpoints`: a second folder in which checkpoints are looked for."""
    RESUME_FROM_CHECKPOINT = "RESUME_FROM_CHECKPOINT"
    """Folder of the newest checkpoint whose bytes are those that were sealed; empty where there is none."""
    DATA_DIR = "DATA_DIR"
    """Folder of the files or the repository that `dataset` names; empty where there is none."""
    NODES = "NODES"
    """Number of nodes."""
    NODE_RANK = "NODE_RANK"
    """Number of this node, from 0."""


class Script(Document):
    """The program in place of a task. Its ranks are started as those of a task are."""

    launcher: Launcher = Launcher.TORCHRUN
    path: PodPath | None = None
    """File of the program, in the image or on a mounted volume; null where `module` is given."""
    module: str | None = None
    """Python module that is run as `python -m` would; null where `path` is given."""
    arguments: tuple[str, ...] = ()
    """Arguments of the program. `$(NAME)` is replaced by the environment variable, `$$(NAME)` stands for `$(NAME)` itself."""
    requirements: tuple[str, ...] = ()
    """Lines of a requirements file; prepare installs them once, beside the packages of the image."""
    checkpoint_argument: str | None = None
    """Argument that precedes the newest good checkpoint, `--resume_from_checkpoint` for example; both are left out where there is none."""
    model_output: str | None = None
    """Folder or file below OUTPUT_DIR that is the model; null is all of OUTPUT_DIR but checkpoints."""
    progress_pattern: Annotated[str | None, Effect.NOTHING] = None
    """Regular expression over lines of the log, with groups named `step`, `total`, `epoch` or `loss`."""
    accelerate_config: dict[str, Any] | None = None
    """Configuration of `accelerate launch`; the keys that say where the nodes are come from the job."""
    preflight: Annotated[bool, Field(exclude_if=lambda value: not value), Effect.NOTHING] = False
    """Whether `accelerate test` runs on all nodes before the program does."""
