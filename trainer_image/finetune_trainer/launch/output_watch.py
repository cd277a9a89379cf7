"""Watches OUTPUT_DIR of a user's own program, and has each checkpoint that is finished sealed. Runs on node 0.

A program says nothing when a checkpoint is finished. It is taken for finished when its writer's last file is there (of a
writer that is known) and nothing in it has changed for a while, never for its name alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

import structlog

from finetune_trainer.launch.output_folder import Completeness, Look, Written, completeness, look, written
from finetune_trainer.shared.volume import Run

LOOK_SECONDS = 1.0

log = structlog.get_logger()

Seal = Callable[[Written, Look], Awaitable[bool]]
"""Seals a copy of a folder; false where it changed meanwhile, so that it must be looked at again."""


class OutputWatch:
    """The checkpoints of one attempt's program."""

    def __init__(self, run: Run, world_size: int, seal: Seal) -> None:
        self._run = run
        self._world_size = world_size
        self._seal = seal
        self._seen: dict[Path, tuple[Look, float]] = {}
        """Folder -> its files, and since when they are so."""
        self._over: dict[Path, Look] = {}
        """Folder -> its files when it was sealed, or given up, or when the attempt began."""
        self._looking = asyncio.Lock()

    async def begin(self) -> None:
        """Leave alone what is there before the program runs."""
        for found in await asyncio.to_thread(lambda: list(written(self._run))):
            self._over[found.folder] = await asyncio.to_thread(look, found.folder)

    async def watch(self) -> None:
        """Look again and again."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            await self.look()

    async def look(self, *, program_has_ended: bool = False, has_ended_well: bool = False) -> None:
        """Have all finished checkpoints sealed, older ones first. A program that has ended changes nothing any more; one that has
        ended well has written the last file of its newest checkpoint, too.
        """
        async with self._looking:
            try:
                present = await asyncio.to_thread(lambda: list(written(self._run)))
                newest = {kind: max(found.number for found in of_kind) for kind, of_kind in _by_kind(present).items()}
                for found in sorted(present, key=lambda one: (not one.counts_steps, one.number)):
                    is_newest = found.number == newest[found.kind]
                    is_written = not is_newest or has_ended_well
                    await self._look_at(found, is_written=is_written, program_has_ended=program_has_ended)
            except OSError as error:  # a volume that is away for a while, or a program that deletes while we look
                log.info("OUTPUT_DIR can't be looked at", error=str(error))

    async def _look_at(self, found: Written, *, is_written: bool, program_has_ended: bool) -> None:
        now = asyncio.get_running_loop().time()
        seen = await asyncio.to_thread(look, found.folder)
        if self._over.get(found.folder) == seen:
            return
        before, since = self._seen.get(found.folder, (None, now))
        if before != seen:
            since = now
        self._seen[found.folder] = seen, since
        state = completeness(seen, self._world_size)
        if state is Completeness.UNKNOWN and is_written:  # a program writes one after the other
            state = Completeness.WHOLE
        is_quiet = now - since >= state.value
        if (is_quiet or (program_has_ended and state is Completeness.WHOLE)) and await self._seal(found, seen):
            self._over[found.folder] = seen


def _by_kind(present: Iterable[Written]) -> dict[tuple[Path, str], list[Written]]:
    """Group checkpoints by their folder and the form of their names."""
    kinds: dict[tuple[Path, str], list[Written]] = {}
    for found in present:
        kinds.setdefault(found.kind, []).append(found)
    return kinds
