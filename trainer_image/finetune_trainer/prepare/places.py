"""Where the files of a split lie: on a mounted volume, or at an address; and what identifies each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from finetune_trainer.config import RunConfig
from finetune_trainer.prepare import local_files
from finetune_trainer.prepare.content import Content
from finetune_trainer.prepare.hub import Hub
from finetune_trainer.prepare.key import file_digest


@dataclass(frozen=True)
class Place:
    """A file that was found, and not been read yet."""

    identity: object
    """As JSON: another value means other content."""
    content: Callable[[], Content]
    """The file; one from far away is fetched first."""


def found(paths: Sequence[str], config: RunConfig, client: Hub) -> Iterator[Place]:
    """The files that paths, patterns and addresses mean, in the order given."""
    for path in paths:
        yield from (_local(content) for content in local_files.found(path))


def _local(content: Content) -> Place:
    assert content.path is not None
    identity = {"digest": file_digest(content.path), "kind": content.kind, "compression": content.compression}
    return Place(identity, lambda: content)
