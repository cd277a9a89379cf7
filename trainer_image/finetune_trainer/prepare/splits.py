"""Which rows a run uses: the splits that were asked for, and of each a shuffled sample where it is bounded.

`prepare` calls `find`, then `read`, then `sampled` for each split; these three hide where rows come from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import DatasetSource
from finetune_trainer.data.column_request import ColumnRequest
from finetune_trainer.data.split import Split
from finetune_trainer.prepare import file_sources, holdout, hub, split_expression, streamed
from finetune_trainer.prepare.file_sources import FileSource
from finetune_trainer.prepare.files import read_files
from finetune_trainer.prepare.formats import columns as named
from finetune_trainer.prepare.hub_errors import split_missing
from finetune_trainer.prepare.streamed import Taking
from finetune_trainer.shared.failures import ExpectedError

TRAIN, VALIDATION, TEST = ROLES = "train", "validation", "test"
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class DataSource:
    """The data of a run, before a row of it is read: resolved once, so that the rows read are those that were identified."""

    identity: dict[str, Any]
    """The identity of the data, as JSON: commit, or digests and versions of files."""
    commit: str | None = None
    """The commit of the one Hub dataset that is read, as a whole or some of its files."""
    files: dict[str, tuple[FileSource, ...]] = field(default_factory=dict)
    """Split of `spec.dataset.files` -> its files, patterns resolved; those that are used."""


def find(dataset: DatasetSource, client: hub.HubReader, hub_cache: Path) -> DataSource:
    """Find the data without parsing it: what identifies it, and its commit where it is the Hub's."""
    if dataset.validation_fraction is not None and (dataset.splits.get(VALIDATION) or dataset.files.get(VALIDATION)):
        raise ExpectedError(
            Reason.DATASET_NOT_FOUND,
            "spec.dataset.validationFraction cuts off a validation split, and one is named as well: leave one of them out.",
        )
    if dataset.name is not None:
        commit = client.dataset_commit(dataset)
        return DataSource({"commit": commit}, commit)
    used = _used_files(dataset)
    files = {
        name: tuple(file_sources.find(dataset.files[name], client, hub_cache, streaming=dataset.streaming))
        for name in used
    }
    identities = {name: [source.identity for source in sources] for name, sources in files.items()}
    commits = {source.commit for sources in files.values() for source in sources}
    return DataSource({"files": identities}, commits.pop() if len(commits) == 1 else None, files)


def read(
    dataset: DatasetSource,
    client: hub.HubReader,
    data: DataSource,
    asked: ColumnRequest,
    scratch: Path,
    *,
    seed: int,
    class_column: str | None = None,
) -> dict[str, Split]:
    """Read the splits by role: `train`, and `validation` and `test` where the data has them.

    A validation split that is to be cut off the training data is cut off here, with each class of `class_column` in both
    parts. Tables hold the columns of `asked` under the names given there, also where a name is a path into objects
    (`translation.en`). `scratch` is a folder with room for the tables, which may be removed as soon as this returns.
    """
    if dataset.streaming:
        splits = _streamed(dataset, seed, client, data, asked, scratch)
    else:
        available, read_one = _of_files(data, asked, scratch) if data.files else _of_hub(dataset, client, data, asked)
        by_role = {role: chosen(role, dataset, available, read_one) for role in ROLES}
        splits = {role: split for role, split in by_role.items() if split is not None}
    fraction = dataset.validation_fraction
    if fraction is not None:
        splits[TRAIN], splits[VALIDATION] = holdout.cut(splits[TRAIN], fraction, seed, class_column, scratch)
    return {role: splits[role] for role in ROLES if role in splits}


def chosen(
    role: str, dataset: DatasetSource, available: Sequence[str], read_one: Callable[[str], Split]
) -> Split | None:
    """Read the split for a role; None where there is none and none was asked for."""
    expression = _expression(role, dataset, available)
    return None if expression is None else split_expression.chosen(expression, role, available, read_one)


def _expression(role: str, dataset: DatasetSource, available: Sequence[str]) -> str | None:
    """Return what is read for a role. A test split of the Hub is read if it is named: many have no labels."""
    expression = dataset.splits.get(role)
    if expression is not None or role == TRAIN:
        return expression or TRAIN
    cut_off = role == VALIDATION and dataset.validation_fraction is not None
    unasked = role == TEST and dataset.name is not None
    return None if cut_off or unasked or role not in available else role


def _of_hub(
    dataset: DatasetSource, client: hub.HubReader, data: DataSource, asked: ColumnRequest
) -> tuple[Sequence[str], Callable[[str], Split]]:
    splits = client.dataset(dataset, str(data.commit))

    def read_one(name: str) -> Split:
        split = splits[name]
        if split.table.num_rows == 0:
            raise ExpectedError(Reason.DATA_INVALID, f"The {split.name} has no rows.")
        messages: list[str] = []
        present = named.without_absent(replace(asked, tell=messages.append), split.table.column_names)
        table = named.picked(split.table, present.columns, split.name)
        named.require_utf8(table, split.name, 0)
        return Split(named.completed(table, asked), split.sources, split.class_names, messages=tuple(messages))

    return list(splits), read_one


def _of_files(data: DataSource, asked: ColumnRequest, scratch: Path) -> tuple[Sequence[str], Callable[[str], Split]]:
    known: dict[str, Split] = {}

    def read_one(name: str) -> Split:
        if name not in known:
            known[name] = read_files([source.content() for source in data.files[name]], asked, scratch)
        return known[name]

    return list(data.files), read_one


def _streamed(
    dataset: DatasetSource, seed: int, client: hub.HubReader, data: DataSource, asked: ColumnRequest, scratch: Path
) -> dict[str, Split]:
    def wanted(available: Sequence[str]) -> Iterator[tuple[str, str, Taking]]:
        for role in ROLES:
            if (expression := _expression(role, dataset, available)) is not None:
                yield role, expression, Taking.of(role, dataset, seed)

    if data.files:
        files = {name: [source.content() for source in sources] for name, sources in data.files.items()}
        return {
            role: streamed.from_files(files, expression, role, taking, asked, scratch)
            for role, expression, taking in wanted(list(files))
        }
    return client.streamed(
        dataset,
        str(data.commit),
        lambda streams: {
            role: streamed.from_hub(streams, expression, role, taking, asked, dataset, scratch)
            for role, expression, taking in wanted(list(streams))
        },
    )


def _used_files(dataset: DatasetSource) -> list[str]:
    """List the splits of `files` that some role reads."""
    used: list[str] = []
    for role in ROLES:
        expression = dataset.splits.get(role)
        if expression is None:
            skipped = role == VALIDATION and dataset.validation_fraction is not None
            used += [role] if dataset.files.get(role) and not skipped else []
        else:
            wanted = [expression] if expression in dataset.files else split_expression.names_in(expression)
            for name in wanted:
                if not dataset.files.get(name):
                    raise split_missing(name, [name for name in dataset.files if dataset.files[name]], role)
            used += wanted
    if not dataset.files.get(TRAIN) and TRAIN not in dataset.splits:
        raise ExpectedError(Reason.DATASET_NOT_FOUND, "spec.dataset has no training data: set name or files.train.")
    return list(dict.fromkeys(used))


def sampled(split_rows: int, role: str, limit: int | None, seed: int) -> tuple[Indices | None, str | None]:
    """Draw the rows to take, in order, and return them (None for all) with a message for the user, if any."""
    if limit is None or limit == split_rows:
        return None, None
    if limit > split_rows:
        return None, f"maxSamples.{role} is {limit}, the data has {split_rows} rows: all of them are used."
    return np.random.RandomState(seed % 2**32).permutation(split_rows)[:limit], None


def take(table: pa.Table, rows: Indices) -> pa.Table:
    """Take rows in the order given. `Table.take` joins all text of a column first, which fails beyond 2 GiB."""
    ascending = np.sort(rows)
    parts, start = [], 0
    for batch in table.to_batches():
        low, high = np.searchsorted(ascending, (start, start + batch.num_rows))
        parts.append(batch.take(pa.array(ascending[low:high] - start)))
        start += batch.num_rows
    chosen = pa.Table.from_batches(parts, schema=table.schema)
    return chosen.take(pa.array(np.searchsorted(ascending, rows)))
