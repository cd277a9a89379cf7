"""Answers of a dataset: text and the character of the context at which it begins, and every way in which they can be wrong.

No torch in here: `prepare` reads with it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.data_errors import others, shown
from finetune_trainer.data.split import Split
from finetune_trainer.shared.failures import ExpectedError

TEXT, START = "text", "answer_start"
SHAPE = '{"text": ["the answer"], "answer_start": [17]}'
NONE = '{"text": [], "answer_start": []}'
TYPE = pa.struct([(TEXT, pa.list_(pa.string())), (START, pa.list_(pa.int64()))])
BATCH_ROWS = 1000


@dataclass
class Read:
    """Answers of a split, each with the character at which it really begins."""

    answers: pa.ChunkedArray
    """`TYPE`; empty lists where a question has no answer."""
    unanswerable: int
    """Questions without an answer."""
    longest: int
    """Characters of the longest answer."""
    moved: list[int] = field(default_factory=list)
    """Rows in which an answer stands elsewhere in the context than the data says."""


def read(split: Split, answers: str, context: str) -> Read:
    """Read the answers of a split, and compare them with their contexts. Raise ExpectedError for one that is not in its context."""
    require_shape(split, answers)
    parts, unanswerable, longest, moved = [], 0, 0, []
    columns = pa.table([split.table.column(answers), split.table.column(context)], names=["answers", "context"])
    row = 0
    for batch in columns.to_batches(max_chunksize=BATCH_ROWS):
        of_batch = []
        for value, text in zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True):
            answer_row = _AnswerRow(split, row, answers)
            stated = list(answer_row.pairs(value))
            placed = [(answer, answer_row.where(answer, start, text)) for answer, start in stated]
            if placed != stated:
                moved.append(row)
            unanswerable += not placed
            longest = max(longest, *(len(answer) for answer, _ in placed), 0)
            of_batch.append({TEXT: [answer for answer, _ in placed], START: [start for _, start in placed]})
            row += 1
        parts.append(pa.array(of_batch, TYPE))
    return Read(pa.chunked_array(parts, TYPE), unanswerable, longest, moved)


def require_shape(split: Split, column: str) -> None:
    """Raise where the column does not hold answers with their places, in one of the two shapes."""
    type_ = split.table.column(column).type
    inner = type_.value_type if pa.types.is_list(type_) or pa.types.is_large_list(type_) else type_
    keys = {inner.field(index).name for index in range(inner.num_fields)} if pa.types.is_struct(inner) else set()
    if {TEXT, START} <= keys or pa.types.is_null(inner):
        return
    value = next((item for item in split.table.column(column).slice(0, 100).to_pylist() if item is not None), None)
    missing = f"has no {TEXT if TEXT not in keys else START!r}" if keys else f"holds {shown(value)}"
    raise ExpectedError(
        Reason.DATA_INVALID,
        f"{split.place(0)}: column {column!r} {missing}; question-answering takes answers with the character of the "
        f"context at which each begins, as {SHAPE}. A csv file cannot hold that: use jsonl, json or parquet.",
    )


def moved_message(split: Split, role: str, rows: list[int]) -> str:
    """Tell the user of answers that stand elsewhere than the data says."""
    count = f"{len(rows)} row{'s' if len(rows) > 1 else ''}"
    return (
        f"{count} of the {role} data: an answer is not at its answer_start but once elsewhere in the context, which is "
        f"used (the first is {split.place(rows[0])})."
    )


@dataclass(frozen=True)
class _AnswerRow:
    """Row of the answers, with what messages need to name it."""

    split: Split
    row: int
    column: str

    def pairs(self, value: Any) -> Iterator[tuple[str, int]]:
        """Yield the answers of a row, each with the character where the data says that it begins."""
        if value is None:
            raise self._error(f"no answers in column {self.column!r}. A question without an answer has {NONE}.")
        if isinstance(value, list):
            texts, starts = [item[TEXT] for item in value], [item[START] for item in value]
        else:
            texts, starts = (_listed(value[name]) for name in (TEXT, START))
        if len(texts) != len(starts):
            raise self._error(
                f"column {self.column!r} has {len(texts)} texts and {len(starts)} of {START!r}: give each text its "
                "place."
            )
        for text, start in zip(texts, starts, strict=True):
            if not isinstance(text, str) or not text.strip():
                raise self._error(
                    f"an answer in column {self.column!r} is {shown(text)}. A question without an answer has {NONE}."
                )
            if (
                type(start) not in (int, float) or not float(start).is_integer()
            ):  # tables with gaps turn integers into fractions
                raise self._error(f"{START!r} in column {self.column!r} is {shown(start)}, no whole number.")
            yield text, int(start)

    def where(self, answer: str, start: int, context: str) -> int:
        """Find where an answer begins: where the data says, else at the only place where it occurs."""
        if start >= 0 and context.startswith(answer, start):
            return start
        first = context.find(answer)
        if first >= 0 and context.find(answer, first + 1) < 0:
            return first
        at_start = context[start : start + len(answer)] if start >= 0 else ""
        stands = f"where {shown(at_start)} stands" if at_start else f"beyond its {len(context)} characters"
        occurs = "it does not occur in the context" if first < 0 else "it occurs in the context more than once"
        raise self._error(
            f"the answer {shown(answer)} in column {self.column!r} is not at character {start} of the context, "
            f"{stands}, and {occurs}. Mend {START!r} or leave the row out."
        )

    def _error(self, message: str) -> ExpectedError:
        return ExpectedError(Reason.DATA_INVALID, f"{self.split.place(self.row)}: {message}")


def _listed(value: Any) -> list[Any]:
    """Put a single answer into a list: a file with one answer a question may hold it without."""
    return list(value) if isinstance(value, list) else [] if value is None else [value]


def none_answered(split: Split, column: str) -> ExpectedError:
    """Return the error for training data in which no question has an answer."""
    rows = split.table.num_rows
    return ExpectedError(
        Reason.DATA_INVALID,
        f"{split.place(0)}: no question of the training data has an answer in column {column!r}{others(rows)}. Answers "
        f"look like {SHAPE}; splits of which they are kept secret have none: choose another split.",
    )
