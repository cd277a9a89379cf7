"""Where the files of a split lie: on a mounted volume, or at an address; and what identifies each of them.

Looking a file up reads no row of it. A file from far away is fetched into the claim's cache when it is read, or, where
`spec.dataset.streaming` says so, read from where it is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from finetune_trainer.contract.records import Reason
from finetune_trainer.prepare import local_files, remote, s3, web
from finetune_trainer.prepare.content import Content, local
from finetune_trainer.prepare.fingerprint import file_digest
from finetune_trainer.prepare.formats import unknown_kind
from finetune_trainer.prepare.hub import HubFile, HubReader
from finetune_trainer.prepare.remote import Remote
from finetune_trainer.shared.addresses import shown
from finetune_trainer.shared.failures import ExpectedError

HUB = "hf://"
DATASETS = "hf://datasets/"
WEB = ("https://", "http://")
DOWNLOADS = "downloads"
"""The name of the folder, beside the Hub's cache on the claim, for files that were fetched from other servers."""


@dataclass(frozen=True)
class FileSource:
    """A file that was found, and not been read yet."""

    name: str
    """The name in messages: the pods' path, or the address without what is secret in it."""
    identity: object
    """The identity of its content, as JSON: another value means other content."""
    content: Callable[[], Content]
    """The function that opens the file; one from far away is fetched first."""
    commit: str | None = None
    """The commit of the dataset on the Hub that it belongs to."""


def is_address(path: str) -> bool:
    """Return whether a file lies on no volume."""
    return path.startswith((s3.SCHEME, HUB, *WEB))


def find(
    paths: Sequence[str], client: HubReader, hub_cache: Path, *, streaming: bool, any_kind: bool = False
) -> Iterator[FileSource]:
    """Find the files that paths, patterns and addresses mean, in the order given.

    At an address may be `any_kind` of file where a user's own program reads it.
    """
    cache = downloads(hub_cache)
    check = _any if any_kind else _require_known_kind
    for path in paths:
        if path.startswith(s3.SCHEME):
            yield from (_remote(file, cache, check, streaming=streaming) for file in s3.find(path))
        elif path.startswith(HUB):
            yield from _of_hub(path, client, hub_cache, check, streaming=streaming)
        elif path.startswith(WEB):
            check(shown(path))
            yield _remote(web.find(path), cache, check, streaming=streaming)
        elif streaming:
            raise ExpectedError(
                Reason.DATA_INVALID,
                f"{path} lies on a mounted volume: there is nothing to stream. Leave spec.dataset.streaming out.",
            )
        else:
            yield from (_local(content) for content in local_files.find(path))


def _local(content: Content) -> FileSource:
    assert content.path is not None
    digest = file_digest(content.path)
    identity = {"digest": digest, "kind": content.kind, "compression": content.compression}
    return FileSource(content.name, identity, lambda: content)


def _remote(file: Remote, cache: Path, check: Callable[[str], None], *, streaming: bool) -> FileSource:
    check(file.name)
    if file.size == 0:
        raise ExpectedError(Reason.DATA_INVALID, f"{file.name} is empty.")
    if streaming:
        content = remote.far(file)
        return FileSource(file.name, [file.name, file.version, file.size], lambda: content)
    if file.version is None:  # nothing but the content itself tells whether it has changed
        return _local(remote.fetched(file, cache))
    return FileSource(file.name, [file.name, file.version, file.size], lambda: remote.fetched(file, cache))


def _of_hub(
    address: str, client: HubReader, cache: Path, check: Callable[[str], None], *, streaming: bool
) -> Iterator[FileSource]:
    if not address.startswith(DATASETS):
        raise ExpectedError(
            Reason.DATASET_NOT_FOUND, f"{address}: of the Hub data is read from datasets: {DATASETS}owner/name/path."
        )
    for file in client.dataset_files(address.removeprefix(DATASETS)):
        check(file.name)
        fetch = _read_from_hub if streaming else _fetched_from_hub
        yield FileSource(file.name, [file.name, file.commit], partial(fetch, file, client, cache), file.commit)


def _fetched_from_hub(file: HubFile, client: HubReader, cache: Path) -> Content:
    return local(client.dataset_file(file, cache), file.name)


def _read_from_hub(file: HubFile, client: HubReader, cache: Path) -> Content:
    address, headers = client.direct(file)
    return remote.far(web.find(address, headers, file.name))


def downloads(hub_cache: Path) -> Path:
    """Return the claim's folder of files that were fetched: shared by its jobs, safe to empty between runs."""
    return hub_cache.parent / DOWNLOADS


def _any(_: str) -> None:
    """Take a file whatever its name says."""


def _require_known_kind(name: str) -> None:
    if problem := unknown_kind(name):
        raise ExpectedError(Reason.DATA_INVALID, f"{name}: {problem}.")
