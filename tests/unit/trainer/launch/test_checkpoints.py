"""Which checkpoints are good, which one is taken, which ones may go."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_trainer.launch import manifest
from finetune_trainer.launch.checkpoints import Sealed, choose, rotate, sealed_by, surplus, sweep, usable_folders
from tests.support.checkpoints import begin, layout, seal, seal_model, stage


def truncate(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-1])


def flip_a_bit(folder: Path) -> None:
    file = folder / "optimizer.pt"
    content = bytearray(file.read_bytes())
    content[17] ^= 1
    file.write_bytes(content)


def remove_a_file(folder: Path) -> None:
    (folder / "rng_state_0.pth").unlink()


def remove_the_manifest(folder: Path) -> None:
    (folder / manifest.NAME).unlink()


def break_the_manifest(folder: Path) -> None:
    (folder / manifest.NAME).write_text('{"step": 20, "files"')


def empty(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()


DAMAGES = [
    (truncate, "bytes"),
    (flip_a_bit, "changed"),
    (remove_a_file, "missing"),
    (remove_the_manifest, "manifest.json"),
    (break_the_manifest, "manifest.json"),
    (empty, "manifest.json"),
]


@pytest.mark.parametrize(("damage", "said"), DAMAGES)
def test_the_newest_good_one_is_chosen_and_a_broken_one_moved_aside(
    tmp_path: Path, damage: Callable[[Path], None], said: str
) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    good, broken = seal(run, 1, 10), seal(run, 1, 20)
    damage(broken)
    names = {file.name for file in broken.iterdir()}
    choice = choose(usable_folders(run, 2), run)
    assert choice.sealed is not None
    assert choice.sealed.folder == good
    assert len(choice.messages) == 1
    assert said in choice.messages[0]
    assert not broken.exists()
    aside = run.broken / "attempt-1-checkpoint-20"
    assert {file.name for file in aside.iterdir()} == names
    assert said in (run.broken / "attempt-1-checkpoint-20.txt").read_text()
    assert choose(usable_folders(run, 2), run) == choose([good], run)


def test_the_highest_step_is_taken_not_the_latest_name(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    for step in (100, 9, 20):
        seal(run, 1, step)
    choice = choose(usable_folders(run, 2), run)
    assert choice.sealed is not None
    assert choice.sealed.manifest.step == 100


def test_partial_and_staged_ones_are_never_read(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    seal(run, 1, 10).rename(run.attempt(1).checkpoints / "checkpoint-10.partial")
    stage(run, 1, 20)
    assert choose(usable_folders(run, 2), run).sealed is None


def test_what_a_superseded_attempt_sealed_later_is_never_read(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    first = seal(run, 1, 10)
    known = manifest.read(first)
    assert known is not None
    begin(run, 2, known=(known.ref(first),))
    own = seal(run, 2, 20)
    # Attempt 1, cut off from the rest, goes on for a while: its seal was under way when 2 began.
    late = run.attempt(1).checkpoint(30)
    seal(run, 2, 30).rename(late)
    assert usable_folders(run, 3) == [first, own]


def sealed_at(folder: Path, *steps: int, best: int | None = None) -> list[Sealed]:
    run = layout(folder).run
    begin(run, 1)
    for step in steps:
        seal(run, 1, step, best=step == best)
    return sealed_by(run.attempt(1))


@pytest.mark.parametrize(
    ("limit", "best", "expected"),
    [
        (2, None, [10, 20]),
        (1, None, [10, 20, 30]),
        (2, 10, [20]),
        (1, 20, [10, 30]),
        (4, None, []),
        (None, None, []),
        (0, None, [10, 20, 30]),
    ],
)
def test_surplus(tmp_path: Path, limit: int | None, best: int | None, expected: list[int]) -> None:
    sealed = sealed_at(tmp_path, 10, 20, 30, 40, best=best)
    assert [one.manifest.step for one in surplus(sealed, limit, keep=())] == expected


def test_surplus_never_takes_what_another_run_needs(tmp_path: Path) -> None:
    sealed = sealed_at(tmp_path, 10, 20, 30)
    assert surplus(sealed, 1, keep={sealed[0].folder}) == [sealed[1]]


def test_rotation_spans_the_attempts_of_a_run(tmp_path: Path) -> None:
    place = layout(tmp_path)
    run = place.run
    begin(run, 1)
    old = [seal(run, 1, step) for step in (10, 20)]
    refs = tuple(found.ref(folder) for folder in old if (found := manifest.read(folder)))
    mark = begin(run, 2, known=refs, resume=refs[-1])
    new = seal(run, 2, 30)
    assert rotate(place, mark, 2) == [old[0]]
    assert [folder.is_dir() for folder in (*old, new)] == [False, True, True]


def test_rotation_leaves_what_another_run_goes_on_from(tmp_path: Path) -> None:
    place = layout(tmp_path)
    mark = begin(place.run, 1)
    first, _, _ = (seal(place.run, 1, step) for step in (10, 20, 30))
    found = manifest.read(first)
    assert found is not None
    begin(layout(tmp_path, "other").run, 1, resume=found.ref(first))
    assert [folder.name for folder in rotate(place, mark, 1)] == ["checkpoint-20"]


def test_a_superseded_attempt_deletes_nothing(tmp_path: Path) -> None:
    place = layout(tmp_path)
    mark = begin(place.run, 1)
    folders = [seal(place.run, 1, step) for step in (10, 20, 30)]
    begin(place.run, 2)
    assert rotate(place, mark, 1) == []
    assert all(folder.is_dir() for folder in folders)


def test_an_attempt_that_begins_during_rotation_finds_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = layout(tmp_path)
    mark = begin(place.run, 1)
    folders = [seal(place.run, 1, step) for step in (10, 20, 30)]
    rename = os.rename

    def rename_while_another_begins(source: Path, target: Path) -> None:
        rename(source, target)
        if str(target).endswith(".removed"):
            begin(place.run, 2)

    monkeypatch.setattr(os, "rename", rename_while_another_begins)
    assert rotate(place, mark, 1) == []
    assert all(manifest.problem(folder) is None for folder in folders)


def test_sweep_takes_only_what_is_half_done_and_earlier(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    good, model = seal(run, 1, 10), seal_model(run, 1)
    half = run.attempt(1).checkpoints / "checkpoint-20.partial"
    removed = run.attempt(1).checkpoints / "checkpoint-5.removed"
    half.mkdir()
    removed.mkdir()
    begin(run, 2)
    stage(run, 2, 20)
    sweep(run, 2)
    assert good.is_dir()
    assert model.is_dir()
    assert not half.exists()
    assert not removed.exists()
    assert not run.attempt(1).staging.exists()
    assert (run.attempt(2).staging / "checkpoint-20").is_dir()
