"""What was prepared, counted while it is written: for the log, the status and the report.

Knows nothing of tasks: labels are what column `labels` holds, and callers hand in their names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from finetune_trainer.contract.prepared import PrepareSummary, SplitReport, TokenLengths
from finetune_trainer.data.column_request import IGNORED_LABEL, LABELS, LENGTH

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p95": 0.95, "p99": 0.99, "max": 1.0}
EXAMPLE_CHARACTERS = 600
"""The length of a decoded row; a longer one is cut in the middle."""
LABELS_SHOWN = 12
Counts = npt.NDArray[np.int64]


class Tally:
    """The sequences of one split, counted batch by batch."""

    def __init__(self, label_names: Sequence[str]) -> None:
        self._names = label_names
        self._lengths: Counts = np.zeros(0, dtype=np.int64)
        self.label_counts: Counts | None = None
        """Rows (or tokens) of each label; None where labels are not classes."""
        self.single_label = False
        self.sequences = 0
        self.truncated = self.truncated_targets = 0
        self.dropped: Counter[str] = Counter()
        self.first: dict[str, Any] | None = None
        """The first sequence."""

    def add(self, batch: pa.RecordBatch) -> None:
        """Count more sequences."""
        if not batch.num_rows:
            return
        if self.first is None:
            self.first = batch.slice(0, 1).to_pylist()[0]
        self.sequences += batch.num_rows
        self._lengths = _sum(self._lengths, np.bincount(batch.column(LENGTH).to_numpy()))
        counts = _label_counts(batch.column(LABELS), len(self._names))
        if counts is not None:
            self.single_label = pa.types.is_integer(batch.column(LABELS).type)
            self.label_counts = counts if self.label_counts is None else self.label_counts + counts

    def lengths(self) -> dict[str, int]:
        """Return the token counts by percentile."""
        reached = np.cumsum(self._lengths)
        wanted = {name: max(1.0, share * self.sequences) for name, share in PERCENTILES.items()}
        return {name: int(np.searchsorted(reached, count)) for name, count in wanted.items()}

    def report(self, taken: int, dropped: Mapping[str, int], example: str | None) -> SplitReport:
        """Report the counts; `dropped` are rows that were left out before the others were taken."""
        counts = [] if self.label_counts is None else self.label_counts.tolist()
        rows = taken - self.dropped.total()
        return SplitReport(
            rows=rows,
            sequences=self.sequences if self.sequences != rows else None,
            dropped=dict(self.dropped + Counter(dropped)),
            truncated=self.truncated,
            truncated_targets=self.truncated_targets,
            lengths=self.lengths(),
            labels=dict(zip(self._names, counts, strict=True)) if counts else {},
            example=example,
        )


def _sum(left: Counts, right: Counts) -> Counts:
    longer = np.zeros(max(len(left), len(right)), dtype=np.int64)
    longer[: len(left)] += left
    longer[: len(right)] += right
    return longer


def _label_counts(labels: pa.Array, names: int) -> Counts | None:
    """Count how often each class occurs; None where labels are not classes (numbers, tokens)."""
    if not names:
        return None
    nested = pa.types.is_list(labels.type) or pa.types.is_large_list(labels.type)
    kind = labels.type.value_type if nested else labels.type
    if nested and pa.types.is_floating(kind):  # one number for each class: there or not
        values = labels.flatten().to_numpy(zero_copy_only=False).reshape(-1, names)
        counts: Counts = (values > 0).sum(axis=0).astype(np.int64)
        return counts
    if not pa.types.is_integer(kind):
        return None
    values = (labels.flatten() if nested else labels).to_numpy(zero_copy_only=False)
    return np.bincount(values[values != IGNORED_LABEL], minlength=names)


def short(splits: Mapping[str, SplitReport], label_names: Sequence[str], *, single_label: bool) -> PrepareSummary:
    """Shorten the reports to what a status has room for."""
    train = splits["train"]
    judged = splits.get("validation", train)
    counts = judged.labels.values() if single_label else ()
    return PrepareSummary(
        train_rows=train.rows,
        validation_rows=splits["validation"].rows if "validation" in splits else None,
        test_rows=splits["test"].rows if "test" in splits else None,
        dropped_rows=sum(count for split in splits.values() for count in split.dropped.values()),
        truncated_share=round(train.truncated / train.rows, 6),
        token_lengths=TokenLengths(median=train.lengths["p50"], p95=train.lengths["p95"], longest=train.lengths["max"]),
        labels=tuple(label_names),
        majority_share=max(counts) / sum(counts) if counts and sum(counts) else None,
    )


def decoded(
    first: Mapping[str, Any] | None,
    tokenizer: Any,
    label_names: Sequence[str],
    tokens_of: Callable[[Mapping[str, Any]], list[int]],
) -> str | None:
    """Decode the first sequence to text, and what is learnt from it where that is text or the name of a class."""
    if first is None or not first.get("input_ids"):
        return None
    read, labels = list(first["input_ids"]), first.get(LABELS)
    text = _cut(tokenizer.decode(read), EXAMPLE_CHARACTERS)
    if label_names and isinstance(labels, int) and 0 <= labels < len(label_names):
        return f"{text} -> {label_names[labels]}"
    if label_names or not isinstance(labels, list) or not labels or not isinstance(labels[0], int):
        return text
    learnt = tokens_of(first)
    if not learnt or learnt in (read, read[1:]):
        return text
    return f"{text} -> {_cut(tokenizer.decode(learnt), EXAMPLE_CHARACTERS)}"


def _cut(text: str, limit: int) -> str:
    """Cut the middle out of a long text."""
    return text if len(text) <= limit else f"{text[: limit * 2 // 3]} [...] {text[-limit // 3 :]}"


def lines(splits: Mapping[str, SplitReport]) -> list[str]:
    """Write the summary as a person reads it in a log: a line for each split, then labels and an example."""
    roles = [role for role in ("train", "validation", "test") if role in splits]
    if not roles:
        return []
    headings = ("split", "rows", "sequences", "dropped", "cut", *PERCENTILES)
    cells = [headings, *(_cells(role, splits[role]) for role in roles)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(headings))]
    table = [
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in
                  enumerate(zip(row, widths, strict=True)))
        for row in cells
    ]  # fmt: skip
    return [*table, *(line for role in roles for line in _split_lines(role, splits[role]))]


def _cells(role: str, split: SplitReport) -> tuple[str, ...]:
    sequences = split.rows if split.sequences is None else split.sequences
    return (
        role,
        f"{split.rows:,}",
        f"{sequences:,}",
        f"{sum(split.dropped.values()):,}",
        f"{split.truncated / split.rows:.1%}",
        *(f"{split.lengths[name]:,}" for name in PERCENTILES),
    )


def _split_lines(role: str, split: SplitReport) -> list[str]:
    text = [f"{role}: {count:,} rows dropped: {why}" for why, count in split.dropped.items()]
    if split.labels:
        total = max(1, sum(split.labels.values()))
        named = [f"{name} {count:,} ({count / total:.0%})" for name, count in split.labels.items()]
        more = f" and {len(named) - LABELS_SHOWN} more" if len(named) > LABELS_SHOWN else ""
        text.append(f"{role} labels: {', '.join(named[:LABELS_SHOWN])}{more}")
    if split.example is not None and role == "train":
        text.append(f"first {role} row: {split.example}")
    return text
