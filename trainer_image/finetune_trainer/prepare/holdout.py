"""A validation split where the data has none: rows of the training data, held out by the seed alone.

The same rows on every try and every machine. Classes keep their shares, and each keeps a row to be learnt from.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.split import Split
from finetune_trainer.prepare.spool import spooled
from finetune_trainer.shared.failures import ExpectedError

Indices = npt.NDArray[np.int64]
CLASS_TYPES = (
    pa.types.is_integer,
    pa.types.is_boolean,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_dictionary,
)
PART_ROWS = 10_000


def cut(split: Split, fraction: float, seed: int, label: str | None, scratch: Path) -> tuple[Split, Split]:
    """Cut rows into those to train on and those held out, each in the order of the data; `label` is a column of classes, if any."""
    held = held_out(split.table.num_rows, fraction, seed, _classes(split, label))
    rest = np.setdiff1d(np.arange(split.table.num_rows), held, assume_unique=True)
    if not len(held) or not len(rest):
        raise ExpectedError(
            Reason.DATA_INVALID,
            f"spec.dataset.validationFraction is {fraction:g}: of the {split.table.num_rows} training rows that leaves "
            f"{len(rest)} to train on and {len(held)} to evaluate on. Both need a row.",
        )
    return _picked(split, rest, scratch), _picked(split, held, scratch)


def held_out(rows: int, fraction: float, seed: int, classes: Indices | None) -> Indices:
    """Choose the rows that are held out, ascending."""
    order = np.random.RandomState(seed % 2**32).permutation(rows)
    wanted = max(1, int(rows * fraction + 0.5)) if rows > 1 else 0
    if classes is None:
        return np.sort(order[: min(wanted, rows - 1)])
    counts = np.bincount(classes)
    shares = counts * fraction
    quotas = np.minimum(shares.astype(np.int64), np.maximum(counts - 1, 0))
    # What rounding down has left over goes to the classes that lost most by it.
    by_loss = np.argsort(quotas - shares, kind="stable")
    with_room = by_loss[quotas[by_loss] < counts[by_loss] - 1]
    quotas[with_room[: max(0, wanted - int(quotas.sum()))]] += 1
    grouped = order[np.argsort(classes[order], kind="stable")]
    within = np.arange(rows) - np.repeat(np.cumsum(counts) - counts, counts)
    return np.sort(grouped[within < np.repeat(quotas, counts)])


def _classes(split: Split, label: str | None) -> Indices | None:
    """Return each row's class as a number; None where the column holds no classes."""
    if label is None or label not in split.table.column_names:
        return None
    column = split.table.column(label)
    if column.null_count or not any(is_class(column.type) for is_class in CLASS_TYPES):
        return None
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    return np.asarray(pc.index_in(column, value_set=pc.unique(column)).to_numpy(), dtype=np.int64)


def _picked(split: Split, rows: Indices, scratch: Path) -> Split:
    table = spooled(_parts(split.table, rows), scratch)
    assert table is not None
    return replace(split, table=table, picked=rows if split.picked is None else split.picked[rows])


def _parts(table: pa.Table, rows: Indices) -> Iterator[pa.Table]:
    start = 0
    for batch in table.to_batches(max_chunksize=PART_ROWS):
        low, high = np.searchsorted(rows, (start, start + batch.num_rows))
        if low < high:
            yield pa.Table.from_batches([batch.take(pa.array(rows[low:high] - start))])
        start += batch.num_rows
