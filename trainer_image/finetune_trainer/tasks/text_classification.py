"""One text, or a pair of texts, and the class that it belongs to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.config import Cause, Prepared, Reason, RunConfig
from finetune_trainer.prepare.errors import PrepareError, names, others, shown
from finetune_trainer.prepare.labels import class_ids, class_names
from finetune_trainer.prepare.model import Model
from finetune_trainer.prepare.source import Split
from finetune_trainer.tasks.base import (
    IGNORED_LABEL,
    LABELS,
    LENGTH,
    Checked,
    Evaluated,
    Reading,
    Task,
    Tokenised,
    Training,
    pad_with_what_there_is,
    require_known,
)

TEXT, TEXT_PAIR, LABEL = "text", "text_pair", "label"
BATCH_ROWS = 1000
BLANK = r"^[\s\pZ]*$"
HEAD = "ForSequenceClassification"


class TextClassification(Task):
    """Cross entropy on the logits of AutoModelForSequenceClassification, accuracy and macro F1."""

    heads = "MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES"
    head = "text classification"

    def columns(self, config: RunConfig) -> list[str]:
        wanted = [*self.text_columns(config), config.dataset.columns.get(LABEL, LABEL)]
        twice = sorted({column for column in wanted if wanted.count(column) > 1})
        if twice:
            raise PrepareError(
                Reason.COLUMN_NOT_FOUND, f"spec.dataset.columns names one column for two roles: {names(twice)}."
            )
        return wanted

    def text_columns(self, config: RunConfig) -> list[str]:
        columns = config.dataset.columns
        pair = columns.get(TEXT_PAIR)
        return [columns.get(TEXT, TEXT), *([pair] if pair else [])]

    def check(self, splits: dict[str, Split], config: RunConfig) -> Checked:
        """Every text is text, every label one of the training labels."""
        texts, label = self.text_columns(config), config.dataset.columns.get(LABEL, LABEL)
        for split in splits.values():
            for column in texts:
                require_text(split, column)
        labels, messages = class_names(splits["train"], label)
        tables = {}
        for role, split in splits.items():
            roles = dict(zip((TEXT, TEXT_PAIR), texts, strict=False))
            tables[role] = pa.table(
                {
                    **{key: split.table.column(column) for key, column in roles.items()},
                    LABEL: class_ids(split, label, labels),
                }
            )
        return Checked(tables, labels, messages=messages)

    def model_messages(self, model: Model, label_names: tuple[str, ...]) -> tuple[str, ...]:
        """What becomes of the head of a model that classifies already."""
        architectures = model.config.architectures or []
        if not any(str(name).endswith(HEAD) for name in architectures) or model.config.num_labels == len(label_names):
            return ()
        return (
            f"{model.name} tells {model.config.num_labels} classes apart, the data has {len(label_names)}: "
            "its head is left behind and a new one is trained.",
        )

    def special_tokens(self, model: Model, config: RunConfig) -> int:
        return int(model.tokenizer.num_special_tokens_to_add(pair=TEXT_PAIR in config.dataset.columns))

    def tokenise(self, rows: pa.Table, reading: Reading) -> Iterator[Tokenised]:
        """Token ids without padding, the label, and the length that batches are grouped by."""
        model, limit = reading.model, reading.limits.tokens
        for batch in rows.to_batches(max_chunksize=BATCH_ROWS):
            texts = [batch.column(name).to_pylist() for name in (TEXT, TEXT_PAIR) if name in rows.column_names]
            encoded = model.tokenizer(*texts, truncation=limit is not None, max_length=limit)
            ids = encoded["input_ids"]
            require_known(ids, model)
            arrays = {
                name: pa.array(encoded[name], type=pa.list_(pa.int32() if name == "input_ids" else pa.int8()))
                for name in model.tokenizer.model_input_names
                if name in encoded
            }
            arrays[LABELS] = batch.column(LABEL).cast(pa.int64())
            arrays[LENGTH] = pa.array([len(row) for row in ids], type=pa.int32())
            encodings = encoded.encodings
            truncated = sum(bool(encoding.overflowing) for encoding in encodings) if encodings and limit else 0
            yield Tokenised(pa.RecordBatch.from_pydict(arrays), truncated)

    def load(self, folder: Path, prepared: Prepared, config: RunConfig, options: dict[str, Any]) -> tuple[Any, Any]:
        """A head for the labels; one for other classes is left behind."""
        import torch
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        from finetune_trainer.train.failures import TrainError

        labels = prepared.label_names
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        try:
            model = AutoModelForSequenceClassification.from_pretrained(
                folder,
                dtype=torch.float32,
                num_labels=len(labels),
                id2label=dict(enumerate(labels)),
                label2id={name: index for index, name in enumerate(labels)},
                problem_type="single_label_classification",
                ignore_mismatched_sizes=True,
                local_files_only=True,
                **options,
            )
        except (ValueError, KeyError) as error:
            raise TrainError(Reason.MODEL_NOT_FOUND, Cause.USER, f"The model cannot classify text: {error}") from error
        pad_with_what_there_is(model, tokenizer)
        return model, tokenizer

    def collator(self, run: Training) -> Any:
        """Pads to the longest row of the batch."""
        from transformers import DataCollatorWithPadding

        return DataCollatorWithPadding(run.tokenizer, pad_to_multiple_of=run.pad_to_multiple_of)

    def loss(self, run: Training) -> Callable[..., Any]:
        """Cross entropy of the rows that count, divided by how many the global batch has of them."""

        def compute(outputs: Any, labels: Any, num_items_in_batch: Any = None) -> Any:
            logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
            total = _row_losses(logits, labels, run.label_smoothing).sum()
            return total / (num_items_in_batch if num_items_in_batch is not None else len(labels))

        return compute

    def reduce(self, run: Training) -> Callable[..., Any]:
        """The class that was chosen and the loss of each row."""

        def compute(outputs: Any, labels: Any) -> Any:
            logits = outputs[0] if isinstance(outputs, tuple) else outputs
            return logits.argmax(dim=-1), _row_losses(logits, labels, run.label_smoothing)

        return compute

    def metrics(self, run: Training, evaluated: Evaluated) -> dict[str, float]:
        """Loss, accuracy, and F1 as the plain mean over the classes that occur.

        The loss is the mean over the rows. The Trainer's own counts rows twice that it repeats to give all ranks as many.
        """
        import numpy as np
        from sklearn.metrics import f1_score

        (chosen, losses), labels = evaluated.predictions, evaluated.labels
        return {
            "loss": float(losses.mean(dtype=np.float64)),
            "accuracy": float((chosen == labels).mean()),
            "f1": float(f1_score(labels, chosen, average="macro", zero_division=0.0)),
        }

    def predictions(self, run: Training, evaluated: Evaluated) -> Iterable[dict[str, Any]]:
        raise NotImplementedError


def _row_losses(logits: Any, labels: Any, label_smoothing: float) -> Any:
    from torch.nn.functional import cross_entropy

    return cross_entropy(
        logits.float(), labels, ignore_index=IGNORED_LABEL, label_smoothing=label_smoothing, reduction="none"
    )


def require_text(split: Split, column: str) -> None:
    """Every value of a column is text, and some text."""
    values = split.table.column(column)
    if pa.types.is_dictionary(values.type):
        values = values.cast(values.type.value_type)
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type) or values.null_count):
        raise PrepareError(
            Reason.DATA_INVALID,
            f"{split.place(0)}: column {column!r} holds {values.type} such as {shown(values[0].as_py())}, not text. "
            "Name the column with the text in spec.dataset.columns.",
        )
    absent = pc.is_null(values) if values.null_count else pc.match_substring_regex(values, BLANK)
    count = pc.sum(absent).as_py()
    if count:
        row = pc.index(absent, True).as_py()
        what = "has no text" if values.null_count else f"holds {shown(values[row].as_py())}, no text"
        raise PrepareError(
            Reason.DATA_INVALID,
            f"{split.place(row)}: column {column!r} {what}{others(count)}. Leave such rows out.",
        )


TASK = TextClassification()
