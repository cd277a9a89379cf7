"""Which rows a run uses: the splits that were asked for, and of each a shuffled sample where it is bounded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from finetune_trainer.config import DatasetSource, Reason, RunConfig
from finetune_trainer.prepare import files, hub
from finetune_trainer.prepare.errors import PrepareError, column_missing
from finetune_trainer.prepare.key import file_digest, seed
from finetune_trainer.prepare.source import Split

TRAIN, VALIDATION = "train", "validation"
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Found:
    """Where the data of a run is, before a row of it is read: resolved once, so that what is read is what was named."""

    identity: object
    """As JSON, everything that decides which rows there are: commit, digests, versions of remote files, settings."""
    commit: str | None = None
    """Of a Hub dataset."""


def find(config: RunConfig, client: hub.Hub) -> Found:
    """What identifies the data without parsing it, and the commit where it is the Hub's."""
    if config.dataset.name is not None:
        commit = client.dataset_commit(config.dataset)
        return Found(commit, commit)
    digests = {
        role: [file_digest(files.existing(path)) for path in paths]
        for role, paths in _chosen_files(config.dataset).items()
    }
    return Found(digests)


def read(
    config: RunConfig,
    client: hub.Hub,
    data: Found,
    columns: Sequence[str],
    text_columns: Sequence[str],
    scratch: Path,
) -> dict[str, Split]:
    """The splits by role, as they were read; `scratch` is a folder with room for them."""
    if data.commit is None:
        chosen = _chosen_files(config.dataset)
        return {role: files.read_files(paths, columns, text_columns, scratch) for role, paths in chosen.items()}
    there = client.dataset(config.dataset, data.commit)
    splits = {role: of_hub(there, role, config.dataset) for role in (TRAIN, VALIDATION)}
    found = {role: split for role, split in splits.items() if split is not None}
    for split in found.values():
        for column in columns:
            if column not in split.table.column_names:
                raise column_missing(column, split.table.column_names, split.name)
        if split.table.num_rows == 0:
            raise PrepareError(Reason.DATA_INVALID, f"The {split.name} has no rows.")
    return found


def _chosen_files(dataset: DatasetSource) -> dict[str, tuple[str, ...]]:
    wanted = {role: dataset.splits.get(role) or role for role in (TRAIN, VALIDATION)}
    chosen = {role: dataset.files[name] for role, name in wanted.items() if dataset.files.get(name)}
    if TRAIN not in chosen:
        raise PrepareError(Reason.DATASET_NOT_FOUND, "spec.dataset has no training data: set name or files.train.")
    return chosen


def of_hub(there: dict[str, Split], role: str, dataset: DatasetSource) -> Split | None:
    """The split of a Hub dataset for a role; None where there is none and none was asked for."""
    wanted = dataset.splits.get(role)
    if wanted is None:
        return (
            there[TRAIN] if role == TRAIN and TRAIN in there else there.get(VALIDATION) if role == VALIDATION else None
        )
    if wanted not in there:
        raise hub.split_missing(wanted, there, role)
    return there[wanted]


def sampled(split_rows: int, role: str, config: RunConfig) -> tuple[Indices | None, str | None]:
    """Rows to take, in order, or None for all; and what to tell the user."""
    limit = config.dataset.max_samples.get(role)
    if limit is None or limit == split_rows:
        return None, None
    if limit > split_rows:
        return None, f"maxSamples.{role} is {limit}, the data has {split_rows} rows: all of them are used."
    return np.random.RandomState(seed(config) % 2**32).permutation(split_rows)[:limit], None


def take(table: pa.Table, rows: Indices) -> pa.Table:
    """Rows in the order given. `Table.take` joins all text of a column first, which fails beyond 2 GiB."""
    ascending = np.sort(rows)
    parts, start = [], 0
    for batch in table.to_batches():
        low, high = np.searchsorted(ascending, (start, start + batch.num_rows))
        parts.append(batch.take(pa.array(ascending[low:high] - start)))
        start += batch.num_rows
    chosen = pa.Table.from_batches(parts, schema=table.schema)
    return chosen.take(pa.array(np.searchsorted(ascending, rows)))
