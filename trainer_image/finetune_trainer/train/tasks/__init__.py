"""What each task trains: a module by the task's name, all of the same shape.

`load(...)` gives model and tokenizer, `collator(...)` makes a batch of rows, `loss(...)` is the mean over the global
batch, `reduce(...)` keeps of the outputs what `metrics(...)` needs.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any, Protocol, cast

from finetune_trainer.config import Prepared


class Task(Protocol):
    """The shape of a task's module."""

    def load(self, folder: Path, prepared: Prepared) -> tuple[Any, Any]: ...
    def collator(self, tokenizer: Any, *, half_precision: bool) -> Any: ...
    def loss(self, label_smoothing: float) -> Any: ...
    def reduce(self, label_smoothing: float) -> Any: ...
    def metrics(self, predictions: Any) -> dict[str, float]: ...


def find(name: str) -> Task:
    """The module of a task, by its name in the resource."""
    return cast(Task, import_module(f"{__name__}.{name.replace('-', '_')}"))
