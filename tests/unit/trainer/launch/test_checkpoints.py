"""Which checkpoints are good, which one is taken, which ones may go."""

import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.launch.checkpoints import Sealed, choose, rotate, sealed_by, surplus, sweep, usable_folders
from finetune_trainer.shared.checkpoints import manifest
from finetune_trainer.shared.volume import VolumeError, exists
from tests.support.checkpoints import begin, layout, seal, seal_model, stage
from tests.support.somebody_else import as_somebody_else


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


def flip_a_digit_of_the_step(folder: Path) -> None:
    file = folder / manifest.NAME
    file.write_text(file.read_text().replace('"step": 20', '"step": 30'))


def rename_what_was_sealed(folder: Path) -> None:
    other = folder.with_name("checkpoint-10")
    shutil.rmtree(folder)
    shutil.copytree(other, folder)


def replace_by_a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("not a folder")


def replace_by_a_link_to_itself(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(folder)


def replace_the_manifest_by_a_folder(folder: Path) -> None:
    (folder / manifest.NAME).unlink()
    (folder / manifest.NAME).mkdir()


def let_reading_fail(folder: Path) -> None:
    """Let the kernel itself answer EIO to whoever reads there."""
    (folder / manifest.NAME).unlink()
    (folder / manifest.NAME).symlink_to("/proc/self/mem")


DAMAGES = [
    (truncate, "bytes"),
    (flip_a_bit, "changed"),
    (remove_a_file, "missing"),
    (remove_the_manifest, "manifest.json"),
    (break_the_manifest, "manifest.json"),
    (empty, "manifest.json"),
    (flip_a_digit_of_the_step, "manifest.json"),
    (rename_what_was_sealed, "step 10"),
    (replace_by_a_file, "something else"),
    (replace_by_a_link_to_itself, "something else"),
    (replace_the_manifest_by_a_folder, "something else"),
    (let_reading_fail, "can't be read"),
]


@pytest.mark.parametrize(("damage", "message"), DAMAGES)
def test_the_newest_good_one_is_chosen_and_a_broken_one_moved_aside(
    tmp_path: Path, damage: Callable[[Path], None], message: str
) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    good, broken = seal(run, 1, 10), seal(run, 1, 20)
    damage(broken)
    names = names_in(broken)
    choice = choose(usable_folders(run, 2), run)
    assert choice.sealed is not None
    assert choice.sealed.folder == good
    assert len(choice.messages) == 1
    assert message in choice.messages[0]
    assert not exists(broken)
    aside = run.broken / "attempt-1-checkpoint-20"
    assert exists(aside)
    assert names_in(aside) == names
    assert message in (run.broken / "attempt-1-checkpoint-20.txt").read_text()
    assert choose(usable_folders(run, 2), run) == choose([good], run)


def names_in(path: Path) -> set[str]:
    return {file.name for file in path.iterdir()} if path.is_dir() and not path.is_symlink() else set()


def test_what_can_not_be_read_is_left_while_there_is_nothing_else(tmp_path: Path) -> None:
    """The checkpoint may be good: beginning anew would throw it away, and once moved away it would not be found again."""
    run = layout(tmp_path).run
    begin(run, 1)
    broken, closed = seal(run, 1, 10), seal(run, 1, 20)
    truncate(broken)
    let_reading_fail(closed)
    with pytest.raises(VolumeError) as caught:
        choose(usable_folders(run, 2), run)
    failure = caught.value.failure
    assert failure.reason is Reason.VOLUME_UNREADABLE
    assert failure.cause is not Cause.USER
    for part in ("checkpoint-20", "Input/output error", "move it away"):
        assert part in failure.message
    assert closed.is_dir()
    assert not broken.exists()


def test_what_can_not_be_moved_aside_is_passed_over() -> None:
    """The test runs as a user who may neither read the checkpoint nor rename anything beside it."""
    with tempfile.TemporaryDirectory() as folder:
        run = layout(Path(folder)).run
        begin(run, 1)
        good, closed = seal(run, 1, 10), seal(run, 1, 20)
        (closed / "optimizer.pt").chmod(0)
        choice = as_somebody_else(Path(folder), lambda: choose(usable_folders(run, 2), run), may_write=False)
        assert choice.sealed is not None
        assert choice.sealed.folder == good
        (message,) = choice.messages
        assert "Permission denied" in message
        assert "is passed over" in message
        assert closed.is_dir()


NAN = float("nan")


def test_a_checkpoint_that_is_not_finite_is_never_gone_on_from(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    good, poisoned = seal(run, 1, 10, weights=[1.0, 2.0]), seal(run, 1, 20, weights=[1.0, NAN])
    choice = choose(usable_folders(run, 2), run)
    assert choice.sealed is not None
    assert choice.sealed.folder == good
    (message,) = choice.messages
    assert "checkpoint-20" in message
    assert "model.safetensors: head.weight" in message
    assert poisoned.is_dir(), "nothing is wrong with its bytes"


def test_where_nobody_has_looked_when_it_was_sealed_it_is_looked_at_now(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    good = seal(run, 1, 10, weights=[1.0], noted=False)
    seal(run, 1, 20, weights=[NAN], noted=False)
    choice = choose(usable_folders(run, 2), run)
    assert choice.sealed is not None
    assert choice.sealed.folder == good


def test_what_is_not_finite_takes_nobodys_place(tmp_path: Path) -> None:
    """Two checkpoints that are not finite would otherwise push out the last one that is of use."""
    place = layout(tmp_path)
    mark = begin(place.run, 1)
    sealed = {
        step: seal(place.run, 1, step, weights=[NAN if step in (30, 40, 50) else 1.0]) for step in (10, 20, 30, 40, 50)
    }
    assert rotate(place, mark, 2) == [sealed[30], sealed[40]]
    seal(place.run, 1, 60, weights=[1.0])
    assert rotate(place, mark, 2) == [sealed[10], sealed[50]]


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
    assert [checkpoint.manifest.step for checkpoint in surplus(sealed, limit, keep=())] == expected


def test_surplus_never_takes_what_another_run_needs(tmp_path: Path) -> None:
    sealed = sealed_at(tmp_path, 10, 20, 30)
    assert surplus(sealed, 1, keep={sealed[0].folder}) == [sealed[1]]


def test_rotation_spans_the_attempts_of_a_run(tmp_path: Path) -> None:
    place = layout(tmp_path)
    run = place.run
    begin(run, 1)
    old = [seal(run, 1, step) for step in (10, 20)]
    refs = tuple(sealed.ref(folder) for folder in old if (sealed := manifest.read(folder)))
    mark = begin(run, 2, known=refs, resume=refs[-1])
    new = seal(run, 2, 30)
    assert rotate(place, mark, 2) == [old[0]]
    assert [folder.is_dir() for folder in (*old, new)] == [False, True, True]


def test_a_mark_of_another_run_that_is_torn_keeps_rotation_from_nothing(tmp_path: Path) -> None:
    place = layout(tmp_path)
    mark = begin(place.run, 1)
    folders = [seal(place.run, 1, step) for step in (10, 20, 30)]
    begin(layout(tmp_path, "other").run, 1)
    for file in layout(tmp_path, "other").run.attempt(1).folder.glob("attempt*.json"):
        file.write_bytes(b"")
    assert rotate(place, mark, 1) == folders[:2]


def test_rotation_leaves_what_another_run_goes_on_from(tmp_path: Path) -> None:
    place = layout(tmp_path)
    mark = begin(place.run, 1)
    first, _, _ = (seal(place.run, 1, step) for step in (10, 20, 30))
    sealed = manifest.read(first)
    assert sealed is not None
    begin(layout(tmp_path, "other").run, 1, resume=sealed.ref(first))
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
