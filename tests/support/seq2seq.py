"""A task that writes text, run in this process: prepared, trained and judged without a Trainer."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa

from finetune_trainer import tasks
from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.run_config import DatasetSource, ModelSource, Preprocessing, TaskConfig
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.paths import to_local
from finetune_trainer.tasks.task import Evaluated, Task, Training
from tests.support.tiny import Row, write_rows

COLUMNS = {"summarization": {"text": "story", "summary": "gist"}, "translation": {"source": "en", "target": "de"}}


def pair_config(
    folder: Path,
    task: str,
    model: Path,
    *,
    train: Sequence[Row],
    validation: Sequence[Row] = (),
    test: Sequence[Row] = (),
    preprocessing: Mapping[str, Any] | None = None,
    arguments: Mapping[str, Any] | None = None,
    columns: Mapping[str, str] | None = None,
    processes: int = 1,
) -> TaskConfig:
    """Return a run on rows that are written into `folder`."""
    splits = {"train": train, "validation": validation, "test": test}
    files = {name: (str(write_rows(folder / f"{name}.jsonl", rows)),) for name, rows in splits.items() if rows}
    (folder / "output").mkdir(parents=True, exist_ok=True)
    return TaskConfig.model_validate(
        {
            "namespace": "default",
            "job": "pairs",
            "uid": "11111111-aaaa",
            "task": task,
            "model": ModelSource(name=str(model)),
            "dataset": DatasetSource(files=files, columns=dict(columns or COLUMNS[task])),
            "preprocessing": Preprocessing.model_validate(preprocessing or {}),
            "training_arguments": dict(arguments or {}),
            "nodes": 1,
            "processes_per_node": processes,
            "accelerators": False,
            "output": str(folder / "output"),
            "prepare": "inline",
        }
    )


@dataclass
class InProcess:
    """A prepared run with its model."""

    config: TaskConfig
    prepared: PreparedTask
    task: Task
    run: Training

    @classmethod
    def of(cls, config: TaskConfig, *, label_smoothing: float = 0.0) -> InProcess:
        prepared, task = prepare(config), tasks.find(config.task)
        model, tokenizer = task.load(to_local(prepared.model), prepared, config, {})
        arguments = SimpleNamespace(label_smoothing_factor=label_smoothing)
        return cls(
            config, prepared, task, Training(config, prepared, arguments, model, tokenizer, half_precision=False)
        )

    def rows(self, role: str = "train") -> Any:
        from finetune_trainer.data.prepared_dataset import PreparedDataset

        rows = PreparedDataset.from_file(to_local(self.prepared.data) / f"{role}.arrow")
        return rows.reading({"input_ids", "attention_mask", "decoder_input_ids"})

    def batch(self, rows: Iterable[dict[str, Any]]) -> Any:
        """Collate rows as the ranks do."""
        from finetune_trainer.data.prepared_dataset import Collator

        return Collator(self.task.collator(self.run), keep_draw=self.task.draws)(list(rows))

    def train(self, *, epochs: int, learning_rate: float, batch_rows: int = 16) -> None:
        import torch

        model, rows, loss = self.run.model, self.rows(), self.task.loss(self.run)
        optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate)
        order, source = list(range(len(rows))), random.Random(0)
        for _ in range(epochs):
            source.shuffle(order)
            for start in range(0, len(order), batch_rows):
                batch = self.batch(rows[index] for index in order[start : start + batch_rows])
                labels = batch.pop("labels")
                loss(model(**batch), labels).backward()
                optimizer.step()
                optimizer.zero_grad()

    def judge(self, role: str = "validation", batch_rows: int = 8) -> Evaluated:
        """Evaluate as the Trainer does: from long to short, with the outputs of all batches joined."""
        import torch

        from finetune_trainer.data.sampler import by_length

        model, plain = self.run.model, self.rows(role)
        rows = plain.ordered(by_length(plain.lengths))
        generate, reduce = self.task.generate(self.run), self.task.reduce(self.run)
        model.eval()
        parts, labels = [], []
        for start in range(0, len(rows), batch_rows):
            batch = self.batch(rows[index] for index in range(start, min(start + batch_rows, len(rows))))
            wanted = batch.pop("labels")
            with torch.no_grad():
                outputs = model(**batch)
                kept = reduce(outputs["logits"], wanted)
                parts.append((generate(model, batch, outputs), *kept) if generate else kept)
            labels.append(wanted)
        joined = tuple(_joined([part[index] for part in parts]) for index in range(len(parts[0])))
        return Evaluated(joined, _joined(labels), rows, self.examples(role))

    def examples(self, role: str) -> pa.Table:
        with pa.memory_map(str(to_local(self.prepared.data) / f"{role}.examples.arrow")) as source:
            return pa.ipc.open_stream(source).read_all()


def _joined(parts: list[Any]) -> Any:
    """Join along the first axis; arrays of two axes are filled up with -100, as the Trainer does."""
    arrays = [np.asarray(part) for part in parts]
    if arrays[0].ndim == 1:
        return np.concatenate(arrays)
    width = max(array.shape[1] for array in arrays)
    return np.concatenate(
        [np.pad(array, ((0, 0), (0, width - array.shape[1])), constant_values=-100) for array in arrays]
    )
