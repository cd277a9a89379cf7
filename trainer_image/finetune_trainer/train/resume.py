"""Whether a checkpoint can be gone on from: the Trainer itself would misread its data, or start afresh, unsaid."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from finetune_trainer.config import Cause, Reason
from finetune_trainer.train.failures import TrainError
from finetune_trainer.train.order import GlobalOrder
from finetune_trainer.train.trainer import NOTE

REQUIRED = ("trainer_state.json", "optimizer.pt", "scheduler.pt")
"""Without the optimizer's or the scheduler's the Trainer would go on with new ones."""


def note(order: GlobalOrder) -> dict[str, Any]:
    """What a resume must agree with."""
    return {
        "globalBatch": order.batch_rows,
        "rows": order.rows,
        "order": str(order.strategy),
        "seed": order.seed,
        "dropLast": order.drop_last,
    }


def check(checkpoint: Path, order: GlobalOrder) -> None:
    """Raise CheckpointMismatch, with what differs."""
    missing = [name for name in REQUIRED if not (checkpoint / name).is_file()]
    if missing:
        raise _mismatch(checkpoint, f"has no {', '.join(missing)}")
    path = checkpoint / NOTE
    if not path.is_file():
        raise _mismatch(checkpoint, f"has no {NOTE}: it was not made by this system")
    then, now = json.loads(path.read_text(encoding="utf-8")), note(order)
    differing = [f"{name} {then.get(name)} (now {now[name]})" for name in now if then.get(name) != now[name]]
    if differing:
        raise _mismatch(checkpoint, f"was made with {', '.join(differing)}")


def _mismatch(checkpoint: Path, what: str) -> TrainError:
    return TrainError(
        Reason.CHECKPOINT_MISMATCH,
        Cause.USER,
        f"{checkpoint.name} {what}, so training cannot go on from it: rows would be left out or read twice. Keep "
        "the global batch (per_device_train_batch_size x gradient_accumulation_steps x ranks) and the data as they "
        "were, or set resumeFrom: never.",
    )
