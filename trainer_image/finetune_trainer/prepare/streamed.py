"""Rows that are read over the network: shuffled through a buffer by the seed, as many as are wanted, nothing else kept.

A Hub dataset is read by `datasets`; files are read by `formats`, their rows mixed here in the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import DatasetSource
from finetune_trainer.data.column_request import ColumnRequest
from finetune_trainer.data.split import Source, Split
from finetune_trainer.prepare import formats
from finetune_trainer.prepare.content import Content
from finetune_trainer.prepare.formats import columns
from finetune_trainer.prepare.split_expression import parts_of
from finetune_trainer.prepare.spool import spooled
from finetune_trainer.shared.failures import ExpectedError

BUFFER_ROWS = 10_000
"""Rows among which the next one is drawn, at most; where few rows are taken, `BUFFER_OF_TAKEN` times as many as those."""
FEWEST_BUFFER_ROWS, BUFFER_OF_TAKEN = 1000, 4
BUFFER_BYTES = 256 << 20
BATCH_ROWS = 1000


@dataclass(frozen=True)
class Taking:
    """How many rows of a split are taken, and in which order."""

    rows: int | None
    """The number of rows; None for all of them, in their own order."""
    seed: int

    @property
    def buffer(self) -> int:
        """Rows to draw from: they wait in memory."""
        wanted = BUFFER_OF_TAKEN * (self.rows or 0)
        return min(BUFFER_ROWS, max(FEWEST_BUFFER_ROWS, wanted))

    @classmethod
    def of(cls, role: str, dataset: DatasetSource, seed: int) -> Taking:
        rows = dataset.max_samples.get(role)
        if role == "train" and rows is not None and dataset.validation_fraction is not None:
            rows = ceil(rows / (1 - dataset.validation_fraction))  # what is held out is not trained on
        return cls(rows, seed % 2**32)


def from_hub(
    streams: Any,
    expression: str,
    role: str,
    taking: Taking,
    asked: ColumnRequest,
    dataset: DatasetSource,
    scratch: Path,
) -> Split:
    """Take rows of a Hub dataset's streams by split (an IterableDatasetDict)."""
    import datasets

    name = f"split {expression!r} of {dataset.name}"
    parts = []
    for split, start, stop in parts_of(expression, role, list(streams)):
        rows = streams[split]
        rows = rows.skip(start) if start else rows
        parts.append(rows if stop is None else rows.take(stop - start))
    stream = parts[0] if len(parts) == 1 else datasets.concatenate_datasets(parts)
    messages: list[str] = []
    asked = replace(asked, tell=messages.append)
    known = stream.column_names
    if known is not None:
        needed = columns.without_absent(asked, known).columns
        stream = stream.select_columns(columns.require(needed, known, name))
    if taking.rows is not None:
        stream = stream.shuffle(seed=taking.seed, buffer_size=taking.buffer).take(taking.rows)
    features = stream.features or {}
    items = {column: getattr(feature, "feature", feature) for column, feature in features.items()}
    classes = {
        column: tuple(feature.names) for column, feature in items.items() if isinstance(feature, datasets.ClassLabel)
    }
    batches = stream.with_format("arrow").iter(BATCH_ROWS)
    read = _split(_picked(batches, asked, name), name, scratch, classes)
    return replace(read, messages=tuple(dict.fromkeys(messages)))


def _picked(tables: Iterator[pa.Table], asked: ColumnRequest, name: str) -> Iterator[pa.Table]:
    """Yield the needed columns, whose text is known to be UTF-8."""
    first = 0
    for table in tables:
        request = columns.without_absent(asked, table.column_names)
        picked = columns.picked(table, request.columns, name)
        columns.require_utf8(picked, name, first)
        yield columns.completed(columns.plain(picked), asked)
        first += table.num_rows


def from_files(
    files: Mapping[str, Sequence[Content]],
    expression: str,
    role: str,
    taking: Taking,
    asked: ColumnRequest,
    scratch: Path,
) -> Split:
    """Take rows of files, by split, that are read over the network."""
    parts = parts_of(expression, role, list(files))
    used = [content for split, _, _ in parts for content in files[split]]
    name = used[0].name if len(used) == 1 else f"{used[0].name} and {len(used) - 1} more files"
    messages: list[str] = []
    asked = replace(asked, tell=messages.append)
    tables: Iterator[pa.Table] = (
        table for split, start, stop in parts for table in _between(_rows(files[split], asked), start, stop)
    )
    if taking.rows is not None:
        tables = _between(_mixed(tables, taking.seed, taking.buffer), 0, taking.rows)
    split = _split(tables, name, scratch, {})
    return replace(
        split, untyped=any(content.kind in formats.UNTYPED for content in used), messages=tuple(dict.fromkeys(messages))
    )


def _split(tables: Iterator[pa.Table], name: str, scratch: Path, classes: dict[str, tuple[str, ...]]) -> Split:
    table = spooled(tables, scratch)
    if table is None or table.num_rows == 0:
        raise ExpectedError(
            Reason.DATA_INVALID, f"The {name} has no rows." if name.startswith("split") else f"{name} has no rows."
        )
    classes = classes or formats.declared_classes(table.schema)
    return Split(table, (Source(name, table.num_rows, _place),), classes)


def _place(row: int) -> str:
    return f"row {row} of those taken"


def _mixed(tables: Iterator[pa.Table], seed: int, buffer: int) -> Iterator[pa.Table]:
    """Yield the rows in another order: a full buffer gives as many at random as come in."""
    draws = np.random.RandomState(seed)
    held: pa.Table | None = None
    for table in tables:
        for start in range(0, table.num_rows, BATCH_ROWS):
            part = table.slice(start, BATCH_ROWS)
            held = part if held is None else pa.concat_tables([held, part], promote_options="permissive")
            surplus = held.num_rows - buffer
            if surplus <= 0 and held.nbytes > BUFFER_BYTES:  # long texts
                surplus = max(1, held.num_rows // 2)
            if surplus > 0:
                held = held.take(pa.array(draws.permutation(held.num_rows))).combine_chunks()
                yield held.slice(0, surplus)
                held = held.slice(surplus)
    if held is not None:
        yield held.take(pa.array(draws.permutation(held.num_rows)))


def _rows(contents: Sequence[Content], asked: ColumnRequest) -> Iterator[pa.Table]:
    for content in contents:
        yield from formats.read(content, asked)


def _between(tables: Iterator[pa.Table], start: int, stop: int | None) -> Iterator[pa.Table]:
    """Yield the rows from one number up to, not including, another; what comes after it is not read."""
    first = 0
    for table in tables:
        low, high = max(start - first, 0), table.num_rows if stop is None else min(stop - first, table.num_rows)
        if low < high:
            yield table.slice(low, high - low)
        first += table.num_rows
        if stop is not None and first >= stop:
            return
