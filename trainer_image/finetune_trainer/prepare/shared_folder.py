"""A folder on the claim that jobs share: made once by one of them, and used only where every byte is as it was sealed.

`lease` says who makes it, `store` how it gets its name, `eviction` makes room for it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from finetune_trainer.prepare import eviction, lease, store
from finetune_trainer.prepare.notes import Notes, say
from finetune_trainer.shared import data_digests
from finetune_trainer.shared.volume import DISK_FULL, Layout

DATA = "data"


def is_sound(folder: Path, notes: Notes, content: str = DATA) -> bool:
    """Tell whether the folder is there, every byte as it was sealed. One that is not is set aside."""
    if not os.path.lexists(folder):
        return False
    if eviction.touch(folder) and (folder in notes.sound or data_digests.problem(folder) is None):
        notes.sound.add(folder)
        return True
    problem = store.set_aside(folder)
    if problem is not None:
        notes.say(
            f"The prepared {content} {folder.name[:12]} can't be used ({problem}): it is set aside and made again."
        )
    return problem is None and eviction.touch(folder)


def made(
    folder: Path,
    layout: Layout,
    notes: Notes,
    make: Callable[[Path, Callable[[int], bool]], None],
    content: str = DATA,
) -> dict[str, Any]:
    """Make the folder where it is not there, or not what was sealed; return what is noted of it.

    `make` writes to the folder that it is given, and gives that its name; with its second argument it sees to so many free
    bytes, where room can be made. `content` is what messages call it.
    """

    def make_room(wanted: int) -> bool:
        gone = eviction.make_room(layout, wanted)
        for text in gone:
            notes.say(text)
        return bool(gone)

    def done() -> bool:
        return is_sound(folder, notes, content)

    while True:
        if done() and (meta := store.read_meta(folder)) is not None:
            return meta
        with lease.held(folder, layout.job, done=done, content=content, waiting=say, waited=notes.say) as mine:
            if mine is None:
                continue
            try:
                make(mine.partial, make_room)
                notes.sound.add(folder)  # it was digested as it was written
            except OSError as error:
                # A lease is lost by being asleep for so long that somebody took this process for dead, and removed
                # what it had written.
                if not mine.is_lost() and not (error.errno in DISK_FULL and make_room(sys.maxsize)):
                    raise
