"""Runs of the tasks that learn each token, prepared in this process; and their steps, as ranks would share them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from finetune_trainer import tasks
from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.run_config import DatasetSource, ModelSource, Preprocessing, TaskConfig
from finetune_trainer.data.column_request import IGNORED_LABEL
from finetune_trainer.data.prepared_dataset import Collator, PreparedDataset
from finetune_trainer.data.sampler import GlobalBatchOrder, MicroBatchSampler, Pick
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.tasks.task import Evaluated, Training
from finetune_trainer.train.predict import examples
from tests.support.tiny import Row, write_rows

SHARES = ((1, 1), (1, 2), (2, 1))
"""(ranks, accumulation)"""
GLOBAL_ROWS = 8


def token_config(
    folder: Path,
    task: str,
    *,
    model: Path,
    train: Sequence[Row],
    validation: Sequence[Row] = (),
    test: Sequence[Row] = (),
    columns: Mapping[str, str] | None = None,
    arguments: Mapping[str, Any] | None = None,
    processes: int = 1,
    suffix: str = "jsonl",
    **preprocessing: Any,
) -> TaskConfig:
    """Return a run on rows that are written into `folder`."""
    splits = {"train": train, "validation": validation, "test": test}
    files = {role: (str(write_rows(folder / f"{role}.{suffix}", rows)),) for role, rows in splits.items() if rows}
    (folder / "output").mkdir(exist_ok=True)
    return TaskConfig.model_validate(
        {
            "namespace": "default",
            "job": "words",
            "uid": "11111111-bbbb",
            "task": task,
            "model": ModelSource(name=str(model)),
            "dataset": DatasetSource(files=files, columns=dict(columns or {})),
            "preprocessing": Preprocessing(**preprocessing),
            "training_arguments": dict(arguments or {}),
            "nodes": 1,
            "processes_per_node": processes,
            "accelerators": False,
            "output": str(folder / "output"),
            "prepare": "inline",
        }
    )


def prepared_rows(prepared: PreparedTask, role: str = "train") -> PreparedDataset:
    return PreparedDataset.from_file(Path(prepared.data) / f"{role}.arrow")


@dataclass(frozen=True)
class Ready:
    """A prepared run with its model, as a rank has it."""

    task: tasks.Task
    run: Training
    rows: PreparedDataset

    @property
    def collate(self) -> Collator:
        return Collator(self.task.collator(self.run), keep_draw=self.task.draws)

    def evaluated(self, role: str) -> Evaluated:
        """Return the outputs of an evaluation of a split, a batch at a time."""
        import numpy as np
        import torch

        rows = prepared_rows(self.run.prepared, role).reading(self._takes)
        reduce, parts = self.task.reduce(self.run), []
        for start in range(0, len(rows), GLOBAL_ROWS):
            batch = self.collate([rows[index] for index in range(start, min(start + GLOBAL_ROWS, len(rows)))])
            labels = batch.pop("labels")
            with torch.no_grad():
                parts.append(reduce(self.run.model(**batch).logits, labels))
        gathered = tuple(np.concatenate([part[kept].numpy() for part in parts]) for kept in range(len(parts[0])))
        return Evaluated(gathered, None, rows, examples(self.run.prepared, role))

    def first_step(self, ranks: int, accumulation: int) -> Step:
        """Return the rows of the first global batch and its results, shared among these ranks and steps."""
        order = GlobalBatchOrder(lengths=self.rows.lengths, batch_rows=GLOBAL_ROWS, seed=7)
        sampler = MicroBatchSampler(order, batch_size=GLOBAL_ROWS // ranks // accumulation, world_size=ranks)
        picks = [pick for _, pick in zip(range(ranks * accumulation), sampler, strict=False)]
        return self._step(picks)

    def last_step(self, ranks: int, accumulation: int) -> Step:
        """Return the same for the last global batch of the epoch, which is filled up."""
        order = GlobalBatchOrder(lengths=self.rows.lengths, batch_rows=GLOBAL_ROWS, seed=7)
        sampler = MicroBatchSampler(order, batch_size=GLOBAL_ROWS // ranks // accumulation, world_size=ranks)
        full = order.rows // GLOBAL_ROWS * ranks * accumulation
        return self._step(list(sampler)[full:])

    @property
    def _takes(self) -> set[str]:
        import inspect

        return {*inspect.signature(self.run.model.forward).parameters, *self.task.collates}

    def _step(self, picks: Sequence[Sequence[Pick]]) -> Step:
        rows, loss = self.rows.reading(self._takes), self.task.loss(self.run)
        model = self.run.model
        model.zero_grad()
        batches = [self.collate(rows.__getitems__(batch)) for batch in picks]
        items = sum(int((batch["labels"] != IGNORED_LABEL).sum()) for batch in batches)
        total, seen = 0.0, []
        for batch in batches:
            masks = batch.get("attention_mask")
            for place, labels in enumerate(batch["labels"]):
                if (labels != IGNORED_LABEL).any():
                    length = int(masks[place].sum())
                    seen.append((tuple(batch["input_ids"][place][:length].tolist()), tuple(labels[:length].tolist())))
            labels = batch.pop("labels")
            part = loss(model(**batch), labels, num_items_in_batch=items)
            part.backward()
            total += float(part.detach())
        gradient = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
        return Step(total, items, sorted(seen), gradient)


@dataclass(frozen=True)
class Step:
    loss: float
    items: int
    rows: list[tuple[tuple[int, ...], tuple[int, ...]]]
    """Ids and labels of each row that counts, padding left out."""
    gradient: dict[str, Any]


def ready(config: TaskConfig, **arguments: Any) -> Ready:
    """Prepare, and load the model."""
    prepared, task = prepare(config), tasks.find(config.task)
    model, tokenizer = task.load(Path(prepared.model), prepared, config, {})
    known = SimpleNamespace(**{"seed": 42, "data_seed": None, "label_smoothing_factor": 0.0, **arguments})
    run = Training(config, prepared, known, model, tokenizer, half_precision=False)
    return Ready(task, run, prepared_rows(prepared))


def require_same_step(of: Ready) -> None:
    """Require the same rows and results of the first and the last global batch, however they are shared."""
    import torch

    for step in (of.first_step, of.last_step):
        expected = step(1, 1)
        for ranks, accumulation in SHARES[1:]:
            taken = step(ranks, accumulation)
            assert taken.rows == expected.rows
            assert taken.items == expected.items
            assert abs(taken.loss - expected.loss) < 1e-5
            for name, gradient in expected.gradient.items():
                torch.testing.assert_close(taken.gradient[name], gradient, atol=1e-6, rtol=1e-4)
