"""`spec.script`: the user's own training program in place of a task."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from finetune_operator.api.api_model import ApiModel, Name


class ScriptConfigMap(ApiModel):
    name: Name
    """Name of a ConfigMap in the job's namespace. All its keys are files beside the program, which may import them."""
    key: Name
    """Key of the program itself: `train.py`."""


class Outputs(ApiModel):
    model: Annotated[str, Field(min_length=1, max_length=1024)]
    """Folder or file below OUTPUT_DIR that is the finished model: `final`."""


class ScriptSpec(ApiModel):
    """A training program that runs on one machine as it is. Each rank finds in its environment OUTPUT_DIR (on the claim, the
    same in every attempt), CHECKPOINT_DIR, RESUME_FROM_CHECKPOINT (empty where there is nothing to go on from), DATA_DIR,
    HF_HOME, NODES, NODE_RANK, and what its launcher sets (RANK, WORLD_SIZE, MASTER_ADDR, TF_CONFIG, ...).
    """

    launcher: Literal["torchrun", "accelerate", "python"] = "torchrun"
    """What starts the program: torchrun, a process for each accelerator; `accelerate launch` (`accelerateConfig`); or
    python, one process a node, with TF_CONFIG for MultiWorkerMirroredStrategy."""
    config_map: ScriptConfigMap | None = None
    """The program is a key of a ConfigMap. Exactly one of `configMap`, `path` and `module`."""
    path: Annotated[str, Field(pattern=r"^/.", max_length=1024)] | None = None
    """Absolute path of the program in the image or on a mounted volume: `/code/train.py`."""
    module: (
        Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]*([.][A-Za-z_][A-Za-z0-9_]*)*$", max_length=256)] | None
    ) = None
    """Python module of the image, run as `python -m` would: `trl.scripts.sft`."""
    args: Annotated[tuple[Annotated[str, Field(max_length=8192)], ...], Field(max_length=512)] = ()
    """Arguments of the program. `$(NAME)` is replaced by the environment variable, `$$(NAME)` stays as `$(NAME)`:
    `--output_dir=$(OUTPUT_DIR)`."""
    requirements: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=512)], ...], Field(max_length=64)] = ()
    """Python packages beyond those of the image, as lines of a requirements file: `trl==0.24.0`. They are installed on the
    claim once, before training; with `--hash` in one line, all are compared with their hashes."""
    checkpoint_argument: Annotated[str, Field(pattern=r"^--?[A-Za-z][A-Za-z0-9_.-]*$", max_length=128)] | None = None
    """Argument that the newest good checkpoint is given with, `--resume_from_checkpoint` for example; left out where
    there is none. Without it the program looks into OUTPUT_DIR or RESUME_FROM_CHECKPOINT by itself."""
    outputs: Outputs | None = None
    """What the program leaves. Default: all of OUTPUT_DIR but checkpoints is the model."""
    progress_pattern: Annotated[str, Field(max_length=1024)] | None = None
    """Regular expression (Python) that finds progress in the lines of rank 0, for a program that reports none: groups named
    `step`, and where they are there `total`, `epoch` and `loss`: `step (?P<step>[0-9]+)/(?P<total>[0-9]+)`."""
    accelerate_config: Annotated[
        dict[str, Any] | None, Field(json_schema_extra={"x-kubernetes-preserve-unknown-fields": True})
    ] = None
    """Configuration of `accelerate launch`, as `accelerate config` writes it. Where the machines are comes from the job.
    For launcher accelerate."""
    preflight: bool = False
    """Run `accelerate test` on all nodes before the program, so that a network that does not work is known within a minute.
    For launcher accelerate."""
