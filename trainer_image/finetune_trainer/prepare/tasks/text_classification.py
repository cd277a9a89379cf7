"""One text, or a pair of texts, and the class that it belongs to."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.config import Reason, RunConfig
from finetune_trainer.prepare.errors import PrepareError, shown
from finetune_trainer.prepare.labels import class_ids, class_names
from finetune_trainer.prepare.model import Model
from finetune_trainer.prepare.source import Split
from finetune_trainer.prepare.tasks import Checked, Tokenised

TEXT, TEXT_PAIR, LABEL = "text", "text_pair", "label"
BATCH_ROWS = 1000


def text_columns(config: RunConfig) -> list[str]:
    """Columns of text: one, or two where rows are pairs."""
    names = config.dataset.columns
    pair = names.get(TEXT_PAIR)
    return [names.get(TEXT, TEXT), *([pair] if pair else [])]


def columns(config: RunConfig) -> list[str]:
    """All columns that the task reads."""
    wanted = [*text_columns(config), config.dataset.columns.get(LABEL, LABEL)]
    if len(set(wanted)) < len(wanted):
        raise PrepareError(Reason.COLUMN_NOT_FOUND, f"spec.dataset.columns names one column for two roles: {wanted}.")
    return wanted


def check(splits: dict[str, Split], config: RunConfig) -> Checked:
    """Every text is text, every label one of the training labels."""
    texts, label = text_columns(config), config.dataset.columns.get(LABEL, LABEL)
    for split in splits.values():
        for column in texts:
            _require_text(split, column)
    names, messages = class_names(splits["train"], label)
    tables = {}
    for role, split in splits.items():
        roles = dict(zip((TEXT, TEXT_PAIR), texts, strict=False))
        tables[role] = pa.table(
            {
                **{key: split.table.column(column) for key, column in roles.items()},
                LABEL: class_ids(split, label, names),
            }
        )
    return Checked(tables, names, messages)


def _require_text(split: Split, column: str) -> None:
    values = split.table.column(column)
    if values.null_count:
        row = pc.index(pc.is_null(values), True).as_py()
        raise PrepareError(Reason.DATA_INVALID, f"{split.place(row)}: column {column!r} has no text.")
    if not (pa.types.is_string(values.type) or pa.types.is_large_string(values.type)):
        raise PrepareError(
            Reason.DATA_INVALID,
            f"{split.place(0)}: column {column!r} holds {values.type} such as {shown(values[0].as_py())}, not text.",
        )


def tokenise(rows: pa.Table, model: Model, max_tokens: int | None) -> Iterator[Tokenised]:
    """Token ids without padding, the label, and the length that batches are grouped by."""
    for batch in rows.to_batches(max_chunksize=BATCH_ROWS):
        texts = [batch.column(name).to_pylist() for name in (TEXT, TEXT_PAIR) if name in rows.column_names]
        encoded = model.tokenizer(*texts, truncation=max_tokens is not None, max_length=max_tokens)
        ids = encoded["input_ids"]
        arrays = {
            name: pa.array(encoded[name], type=pa.list_(pa.int32() if name == "input_ids" else pa.int8()))
            for name in model.tokenizer.model_input_names
            if name in encoded
        }
        arrays["labels"] = batch.column(LABEL).cast(pa.int64())
        arrays["length"] = pa.array([len(row) for row in ids], type=pa.int32())
        encodings = encoded.encodings
        truncated = sum(bool(encoding.overflowing) for encoding in encodings) if encodings and max_tokens else 0
        yield Tokenised(pa.RecordBatch.from_pydict(arrays), truncated)
