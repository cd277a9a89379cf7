"""Batches of source and target for encoder-decoder models.

transformers' own collator fills the target up to the length of the source where padding is to a fixed length, leaves
the decoder without input for architectures that make it only beside a loss of their own (M2M100, NLLB), and fails for
mBART on a row that only fills up a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.column_request import IGNORED_LABEL, LABELS
from finetune_trainer.shared.failures import ExpectedError

PROBE = (11, 12, 13)
"""Labels that show how a model shifts them."""


@dataclass(frozen=True)
class Shift:
    """Shift from labels to what the decoder reads: one to the right, after a start token."""

    start: int | None
    """Start token; None is the last token of the labels, which is the language of the target."""
    pad: int

    @classmethod
    def of(cls, model: Any, pad: int) -> Shift:
        """Ask the model how it shifts targets, where it tells; others shift as their configuration says."""
        start = getattr(model.config, "decoder_start_token_id", None)  # configurations of some kinds lack the field
        shift = getattr(model, "prepare_decoder_input_ids_from_labels", None)
        if shift is not None:
            import torch

            first, *rest = shift(labels=torch.tensor([PROBE]))[0].tolist()
            if tuple(rest) != PROBE[:-1]:
                raise ExpectedError(
                    Reason.MODEL_NOT_FOUND,
                    f"{type(model).__name__} does not read its target shifted by one: it cannot be trained here.",
                )
            start = None if first == PROBE[-1] else first
        return cls(start, pad)

    def __call__(self, labels: list[int]) -> list[int]:
        known = [token for token in labels if token != IGNORED_LABEL]
        start = self.start if self.start is not None else known[-1] if known else self.pad
        return [start, *(self.pad if token == IGNORED_LABEL else token for token in labels[:-1])]


@dataclass(frozen=True)
class Seq2SeqCollator:
    """Collator of sources and targets; an object without the model, because loader processes need to unpickle it."""

    shift: Shift
    fill: dict[str, int]
    """Input of the encoder -> what it is filled up with; 0 where it is not named."""
    left: bool
    """Whether the tokenizer fills sources up on the left."""
    source_tokens: int | None
    """Length that all sources are filled up to; None is that of the longest."""
    target_tokens: int | None
    multiple_of: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        labels = [row[LABELS] for row in rows]
        width = self._width(labels, self.target_tokens)
        source_width = self._width([row["input_ids"] for row in rows], self.source_tokens)
        batch = {
            name: _filled([row[name] for row in rows], self.fill.get(name, 0), source_width, left=self.left)
            for name in rows[0]
            if name != LABELS
        }
        batch["decoder_input_ids"] = _filled([self.shift(row) for row in labels], self.shift.pad, width)
        batch[LABELS] = _filled(labels, IGNORED_LABEL, width)
        return batch

    def _width(self, rows: list[list[int]], fixed: int | None) -> int:
        longest = max(len(row) for row in rows)
        return fixed if fixed is not None else -(-longest // self.multiple_of) * self.multiple_of


def _filled(rows: list[list[int]], value: int, width: int, *, left: bool = False) -> Any:
    import torch

    filled = np.full((len(rows), width), value, dtype=np.int64)
    for index, row in enumerate(rows):
        begin = width - len(row) if left else 0
        filled[index, begin : begin + len(row)] = row
    return torch.from_numpy(filled)
