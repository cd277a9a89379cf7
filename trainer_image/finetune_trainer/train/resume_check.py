"""A check of the checkpoint to resume from: the Trainer itself would misread its data, or start anew without a message."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Reason
from finetune_trainer.data.sampler import GlobalBatchOrder
from finetune_trainer.shared.checkpoints import training_note
from finetune_trainer.shared.checkpoints.training_note import NOTE
from finetune_trainer.shared.failures import ExpectedError

LONGEST_FIRST = "longestFirst"
REQUIRED = ("trainer_state.json", "optimizer.pt", "scheduler.pt")
"""Files without which the Trainer would go on with a new optimizer or scheduler."""


def note(order: GlobalBatchOrder, prepared: PreparedTask) -> dict[str, Any]:
    """Return the note that a resume must agree with."""
    return _of_order(order) | training_note.of(prepared)


def _of_order(order: GlobalBatchOrder) -> dict[str, Any]:
    return {
        "globalBatch": order.batch_rows,
        "rows": order.rows,
        "order": str(order.strategy),
        "seed": order.seed,
        "dropLast": order.drop_last,
        **({LONGEST_FIRST: True} if order.longest_first else {}),
    }


def order_of(checkpoint: Path, order: GlobalBatchOrder) -> GlobalBatchOrder:
    """Return the order in which the training of a checkpoint takes its rows: in older releases the longest do not come first."""
    return replace(order, longest_first=bool(training_note.read(checkpoint).get(LONGEST_FIRST)))


def check(checkpoint: Path, order: GlobalBatchOrder, prepared: PreparedTask) -> None:
    """Raise CheckpointMismatch with the differences, where the checkpoint does not fit."""
    missing = [name for name in REQUIRED if not (checkpoint / name).is_file()]
    if missing:
        raise _mismatch(checkpoint, f"has no {', '.join(missing)}")
    then, now = training_note.read(checkpoint), _of_order(order)
    if not then:
        raise _mismatch(checkpoint, f"has no {NOTE} that can be read: it was not made by this system")
    differing = [f"{name} {then.get(name)} (now {now[name]})" for name in now if then.get(name) != now[name]]
    other = training_note.difference(then, prepared)
    if other is not None:
        differing.insert(0, other)
    if differing:
        raise _mismatch(checkpoint, f"was made with {', '.join(differing)}")


def _mismatch(checkpoint: Path, problem: str) -> ExpectedError:
    return ExpectedError(
        Reason.CHECKPOINT_MISMATCH,
        f"{checkpoint.name} {problem}, so training cannot go on from it: rows would be left out or read twice, or learnt "
        "as something else. Keep the global batch (per_device_train_batch_size x gradient_accumulation_steps x ranks), "
        "the data and the base model as they were, or set resumeFrom: never.",
    )
