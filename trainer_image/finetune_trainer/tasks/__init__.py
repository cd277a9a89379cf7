"""Tasks that can be trained: a module for each, found by the task's name in the resource.

All tasks implement `task.Task`. `prepare` calls the first half of it (columns, checks, tokens), the ranks the second (model,
batches, loss, metrics). A module imports torch, transformers and metric libraries in the functions that use them: preparing
must not pay for them.
"""

from __future__ import annotations

from importlib import import_module

from finetune_trainer.tasks.task import Task

__all__ = ["Task", "find"]


def find(name: str) -> Task:
    """Return the task of a name: `text-classification` is `TASK` of module `text_classification`."""
    task: Task = import_module(f"{__name__}.{name.replace('-', '_')}").TASK
    return task
