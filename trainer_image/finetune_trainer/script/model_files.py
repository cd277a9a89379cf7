"""The files of OUTPUT_DIR that are the finished model."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.script import CHECKPOINT_NAME, ScriptEnv
from finetune_trainer.shared.checkpoints import manifest
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.volume import Run, make_folder

LEFT_OUT = frozenset(
    {"training_args.bin", "optimizer.pt", "optimizer.bin", "scheduler.pt", "scheduler.bin", "scaler.pt"}
)
"""Files beside a model that only go on with a training; the first is pickled, and tells paths and names of machines."""
_TRAINER_STATE = "trainer_state.json"


def of_output(output: Path, name: str | None) -> Iterator[Path]:
    """Yield the files of the model: those below `name`, else all of OUTPUT_DIR but checkpoints. Links are left out."""
    top = output / name if name is not None else output
    if top.is_file():
        yield top
    for folder, folders, files in os.walk(top):
        folders[:] = sorted(name for name in folders if not _is_checkpoint(Path(folder) / name, output))
        for file in sorted(files):
            path = Path(folder) / file
            if file not in LEFT_OUT and not file.startswith(".") and path.is_file() and not path.is_symlink():
                yield path


def _is_checkpoint(folder: Path, output: Path) -> bool:
    name = folder.name
    return name.startswith(".") or CHECKPOINT_NAME.match(name) is not None or folder == output / "checkpoints"


def trainer_step(run: Run) -> int | None:
    """Return the step at which the Trainer has ended, as its own state tells: its callback reports one every five seconds."""
    steps = []
    for file in (run.output / _TRAINER_STATE, *run.output.glob(f"checkpoint-*/{_TRAINER_STATE}")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            steps.append(int(json.loads(file.read_text(encoding="utf-8"))["global_step"]))
    return max(steps, default=None)


def stage(run: Run, name: str | None, staged: Path) -> list[str]:
    """Copy the model's files to where `launch` takes them from; return their names. What OUTPUT_DIR holds stays as it is.

    Raises ExpectedError where the program has not left what `outputs.model` names.
    """
    top = run.output / name if name is not None else run.output
    if not top.exists():
        message = (
            f"The program has ended, and has left no {name} below {ScriptEnv.OUTPUT_DIR}: correct spec.script.outputs.model, or "
            "let the program write there."
        )
        raise ExpectedError(Reason.NOTHING_TRAINED, message)
    base = top if top.is_dir() else top.parent
    names = []
    shutil.rmtree(staged, ignore_errors=True)
    for file in of_output(run.output, name):
        relative = file.relative_to(base)
        if relative.as_posix() == manifest.NAME:  # the seal itself has this name
            print(f"{file} is left out: the sealed model has a file of this name", file=sys.stderr)  # noqa: T201
            continue
        make_folder((staged / relative).parent)
        shutil.copyfile(file, staged / relative)
        names.append(relative.as_posix())
    return names
