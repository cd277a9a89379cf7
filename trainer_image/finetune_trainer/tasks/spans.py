"""Text of an answer by the scores of tokens: the best span of all windows of a context, or no answer.

The scores are those that an evaluation gathered, one entry for each window. Knows neither model nor tokenizer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from finetune_trainer.tasks.squad import NO_ANSWER

if TYPE_CHECKING:
    from finetune_trainer.data.prepared_dataset import PreparedDataset

EXAMPLE, FIRST, OFFSETS = "_example", "_first", "_offsets"
"""Columns of a prepared window: the row of its question among the examples, the first token of the context, and begin and
end of each token of the context, in characters."""
SOME_UNANSWERABLE, LONGEST = "some_unanswerable", "longest"
"""Columns of the examples, facts of the training data that are the same in each row: whether it has questions without an
answer, and how many characters its longest answer has."""
ANSWER_TOKENS = 30
"""Tokens of an answer at most, unless the training data has longer ones."""


class Scored(NamedTuple):
    """Part of the logits of each window that is kept."""

    starts: npt.NDArray[np.int64]
    """The most likely first tokens, and their logits."""
    start_scores: npt.NDArray[np.float32]
    ends: npt.NDArray[np.int64]
    """The most likely last tokens, and their logits."""
    end_scores: npt.NDArray[np.float32]
    no_answer: npt.NDArray[np.float32]
    """Score of the first token of all, which stands for no answer."""
    losses: npt.NDArray[np.float32]


@dataclass
class _Candidate:
    """The best answer to a question so far."""

    score: float = -np.inf
    span: tuple[int, int] = (0, 0)
    no_answer: float = np.inf


def answers(scored: Scored, rows: PreparedDataset, examples: pa.Table) -> list[str]:
    """Return the answer to each question, in the order of the examples."""
    longest = max(examples.column(LONGEST)[0].as_py(), 1)
    candidates = [_Candidate() for _ in range(len(examples))]
    for index in range(len(rows)):
        best = candidates[rows.own(index, EXAMPLE)]
        best.no_answer = min(best.no_answer, float(scored.no_answer[index]))
        offsets = np.asarray(rows.own(index, OFFSETS), np.int64).reshape(-1, 2)
        score, span = _best(scored, index, offsets, rows.own(index, FIRST), longest)
        if score > best.score:
            best.score, best.span = score, span
    may_be_none = examples.column(SOME_UNANSWERABLE)[0].as_py()
    return [
        NO_ANSWER if may_be_none and best.no_answer > best.score else context[slice(*best.span)].strip()
        for best, context in zip(candidates, _texts(examples), strict=True)
    ]


def _texts(examples: pa.Table) -> Iterator[str]:
    for batch in examples.select(["context"]).to_batches(max_chunksize=1000):
        yield from batch.column(0).to_pylist()


def _best(scored: Scored, index: int, offsets: Any, first: int, longest: int) -> tuple[float, tuple[int, int]]:
    """Return the best span of one window, of tokens of the context alone, in characters."""
    starts, ends = scored.starts[index] - first, scored.ends[index] - first
    begin, end = (_within(tokens, len(offsets)) for tokens in (starts, ends))
    starts, ends = starts[begin, None], ends[None, end]
    if not starts.size or not ends.size:
        return -np.inf, (0, 0)
    scores = scored.start_scores[index][begin, None] + scored.end_scores[index][None, end]
    short = (ends - starts < ANSWER_TOKENS) | (offsets[ends, 1] - offsets[starts, 0] <= longest)
    scores = np.where((ends >= starts) & short, scores, -np.inf)
    row, column = divmod(int(scores.argmax()), scores.shape[1])
    span = int(offsets[starts[row, 0], 0]), int(offsets[ends[0, column], 1])
    return float(scores[row, column]), span


def _within(tokens: npt.NDArray[np.int64], count: int) -> npt.NDArray[np.bool_]:
    within: npt.NDArray[np.bool_] = (tokens >= 0) & (tokens < count)
    return within
