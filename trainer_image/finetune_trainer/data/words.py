"""Lists of words, and every way in which they can be wrong."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.data_errors import others, shown
from finetune_trainer.data.labels import is_list
from finetune_trainer.data.split import Split
from finetune_trainer.data.texts import BLANK
from finetune_trainer.shared.failures import ExpectedError


def require_words(split: Split, column: str) -> int:
    """Require a list of words in each row; return how many of them are blank."""
    values = split.table.column(column)
    if not is_list(values.type):
        raise ExpectedError(
            Reason.DATA_INVALID,
            f"{split.place(0)}: column {column!r} holds {values.type} such as {shown(values[0].as_py())}, not lists of "
            f"words. {split.lists}; or name the right column in spec.dataset.columns.",
        )
    blank = 0
    for first, chunk in _chunks(values):
        _refuse(split, column, first, pc.is_null(chunk), "has no words")
        lengths = pc.list_value_length(chunk)
        _refuse(split, column, first, pc.equal(lengths, 0), "holds an empty list of words")
        words, rows = chunk.flatten(), pc.list_parent_indices(chunk)
        if not (pa.types.is_string(words.type) or pa.types.is_large_string(words.type)):
            raise ExpectedError(
                Reason.DATA_INVALID,
                f"{split.place(first)}: column {column!r} holds {values.type} such as {shown(values[0].as_py())}, not "
                "lists of words. Name the column with the words in spec.dataset.columns.",
            )
        if words.null_count:
            row = first + rows[pc.index(pc.is_null(words), True).as_py()].as_py()
            raise ExpectedError(
                Reason.DATA_INVALID,
                f"{split.place(row)}: a word in column {column!r} is null{others(words.null_count)}. Leave such rows out.",
            )
        empty = pc.match_substring_regex(words, BLANK)
        blank_words = pc.sum(empty).as_py() or 0
        if blank_words:
            all_blank = np.bincount(rows.filter(empty).to_numpy(), minlength=len(chunk)) == lengths.to_numpy()
            _refuse(split, column, first, pa.array(all_blank), "holds blank words alone")
        blank += blank_words
    return blank


def _chunks(values: pa.ChunkedArray) -> Iterator[tuple[int, pa.Array]]:
    """Yield parts of a column with the number of their first row: joined, its words could be too many for an offset."""
    starts = np.cumsum([0, *(len(chunk) for chunk in values.chunks)])
    for (start, _), chunk in zip(pairwise(starts.tolist()), values.chunks, strict=True):
        if len(chunk):
            yield start, chunk


def _refuse(split: Split, column: str, first: int, bad: pa.Array, problem: str) -> None:
    row = pc.index(bad, True).as_py()
    if row >= 0:
        count = pc.sum(bad).as_py()
        raise ExpectedError(
            Reason.DATA_INVALID,
            f"{split.place(first + row)}: column {column!r} {problem}{others(count)}. Leave such rows out.",
        )
