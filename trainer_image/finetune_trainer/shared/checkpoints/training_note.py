"""Note of a checkpoint on the training that it belongs to, in a file of its own beside the Trainer's.

Rank 0 writes the note; `launch` and each rank read it before an attempt resumes from the checkpoint. No torch here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune_trainer.contract.effects import Effect, parts
from finetune_trainer.contract.prepared import Prepared

NOTE = "finetune.json"
DATA, MODEL, LABELS = "data", "model", "labels"
KEYS = {"data_digest": DATA, "model_digest": MODEL, "label_names": LABELS}
"""Field of the prepared data that training depends on -> its key in a note."""
LABELS_SHOWN = 10


def of(prepared: Prepared) -> dict[str, Any]:
    """Return the part of a note that names the data, the base model and the labels."""
    return {KEYS[name]: value for name, value in parts(prepared, Effect.TRAINING, mode="json").items()}


def read(checkpoint: Path) -> dict[str, Any]:
    """Read the note of a checkpoint; empty where there is none that can be read."""
    try:
        note = json.loads((checkpoint / NOTE).read_bytes())
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def tells_data(note: dict[str, Any]) -> bool:
    """Tell whether a note says what the checkpoint was trained on: notes of older releases do not."""
    return note.get(DATA) is not None


def difference(note: dict[str, Any], prepared: Prepared) -> str | None:
    """Say what differs between the note of a checkpoint and the prepared data and model; None where nothing does, as far as it says."""
    now = of(prepared)
    other = [
        name for name in (DATA, MODEL, LABELS) if None not in (note.get(name), now[name]) and note[name] != now[name]
    ]
    if LABELS in other:
        return f"other data (classes {_named(note[LABELS])}; now {_named(now[LABELS])})"
    if DATA in other:
        return "other data"
    return "another base model" if MODEL in other else None


def _named(labels: Sequence[Any]) -> str:
    more = f" and {len(labels) - LABELS_SHOWN} more" if len(labels) > LABELS_SHOWN else ""
    return f"{', '.join(str(label)[:40] for label in labels[:LABELS_SHOWN])}{more}" or "none"
