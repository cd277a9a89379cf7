"""Jobs with a program of the user's own, as the trainer sees them, and checkpoints as such programs write them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from finetune_trainer.contract.launch_protocol import Begin
from finetune_trainer.contract.records import CheckpointRef
from finetune_trainer.contract.run_config import ScriptConfig
from finetune_trainer.launch import sealing
from finetune_trainer.launch.launch_settings import Peer, Settings
from finetune_trainer.shared.checkpoints.manifest import Manifest
from finetune_trainer.shared.volume import Run, make_folder
from tests.support.checkpoints import START

WEIGHTS = {"model.safetensors": b"weights", "deep/state.bin": b"state", "empty": b""}
"""Files of a checkpoint whose writer nobody knows."""
TRAINER = ("model.safetensors", "training_args.bin", "optimizer.pt", "rng_state.pth", "trainer_state.json")
"""Files of a Trainer's checkpoint, in the order in which it writes them."""


def script_config(
    output: Path | str = "/output", script: Mapping[str, Any] | None = None, **fields: Any
) -> ScriptConfig:
    """Return the run config of a job with a script."""
    base: dict[str, Any] = {
        "namespace": "default",
        "job": "reviews",
        "uid": "u",
        "nodes": 1,
        "processes_per_node": 1,
        "accelerators": False,
        "output": str(output),
        "prepare": "none",
        "script": {"path": "/code/train.py", **(script or {})},
    }
    return ScriptConfig.model_validate(base | fields)


def script_settings(folder: Path, config: ScriptConfig | None = None, node: int = 0, attempt: int = 1) -> Settings:
    """Return what `launch` of one node is told."""
    known = config or script_config(folder / "volume")
    peers = tuple(Peer("127.0.0.1", 5000 + number) for number in range(known.nodes))
    command = ("-m", "finetune_trainer", "script")
    return Settings(known, folder / "run.json", attempt, node, peers, "127.0.0.1", folder / "log", None, command)


def began(
    resume: CheckpointRef | None = None, workers: tuple[str, ...] = (), begun: datetime = START, port: int = 4711
) -> Begin:
    return Begin(begun=begun, master_address="10.0.0.1", master_port=port, resume=resume, workers=workers)


def write(folder: Path, files: Mapping[str, bytes]) -> Path:
    """Write files below a folder."""
    make_folder(folder)
    for name, content in files.items():
        make_folder((folder / name).parent)
        (folder / name).write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files below a folder, links left out."""
    files = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def seal_as(
    run: Run, written_as: str | None, step: int, files: Mapping[str, bytes] = WEIGHTS, attempt: int = 1
) -> CheckpointRef:
    """Seal a checkpoint that a program has written under this name below OUTPUT_DIR."""
    own = run.attempt(attempt)
    final = own.checkpoint(step)
    staged = write(own.staging / final.name, files)
    digests = sealing.place(staged, final, list(files))
    sealed = Manifest(
        step=step, attempt=attempt, world_size=1, time=START, finite=True, files=digests, written_as=written_as
    )
    sealing.seal(run, final, sealed)
    return sealed.ref(final)
