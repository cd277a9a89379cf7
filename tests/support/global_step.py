"""The optimizer steps of an epoch as a number of ranks and accumulation steps would see them, in one process; evaluations too.

The parts are those of a rank: the order of rows, the collator, the model, the loss of the task. Weights stay as they are.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import torch
from transformers.trainer_pt_utils import nested_concat, nested_numpify

from finetune_trainer import tasks
from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.data.column_request import IGNORED_LABEL, LABELS
from finetune_trainer.data.prepared_dataset import Collator, PreparedDataset
from finetune_trainer.data.sampler import GlobalBatchOrder, MicroBatchSampler, by_length
from finetune_trainer.tasks.task import Evaluated, Training

WORLDS = ((1, 1), (1, 2), (2, 1))
"""(ranks, accumulation steps)"""


@dataclass(frozen=True)
class Step:
    rows: tuple[int, ...]
    """Rows that count, in order."""
    loss: float


def training(config: TaskConfig, prepared: PreparedTask) -> Training:
    """Return what a task knows while a rank trains."""
    torch.manual_seed(0)  # the head's weights are drawn while loading
    model, tokenizer = tasks.find(config.task).load(Path(prepared.model), prepared, config, {})
    smoothing = config.training_arguments.get("label_smoothing_factor", 0.0)
    arguments = SimpleNamespace(label_smoothing_factor=smoothing)
    return Training(config, prepared, arguments, model.eval(), tokenizer, half_precision=False)


def rows_of(run: Training, role: str = "train") -> PreparedDataset:
    """Return prepared rows as inputs of the model."""
    rows = PreparedDataset.from_file(Path(run.prepared.data) / f"{role}.arrow")
    return rows.reading(set(inspect.signature(run.model.forward).parameters))


def steps(run: Training, *, ranks: int, accumulation: int, batch_rows: int = 8) -> list[Step]:
    """Return rows and loss of each global batch of the first epoch."""
    task = tasks.find(run.config.task)
    rows = rows_of(run)
    order = GlobalBatchOrder(rows.lengths, batch_rows, seed=42)
    batches = list(MicroBatchSampler(order, batch_size=batch_rows // ranks // accumulation, world_size=ranks))
    collate, loss = Collator(task.collator(run), keep_draw=task.draws), task.loss(run)
    made = []
    for start in range(0, len(batches), ranks * accumulation):
        part = batches[start : start + ranks * accumulation]
        collated = [collate(rows.__getitems__(batch)) for batch in part]
        items = sum((batch[LABELS] != IGNORED_LABEL).sum() for batch in collated)
        total = 0.0
        with torch.no_grad():
            for batch in collated:
                labels = batch.pop(LABELS)
                total += float(loss(run.model(**batch), labels, num_items_in_batch=items))
        counted = sorted(pick.row for batch in part for pick in batch if pick.counts)
        made.append(Step(tuple(counted), total))
    return made


def evaluated(run: Training, role: str = "validation", batch_rows: int = 4) -> Evaluated:
    """Return the outputs that an evaluation of a split gathers as the Trainer does: from long to short, filled up with -100."""
    task = tasks.find(run.config.task)
    data = Path(run.prepared.data)
    rows = rows_of(run, role)
    rows = rows.ordered(by_length(rows.lengths))
    collate, reduce = Collator(task.collator(run), keep_draw=task.draws), task.reduce(run)
    kept: Any = None
    for start in range(0, len(rows), batch_rows):
        batch = collate([rows[index] for index in range(start, min(start + batch_rows, len(rows)))])
        labels = batch.pop(LABELS)
        with torch.no_grad():
            part = (reduce(tuple(run.model(**batch).values()), labels), labels)
        kept = part if kept is None else nested_concat(kept, part, padding_index=IGNORED_LABEL)
    predictions, labels = nested_numpify(kept)
    with pa.memory_map(str(data / f"{role}.examples.arrow")) as source:
        return Evaluated(predictions, labels, rows, pa.ipc.open_stream(source).read_all())


def own_loss(run: Training, of: Evaluated) -> float:
    """Return the loss that the model itself computes of the rows that were evaluated, in one batch."""
    rows = [of.rows[index] for index in range(len(of.rows))]
    batch = tasks.find(run.config.task).collator(run)(
        [{name: row[name] for name in row if not name.startswith("_")} for row in rows]
    )
    with torch.no_grad():
        return float(run.model(**batch).loss)
