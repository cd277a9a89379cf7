"""A program's checkpoint is sealed once it is finished and quiet, in virtual time."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.launch import output_folder, output_watch
from finetune_trainer.launch.output_folder import Look, Written
from finetune_trainer.launch.output_watch import OutputWatch
from finetune_trainer.shared.volume import make_folder
from tests.support.checkpoints import layout
from tests.support.scripts import TRAINER, WEIGHTS, write
from tests.support.virtual_time import virtual_time

WHOLE: Mapping[str, bytes] = dict.fromkeys(TRAINER, b"x")
"""A Trainer's checkpoint."""


class Watched:
    """A watch over OUTPUT_DIR whose seals are noted: (second, name)."""

    def __init__(self, folder: Path, world_size: int = 1) -> None:
        self.run = layout(folder).run
        make_folder(self.run.output)
        self.sealed: list[tuple[int, str]] = []
        self.refused: set[str] = set()
        """Names of checkpoints that change while they are copied."""
        self.watch = OutputWatch(self.run, world_size, self._seal)
        self._began: float | None = None

    async def _seal(self, found: Written, seen: Look) -> bool:
        name = found.folder.relative_to(self.run.output).as_posix()
        assert seen.files
        if name in self.refused:
            return False
        self.sealed.append((self._second(), name))
        return True

    def _second(self) -> int:
        now = asyncio.get_running_loop().time()
        self._began = now if self._began is None else self._began
        return round(now - self._began)

    def write(self, name: str, files: Mapping[str, bytes] = WHOLE) -> Path:
        return write(self.run.output / name, files)

    async def seconds(self, count: int) -> None:
        """Look once a second."""
        self._second()
        for _ in range(count):
            await asyncio.sleep(output_watch.LOOK_SECONDS)
            await self.watch.look()


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def play(story: Callable[[], Awaitable[None]]) -> None:
    with virtual_time():
        asyncio.run(story())  # type: ignore[arg-type]


def test_whole_checkpoint_is_sealed_when_it_has_been_quiet(watched: Watched) -> None:
    async def story() -> None:
        watched.write("checkpoint-10")
        await watched.seconds(30)

    play(story)
    assert watched.sealed == [(3, "checkpoint-10")]


def test_checkpoint_without_its_last_file_is_never_sealed(watched: Watched) -> None:
    async def story() -> None:
        watched.write("checkpoint-10", dict.fromkeys(TRAINER[:-1], b"x"))
        await watched.seconds(300)
        await watched.watch.look(program_has_ended=True)

    play(story)
    assert watched.sealed == []


@pytest.mark.parametrize(("well", "sealed"), [(True, ["step_10"]), (False, [])])
def test_newest_of_unknown_writer_is_sealed_at_once_where_the_program_has_ended_well(
    watched: Watched, *, well: bool, sealed: list[str]
) -> None:
    async def story() -> None:
        watched.write("step_10", {"state.json": b"x"})
        await watched.watch.look(program_has_ended=True, has_ended_well=well)

    play(story)
    assert [name for _, name in watched.sealed] == sealed


def test_every_change_begins_the_wait_anew(watched: Watched) -> None:
    async def story() -> None:
        for size in range(1, 11):
            watched.write("checkpoint-10", {**WHOLE, "model.safetensors": b"x" * size})
            await watched.seconds(2)
        await watched.seconds(10)

    play(story)
    assert watched.sealed == [(21, "checkpoint-10")]


def test_same_size_at_another_time_is_a_change(watched: Watched) -> None:
    async def story() -> None:
        folder = watched.write("checkpoint-10")
        for second in range(1, 6):
            os.utime(folder / "model.safetensors", (second, second))
            await watched.seconds(1)

    play(story)
    assert watched.sealed == []


def test_unknown_writer_gets_longer(watched: Watched) -> None:
    async def story() -> None:
        watched.write("step_5", WEIGHTS)
        await watched.seconds(30)

    play(story)
    assert watched.sealed == [(11, "step_5")]


def test_next_checkpoint_tells_that_an_unknown_writer_is_done_with_this_one(watched: Watched) -> None:
    async def story() -> None:
        watched.write("step_5", WEIGHTS)
        watched.write("epoch_7", WEIGHTS)
        await watched.seconds(4)
        watched.write("checkpoints/step_9", WEIGHTS)
        await watched.seconds(1)
        assert watched.sealed == [], "neither another kind nor another folder tells it"
        watched.write("step_6", WEIGHTS)
        await watched.seconds(1)

    play(story)
    assert watched.sealed == [(6, "step_5")]


def test_older_steps_are_sealed_first_and_epochs_last(watched: Watched) -> None:
    async def story() -> None:
        for name in ("checkpoint-100", "epoch_0", "checkpoint-20", "checkpoints/checkpoint-3"):
            watched.write(name)
        await watched.seconds(5)

    play(story)
    assert [name for _, name in watched.sealed] == [
        "checkpoints/checkpoint-3",
        "checkpoint-20",
        "checkpoint-100",
        "epoch_0",
    ]


def test_all_ranks_must_have_written(tmp_path: Path) -> None:
    watched = Watched(tmp_path, world_size=2)

    async def story() -> None:
        watched.write("checkpoint-10", {**{name: b"" for name in TRAINER if "rng" not in name}, "rng_state_0.pth": b""})
        await watched.seconds(60)
        watched.write("checkpoint-10", {"rng_state_1.pth": b""})
        await watched.seconds(60)

    play(story)
    assert watched.sealed == [(63, "checkpoint-10")]


def test_what_was_there_before_the_program_is_left_alone_until_it_changes(watched: Watched) -> None:
    async def story() -> None:
        folder = watched.write("checkpoint-10")
        await watched.watch.begin()
        await watched.seconds(30)
        assert watched.sealed == []
        (folder / "model.safetensors").write_bytes(b"trained again")
        await watched.seconds(5)

    play(story)
    assert watched.sealed == [(33, "checkpoint-10")]


def test_checkpoint_that_changed_under_the_copy_is_looked_at_again(watched: Watched) -> None:
    async def story() -> None:
        watched.write("checkpoint-10")
        watched.refused.add("checkpoint-10")
        await watched.seconds(10)
        watched.refused.clear()
        await watched.seconds(10)

    play(story)
    assert watched.sealed == [(11, "checkpoint-10")]


def test_end_of_the_program_ends_the_wait_for_a_known_writer_alone(watched: Watched) -> None:
    """Nobody knows whether the last checkpoint of an unknown writer was finished when the program was ended."""

    async def story() -> None:
        for name in ("checkpoint-10", "step_4", "step_5"):
            watched.write(name, WEIGHTS if "step" in name else WHOLE)
        await watched.watch.look(program_has_ended=True)

    play(story)
    assert [name for _, name in watched.sealed] == ["step_4", "checkpoint-10"]


def test_folder_that_is_deleted_and_comes_back_is_a_new_one(watched: Watched) -> None:
    async def story() -> None:
        folder = watched.write("checkpoint-10")
        await watched.seconds(5)
        shutil.rmtree(folder)
        await watched.seconds(5)
        watched.write("checkpoint-10", {**WHOLE, "model.safetensors": b"another"})
        await watched.seconds(5)

    play(story)
    assert watched.sealed == [(3, "checkpoint-10"), (13, "checkpoint-10")]


@pytest.mark.parametrize("error", [FileNotFoundError(2, "deleted"), OSError(116, "stale"), OSError(5, "input/output")])
def test_volume_that_fails_for_a_while_is_looked_at_again(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, error: OSError
) -> None:
    real, left = output_folder.look, [5]

    def failing(folder: Path) -> Look:
        left[0] -= 1
        if left[0] >= 0:
            raise error
        return real(folder)

    monkeypatch.setattr(output_watch, "look", failing)

    async def story() -> None:
        watched.write("checkpoint-10")
        await watched.seconds(20)

    play(story)
    assert watched.sealed == [(8, "checkpoint-10")]


def test_watch_looks_until_it_is_cancelled(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    async def inline(function: Callable[..., Any], *arguments: Any) -> Any:
        return function(*arguments)

    monkeypatch.setattr(asyncio, "to_thread", inline)  # else virtual time would run ahead of the thread

    async def story() -> None:
        watched.write("checkpoint-10")
        watched._second()
        watching = asyncio.create_task(watched.watch.watch())
        await asyncio.sleep(60)
        watching.cancel()

    play(story)
    assert watched.sealed == [(3, "checkpoint-10")]
