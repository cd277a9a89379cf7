"""Rows of a Hub dataset, read by the `datasets` library at one commit, with the library's errors in the user's words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.split import Source, Split, row_place
from finetune_trainer.prepare.hub_errors import Wanted, chain, config_missing, is_busy, unavailable
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.volume import DISK_FULL

if TYPE_CHECKING:
    from datasets import DatasetBuilder

T = TypeVar("T")


def load(wanted: Wanted, config: str | None, commit: str, token: str | None) -> dict[str, Split]:
    """Load all splits of a dataset, by their names on the Hub. Errors of the Hub are raised as they are."""
    builder = _builder(wanted, config, commit, token)
    try:
        builder.download_and_prepare()
        loaded: Any = builder.as_dataset()
    except Exception as error:
        raise _unreadable(error, wanted) from error
    return {split: _split(rows, f"split {split!r} of {wanted.name}") for split, rows in loaded.items()}


def cached(wanted: Wanted, config: str | None, commit: str, token: str | None) -> Path:
    """Load a dataset into the library's cache, in which it finds it offline; returns the folder."""
    builder = _builder(wanted, config, commit, token)
    try:
        builder.download_and_prepare()
    except Exception as error:
        raise _unreadable(error, wanted) from error
    return Path(builder.cache_dir)


def stream(wanted: Wanted, config: str | None, commit: str, token: str | None, take: Callable[[Any], T]) -> T:
    """Return what `take` makes of the splits of a dataset, which are read over the network."""
    builder = _builder(wanted, config, commit, token)
    try:
        return take(builder.as_streaming_dataset())
    except ExpectedError:
        raise
    except Exception as error:
        raise _unreadable(error, wanted) from error


def _builder(wanted: Wanted, config: str | None, commit: str, token: str | None) -> DatasetBuilder:
    import datasets
    from datasets.packaged_modules.cache.cache import Cache

    # Not the bare name: a folder of that name in the working directory, or a format (`csv`), would be taken for it.
    address = f"hf://datasets/{wanted.name}"
    try:
        builder = datasets.load_dataset_builder(address, config, revision=commit, token=token or False)
    except ValueError as error:
        configs = datasets.get_dataset_config_names(address, revision=commit, token=token or False)
        if config in configs:
            raise _unreadable(error, wanted) from error
        raise config_missing(wanted, config, configs) from error
    except Exception as error:
        raise _unreadable(error, wanted) from error
    if isinstance(builder, Cache):
        # Where a request fails the library takes whatever commit it finds in its cache.
        raise unavailable(wanted, f"a request for commit {commit} failed")
    return builder


def _unreadable(error: Exception, wanted: Wanted) -> Exception:
    """Return the error to raise: one of the Hub or the volume as it is, for others one that says what is wrong with the data."""
    full = next((link for link in chain(error) if isinstance(link, OSError) and link.errno in DISK_FULL), None)
    if full is not None:
        return full
    if is_busy(error) or any(getattr(link, "response", None) is not None for link in chain(error)):
        return error
    reason = " ".join(str(error.__cause__ or error).split())
    if reason.startswith("Not enough disk space"):
        return ExpectedError(
            Reason.VOLUME_FULL, f"The {wanted} does not fit on the volume: {reason}. Enlarge spec.storage.size."
        )
    return ExpectedError(Reason.DATA_INVALID, f"The {wanted} cannot be read: {reason}")


def _split(rows: Any, name: str) -> Split:
    """Make a split of a `datasets.Dataset`: its table, and its class names beside it."""
    import datasets

    table = rows.data.table if rows._indices is None else rows.flatten_indices().data.table
    # A list of classes (tags of words, several labels) has its names one level down.
    items = {column: getattr(feature, "feature", feature) for column, feature in rows.features.items()}
    classes = {
        column: tuple(feature.names) for column, feature in items.items() if isinstance(feature, datasets.ClassLabel)
    }
    return Split(table, (Source(name, table.num_rows, row_place),), classes)
