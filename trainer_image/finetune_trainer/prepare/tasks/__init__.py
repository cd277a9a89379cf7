"""What each task needs of its data: a module by the task's name, all of the same shape.

`columns(config)` names the columns it reads, `text_columns(config)` those of them that hold text, `check(...)` looks at
every row and returns what training must know of the labels, `tokenise(...)` makes the batches that are stored.
`check_model(...)` raises where the task can't be trained on this model, `model_messages(...)` says what becomes of it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import Protocol, cast

import pyarrow as pa

from finetune_trainer.config import RunConfig
from finetune_trainer.prepare.model import Model
from finetune_trainer.prepare.source import Split


@dataclass(frozen=True)
class Checked:
    """The rows of a run once they are known to be good."""

    splits: dict[str, pa.Table]
    """Role of the split -> columns under the names of the task's roles, labels as ids."""
    label_names: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Tokenised:
    batch: pa.RecordBatch
    truncated: int
    """Rows that were longer than the limit."""


class Task(Protocol):
    """The shape of a task's module."""

    def columns(self, config: RunConfig) -> list[str]: ...
    def text_columns(self, config: RunConfig) -> list[str]: ...
    def check(self, splits: dict[str, Split], config: RunConfig) -> Checked: ...
    def check_model(self, model: Model, config: RunConfig) -> None: ...
    def model_messages(self, model: Model, label_names: tuple[str, ...]) -> tuple[str, ...]: ...
    def special_tokens(self, model: Model, config: RunConfig) -> int: ...
    def tokenise(self, rows: pa.Table, model: Model, max_tokens: int | None) -> Iterator[Tokenised]: ...


def find(name: str) -> Task:
    """The module of a task, by its name in the resource."""
    return cast(Task, import_module(f"{__name__}.{name.replace('-', '_')}"))
