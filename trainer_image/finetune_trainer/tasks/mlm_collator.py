"""Collator that hides tokens of each row, by a draw that depends on (seed, epoch, row) alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from finetune_trainer.data.column_request import IGNORED_LABEL, LABELS
from finetune_trainer.tasks import plain_text

CONTINUES = "word_continues"
"""1 where a token goes on with the word of the one before; only with `wholeWordMask`."""
PROBABILITY, HIDDEN, REPLACED = 0.15, 0.8, 0.1
"""Share of the tokens to guess; of those, shares that become the mask and another token. The rest stay as they are."""


@dataclass(frozen=True)
class MaskingCollator:
    """Collator that hides tokens of each row, then makes a batch; an object, because loader processes need to unpickle it."""

    padded: plain_text.PaddingCollator
    mask: int
    tokens: int
    """Number of token ids from which a replacement is drawn."""
    probability: float
    seed: int

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        from finetune_trainer.data.prepared_dataset import DRAW

        return self.padded([{**row, **self.hidden(row, row[DRAW])} for row in rows])

    def hidden(self, row: dict[str, Any], draw: tuple[int, int]) -> dict[str, npt.NDArray[np.int64]]:
        """Hide tokens of a row, and return its ids and labels. At least one is hidden, for a batch without any has no loss.

        With whole words each draw is for a word: all of its tokens are hidden, or none.
        """
        random = np.random.default_rng([self.seed, *draw])
        ids, labels = np.array(row["input_ids"], dtype=np.int64), np.array(row[LABELS], dtype=np.int64)
        maskable = labels != IGNORED_LABEL
        words = np.cumsum(1 - np.asarray(row.get(CONTINUES, np.zeros(len(ids))), dtype=np.int64)) - 1
        count = int(words[-1]) + 1
        chosen, fate = random.random(count) < self.probability, random.random(count)
        others = random.integers(self.tokens, size=len(ids))
        fallback = random.random()
        if maskable.any() and not (chosen[words] & maskable).any():
            candidates = np.unique(words[maskable])
            chosen[candidates[int(fallback * len(candidates))]] = True
        hidden = chosen[words] & maskable
        ids = np.where(hidden & (fate[words] < HIDDEN), self.mask, ids)
        replaced = hidden & (fate[words] >= HIDDEN) & (fate[words] < HIDDEN + REPLACED)
        return {
            "input_ids": np.where(replaced, others, ids),
            LABELS: np.where(hidden, labels, IGNORED_LABEL),
        }
