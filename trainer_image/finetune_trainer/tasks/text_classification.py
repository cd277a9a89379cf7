"""One text, or a pair of texts, and the class (classes, number) that it belongs to.

The kinds of labels are those of `class_problems`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.data.column_request import LABELS, LENGTH
from finetune_trainer.data.data_errors import names
from finetune_trainer.data.model import ModelDescription
from finetune_trainer.data.split import Split
from finetune_trainer.data.texts import require_text, serialised
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks import classes
from finetune_trainer.tasks.class_problems import MultiLabel, problem_of
from finetune_trainer.tasks.encoding import SpecialTokens, inputs_of, unmarked, without_offsets
from finetune_trainer.tasks.kinds import require_decoder_start
from finetune_trainer.tasks.task import Checked, Evaluated, Reading, Task, Tokenised, Training, require_known

TEXT, TEXT_PAIR, LABEL = "text", "text_pair", "label"
HEAD = "ForSequenceClassification"


class TextClassification(Task):
    """Head of AutoModelForSequenceClassification; loss and metrics of the kind of label."""

    name = "text-classification"
    heads = "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES"
    head = "text classification"

    def columns(self, config: TaskConfig) -> list[str]:
        wanted = [*self._texts(config), *self._labels(config)]
        twice = sorted({column for column in wanted if wanted.count(column) > 1})
        if twice:
            raise ExpectedError(
                Reason.COLUMN_NOT_FOUND, f"spec.dataset.columns names one column for two roles: {names(twice)}."
            )
        return wanted

    def text_columns(self, config: TaskConfig) -> list[str]:
        return self._texts(config)

    def _texts(self, config: TaskConfig) -> list[str]:
        columns = config.dataset.columns
        pair = columns.get(TEXT_PAIR)
        return [columns.get(TEXT, TEXT), *([pair] if pair else [])]

    def _labels(self, config: TaskConfig) -> Sequence[str]:
        return config.dataset.label_columns or [config.dataset.columns.get(LABEL, LABEL)]

    def check(self, splits: dict[str, Split], config: TaskConfig) -> Checked:
        """Raise where a text is no text, or a label is none of the training labels."""
        problem = problem_of(config)
        problem.check(config)
        texts = self._texts(config)
        for split in splits.values():
            for column in texts:
                require_text(split, column)
        if config.dataset.label_columns:
            labels = MultiLabel.read_columns(splits, config.dataset.label_columns)
        else:
            labels = problem.read(splits, self._labels(config)[0])
        roles = dict(zip((TEXT, TEXT_PAIR), texts, strict=False))
        tables = {
            role: pa.table(
                {**{key: split.table.column(column) for key, column in roles.items()}, LABEL: labels.columns[role]}
            )
            for role, split in splits.items()
        }
        messages = [message for column in texts for message in serialised(splits["train"], column)]
        return Checked(tables, labels.names, messages=(*messages, *labels.messages))

    def check_model(self, model: ModelDescription, config: TaskConfig) -> None:
        super().check_model(model, config)
        require_decoder_start(model)

    def model_messages(self, model: ModelDescription, label_names: tuple[str, ...]) -> tuple[str, ...]:
        return classes.head_message(model, HEAD, len(label_names) or 1)

    def special_tokens(self, model: ModelDescription, config: TaskConfig) -> int:
        return int(model.tokenizer.num_special_tokens_to_add(pair=TEXT_PAIR in config.dataset.columns))

    def tokenise(self, rows: pa.Table, reading: Reading) -> Iterator[Tokenised]:
        """Yield token ids without padding, the label, and the length that batches are grouped by."""
        problem, limit = problem_of(reading.config), reading.limits.tokens
        marks = SpecialTokens.of(reading.tokenizer)
        for batch in rows.to_batches(max_chunksize=classes.BATCH_ROWS):
            columns = [batch.column(name).to_pylist() for name in (TEXT, TEXT_PAIR) if name in rows.column_names]
            texts = [unmarked(column, marks.begin, marks.end) for column in columns]
            with without_offsets(reading.tokenizer) as tokenizer:
                cut = {"truncation": limit is not None, "max_length": limit}
                encoded = tokenizer(*texts, **cut, return_attention_mask=False)
            ids = encoded["input_ids"]
            require_known(ids, reading.model)
            arrays = inputs_of(encoded, tokenizer)
            arrays[LABELS] = problem.prepared(batch.column(LABEL), len(reading.label_names))
            arrays[LENGTH] = pa.array([len(row) for row in ids], type=pa.int32())
            yield Tokenised(pa.RecordBatch.from_pydict(arrays), classes.truncated(encoded, limit))

    def load(
        self, folder: Path, prepared: PreparedTask, config: TaskConfig, options: dict[str, Any]
    ) -> tuple[Any, Any]:
        problem, labels = problem_of(config), prepared.label_names
        wanted = {**options, "num_labels": problem.outputs(len(labels)), "problem_type": problem.name}
        head, purpose = self.facts.model_class, "classify text"
        return classes.load_with_labels(head, folder, purpose, labels, config, wanted)

    def collator(self, run: Training) -> Any:
        from transformers import DataCollatorWithPadding

        return DataCollatorWithPadding(run.tokenizer, **run.padding)

    def loss(self, run: Training) -> Callable[..., Any]:
        """Return the loss of the rows that count, divided by how many labels the global batch has of them."""
        losses = problem_of(run.config).losses(run)

        def compute(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
            logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
            total = losses(logits, labels).sum()
            return total / (num_items_in_batch if num_items_in_batch is not None else labels.numel())

        return compute

    def reduce(self, run: Training) -> Callable[..., Any]:
        """Keep the predicted label, and the loss of each row."""
        problem = problem_of(run.config)
        losses = problem.losses(run)

        def compute(outputs: Any, labels: Any) -> Any:
            logits = outputs[0] if isinstance(outputs, tuple) else outputs
            return problem.choose(logits), losses(logits, labels).reshape(len(labels), -1).mean(dim=1)

        return compute

    def metrics(self, run: Training, evaluated: Evaluated) -> dict[str, float]:
        """Compute the loss as the mean over the rows: the Trainer's own counts twice the rows that it repeats to give all ranks as many."""
        import numpy as np

        chosen, losses = evaluated.predictions
        problem = problem_of(run.config)
        return {"loss": float(losses.mean(dtype=np.float64)), **problem.metrics(evaluated.labels, chosen)}

    def details(self, run: Training, evaluated: Evaluated) -> dict[str, Any]:
        """Return scores by label, and which labels are taken for which."""
        problem = problem_of(run.config)
        return problem.details(evaluated.labels, evaluated.predictions[0], run.prepared.label_names)

    def predictions(self, run: Training, evaluated: Evaluated) -> Iterable[dict[str, Any]]:
        """Yield the text (texts) of each row, and labels by their names."""
        problem, labels = problem_of(run.config), run.prepared.label_names
        chosen = evaluated.predictions[0]
        for index, example in zip(classes.in_order(evaluated), classes.examples(evaluated), strict=True):
            reference = problem.readable_label(example.pop(LABEL), labels)
            yield {**example, "prediction": problem.readable(chosen[index], labels), "reference": reference}


TASK = TextClassification()
