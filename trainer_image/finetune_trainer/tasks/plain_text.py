"""Parts of the two tasks that learn from plain text: its checks, batches, and scores row by row."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.column_request import IGNORED_LABEL, LABELS
from finetune_trainer.data.split import Split
from finetune_trainer.data.texts import blanks, serialised, strings
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks.task import Checked, Evaluated, Training

TEXT = "text"
BATCH_ROWS = 1000
BATCH_BYTES = 4 << 20
"""Bytes of text that are tokenised together: the result takes a hundred times as many."""
NO_TEXT = "they hold no text"
EXAMPLE = "_example"


# --- preparing ---------------------------------------------------------------------------------------------------


def texts(splits: dict[str, Split], column: str, hint: str = "") -> Checked:
    """Keep the rows with text, and count those without. `hint` ends the message about texts that look like other values."""
    tables, dropped = {}, {}
    for role, split in splits.items():
        values = strings(split, column)
        blank = blanks(values)
        count = pc.sum(blank).as_py() or 0
        if count == len(values):
            raise ExpectedError(
                Reason.DATA_INVALID,
                f"{split.name}: column {column!r} holds no text in any of its {count} rows. Name the column with the "
                "text in spec.dataset.columns.",
            )
        tables[role] = pa.table({TEXT: values.filter(pc.invert(blank)) if count else values})
        if count:
            dropped[role] = {NO_TEXT: count}
    return Checked(tables, dropped=dropped, messages=serialised(splits["train"], column, hint))


def batches(rows: pa.Table) -> Iterator[pa.RecordBatch]:
    """Yield some rows at a time, fewer where their texts are long."""
    import numpy as np

    for batch in rows.to_batches(max_chunksize=BATCH_ROWS):
        sizes = sum(pc.binary_length(column).to_numpy(zero_copy_only=False) for column in batch.columns)
        ends, start = np.cumsum(sizes, dtype=np.int64), 0
        while start < batch.num_rows:
            before = int(ends[start - 1]) if start else 0
            stop = max(start + 1, int(np.searchsorted(ends, before + BATCH_BYTES, side="right")))
            yield batch.slice(start, stop - start)
            start = stop


# --- training ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class PaddingCollator:
    """Collator that fills rows of tokens up on the right; an object, because loader processes need to unpickle it."""

    pad: int
    masked: bool
    """Whether the model takes an attention mask."""
    multiple: int
    width: int | None
    """Fixed width; None is that of the longest row."""

    @classmethod
    def of(cls, run: Training, longest: int) -> PaddingCollator:
        import inspect

        takes = inspect.signature(run.model.forward).parameters
        masked = "attention_mask" in takes or any(each.kind is each.VAR_KEYWORD for each in takes.values())
        padding = run.padding
        width = padding.get("max_length")
        if width is not None and run.config.preprocessing.max_length is None:
            width = min(width, longest)
        return cls(run.tokenizer.pad_token_id, masked, padding.get("pad_to_multiple_of") or 1, width)

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        import torch

        longest = max(len(row["input_ids"]) for row in rows)
        width = max(self.width or 0, -(-longest // self.multiple) * self.multiple)
        ids = torch.full((len(rows), width), self.pad)
        labels = torch.full((len(rows), width), IGNORED_LABEL)
        mask = torch.zeros((len(rows), width), dtype=torch.long)
        for index, row in enumerate(rows):
            length = len(row["input_ids"])
            ids[index, :length] = torch.as_tensor(row["input_ids"])
            labels[index, :length] = torch.as_tensor(row[LABELS])
            mask[index, :length] = 1
        return {"input_ids": ids, **({"attention_mask": mask} if self.masked else {}), LABELS: labels}


def scored(evaluated: Evaluated, inputs: Callable[[dict[str, Any]], dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield for each row of the data its inputs, and loss, perplexity and accuracy over all of its tokens that count."""
    import numpy as np

    from finetune_trainer.tasks.token_loss import perplexity

    examples, rows = evaluated.examples, evaluated.rows
    assert examples is not None
    owners = np.asarray([rows.own(index, EXAMPLE) for index in range(len(rows))], dtype=np.int64)
    losses, hits, counts = (
        np.bincount(owners, weights=values, minlength=examples.num_rows) for values in evaluated.predictions
    )
    number = 0
    for batch in examples.to_batches(max_chunksize=BATCH_ROWS):
        for example in batch.to_pylist():
            tokens = int(counts[number])
            mean = float(losses[number] / tokens) if tokens else None
            yield {
                **inputs(example),
                "loss": mean,
                "perplexity": None if mean is None else perplexity(mean),
                "accuracy": float(hits[number] / tokens) if tokens else None,
                "tokens": tokens,
            }
            number += 1
