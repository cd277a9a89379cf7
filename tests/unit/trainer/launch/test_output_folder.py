"""Checkpoints of a user's own program: which are finished, and that the good one is the newest in the next attempt."""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finetune_trainer.contract.records import CheckpointRef
from finetune_trainer.contract.script import CHECKPOINT_NAME
from finetune_trainer.launch import output_folder
from finetune_trainer.launch.output_folder import COUNTS_STEPS, Completeness, Look, completeness, look, restore, written
from finetune_trainer.shared.checkpoints import manifest
from finetune_trainer.shared.paths import to_local
from finetune_trainer.shared.volume import Layout, Run, make_folder
from tests.support.checkpoints import START, layout
from tests.support.crashes import dead_at, every_moment
from tests.support.scripts import TRAINER, WEIGHTS, contents, seal_as, write

MEMORY = Path("/dev/shm")
ACCELERATE = ("model.safetensors", "optimizer.bin", "scheduler.bin", "random_states_0.pkl")


@pytest.fixture
def run(tmp_path: Path) -> Run:
    place = layout(tmp_path)
    make_folder(place.run.output_checkpoints)
    return place.run


# --- which folders are checkpoints, and which are finished ------------------------------------------------------------


def test_checkpoints_are_folders_of_known_names_in_both_places(run: Run) -> None:
    names = ["checkpoint-3", "checkpoint_4", "step_5", "epoch_0", "checkpoints/checkpoint-30", "checkpoints/step_1"]
    others = ["checkpoint-", "checkpoint-x", "step_5.tmp", "step5", "my-step_5", "step_1/step_2", "runs", "step_\u0663"]
    for name in [*names, *others]:
        make_folder(run.output / name)
    (run.output / "step_9").write_text("a file")
    (run.output / "step_8").symlink_to(run.output / "step_5")
    names_written = [item.folder.relative_to(run.output).as_posix() for item in written(run)]
    assert sorted(names_written) == sorted([*names, "step_1"])
    assert {item.form for item in written(run) if item.counts_steps} == COUNTS_STEPS


def test_no_folder_at_all_has_no_checkpoints(tmp_path: Path) -> None:
    assert list(written(layout(tmp_path).run)) == []


def test_links_are_not_looked_at(tmp_path: Path) -> None:
    folder = write(tmp_path / "step_1", WEIGHTS)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "secret").write_text("s")
    (folder / "link").symlink_to(tmp_path / "elsewhere" / "secret")
    (folder / "folder").symlink_to(tmp_path / "elsewhere")
    assert look(folder).files.keys() == WEIGHTS.keys()


def state(*names: str, ranks: int = 1) -> Completeness:
    return completeness(Look(dict.fromkeys(names, (1, 1))), ranks)


@pytest.mark.parametrize("count", range(len(TRAINER)))
def test_trainer_writes_its_state_last(count: int) -> None:
    assert state(*TRAINER) is Completeness.WHOLE
    seen = state(*TRAINER[:count])
    # Before its arguments nothing tells that it is the Trainer.
    assert seen is (Completeness.UNKNOWN if count == 1 else Completeness.MISSING)


def test_accelerate_writes_random_states_last() -> None:
    assert state(*ACCELERATE) is Completeness.WHOLE
    assert state(*ACCELERATE[:-1]) is Completeness.MISSING


@pytest.mark.parametrize("pattern", ["rng_state_{}.pth", "random_states_{}.pkl"])
def test_each_rank_has_written_its_own_file(pattern: str) -> None:
    known = (*TRAINER, *ACCELERATE) if "random" in pattern else TRAINER
    first, second = pattern.format(0), pattern.format(1)
    assert state(*known, first, second, ranks=2) is Completeness.WHOLE
    assert state(*known, second, ranks=2) is (Completeness.WHOLE if first in known else Completeness.MISSING)
    assert state(*{*known, first}, ranks=2) is Completeness.MISSING


@pytest.mark.parametrize(
    "name",
    [
        "tmp_1",
        ".tmpabc",
        "deep/tmp0",
        "model.tmp",
        "model.safetensors.part",
        "a.partial",
        "deep/b.incomplete",
        ".nfs00",
    ],
)
def test_file_that_will_be_renamed_is_unfinished(name: str) -> None:
    assert state(*TRAINER, name) is Completeness.MISSING


@pytest.mark.parametrize(
    "name", [".metadata", ".gitattributes", "w/.zarray", "tmp/model.bin", "template.json", "a.parts"]
)
def test_name_that_only_looks_unfinished_is_no_hindrance(name: str) -> None:
    assert state("model.bin", name) is Completeness.UNKNOWN


def test_shards_of_torch_are_finished_with_their_metadata() -> None:
    shards = ("model_0/__0_0.distcp", "model_0/__1_0.distcp")
    assert state(*shards) is Completeness.MISSING
    assert state(*shards, "model_0/.metadata") is Completeness.UNKNOWN
    assert state(*shards, "optimizer_0/.metadata") is Completeness.MISSING


@given(st.sets(st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=30), max_size=8), st.integers(1, 3))
def test_completeness_takes_any_names(names: set[str], ranks: int) -> None:
    assert state(*names, ranks=ranks) in Completeness


# --- copies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer", ["in the kernel", "nothing", *(errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)]
)
def test_copy_is_the_same_bytes_on_any_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str | int
) -> None:
    files = {**WEIGHTS, "large": os.urandom(3 << 20)}
    source = write(tmp_path / "step_1", files)
    write(tmp_path / "copy", {"leftover": b"of a copy before"})

    def refuse(*_: object) -> int:
        if isinstance(answer, int):
            raise OSError(answer, os.strerror(answer))
        return 0

    if answer != "in the kernel":
        monkeypatch.setattr(os, "copy_file_range", refuse)
    output_folder.copy(source, list(files), tmp_path / "copy")
    assert contents(tmp_path / "copy") == files


def test_copy_begins_again_where_the_kernel_stops_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {"large": os.urandom(1 << 20)}
    source = write(tmp_path / "step_1", files)
    real, calls = os.copy_file_range, [0]

    def once(reading: int, writing: int, size: int) -> int:
        calls[0] += 1
        return real(reading, writing, 1000) if calls[0] == 1 else 0

    monkeypatch.setattr(os, "copy_file_range", once)
    output_folder.copy(source, list(files), tmp_path / "copy")
    assert contents(tmp_path / "copy") == files


def test_full_volume_is_no_other_way_to_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    source = write(tmp_path / "step_1", WEIGHTS)
    monkeypatch.setattr(os, "copy_file_range", full)
    with pytest.raises(OSError, match="No space"):
        output_folder.copy(source, list(WEIGHTS), tmp_path / "copy")


# --- the checkpoint to resume from ------------------------------------------------------------------------------------


def test_resume_path_is_the_programs_own_name(run: Run) -> None:
    assert output_folder.resume_path(run, None) is None
    assert output_folder.resume_path(run, seal_as(run, "checkpoints/step_40", 40)) == run.output / "checkpoints/step_40"
    of_task = seal_as(run, None, 50)
    assert output_folder.resume_path(run, of_task) == to_local(of_task.path)


@pytest.mark.parametrize(
    "damage", ["gone", "parent gone", "parent a file", "torn", "extra", "a file", "a link", "dangling"]
)
def test_sealed_checkpoint_comes_back_as_it_was(run: Run, damage: str) -> None:
    resume = seal_as(run, "checkpoints/step_40", 40)
    target = write(run.output_checkpoints / "step_40", WEIGHTS)
    match damage:
        case "torn":
            (target / "model.safetensors").write_bytes(b"weight")
        case "extra":
            (target / "pytorch_model.bin").write_bytes(b"written later")
        case _:
            shutil.rmtree(target)
    match damage:
        case "parent gone":
            run.output_checkpoints.rmdir()
        case "parent a file":
            run.output_checkpoints.rmdir()
            run.output_checkpoints.write_text("mine")
        case "a file":
            target.write_text("mine")
        case "a link":
            target.symlink_to(write(run.output / "step_50", WEIGHTS))
        case "dangling":
            target.symlink_to(run.output / "nowhere")
    restore(run, resume)
    assert contents(target) == WEIGHTS
    assert not target.is_symlink()
    assert newest_of_each_kind(run) == {True: [("checkpoints/step_40")]}


def test_checkpoint_that_is_still_whole_is_not_copied(run: Run) -> None:
    resume = seal_as(run, "step_40", 40)
    target = write(run.output / "step_40", WEIGHTS)
    before = target.stat().st_ino
    restore(run, resume)
    assert target.stat().st_ino == before
    assert not run.broken.exists()


def test_newer_ones_are_moved_aside_with_the_reason_and_older_ones_stay(run: Run) -> None:
    resume = seal_as(run, "step_40", 40)
    for name in ("step_30", "step_40", "step_50", "checkpoint-60", "checkpoints/step_45", "checkpoints/checkpoint-10"):
        write(run.output / name, WEIGHTS)
    restore(run, resume)
    assert [item.folder.name for item in written(run)] == ["step_30", "step_40", "checkpoint-10"]
    assert sorted(os.listdir(run.broken)) == sorted(
        name + end for name in ("step_50", "checkpoint-60", "step_45") for end in ("", ".txt")
    )
    assert (run.broken / "step_50.txt").read_text() == "it was not sealed\n"


def test_without_a_checkpoint_to_resume_from_nothing_is_taken_for_one(run: Run) -> None:
    write(run.output / "final", WEIGHTS)
    write(run.output / "epoch_0", WEIGHTS)
    restore(run, None)
    assert list(written(run)) == []
    assert contents(run.broken / "epoch_0") == WEIGHTS
    assert contents(run.output / "final") == WEIGHTS


def test_other_kind_is_newer_by_its_time(run: Run) -> None:
    """Numbers of epochs and of steps are no order: a program that has both looks at the time."""
    resume = seal_as(run, "step_40", 40)
    for number, name in enumerate(("epoch_0", "step_40", "epoch_1")):
        os.utime(write(run.output / name, WEIGHTS), (1000 + number, 1000 + number))
    restore(run, resume)
    assert [item.folder.name for item in written(run)] == ["epoch_0", "step_40"]


def test_checkpoint_of_another_run_comes_under_its_own_name(tmp_path: Path) -> None:
    old, new = layout(tmp_path, "old").run, layout(tmp_path, "new").run
    resume = seal_as(old, "epoch_3", 70)
    restore(new, resume)
    assert contents(new.output / "epoch_3") == WEIGHTS


def test_checkpoint_of_a_task_stays_where_it_is(run: Run) -> None:
    restore(run, seal_as(run, None, 40))
    assert list(written(run)) == []


@pytest.mark.parametrize("parent", ["", "checkpoints", "results"])
@pytest.mark.parametrize("name", ["step_40", None])
def test_copy_of_a_killed_attempt_is_removed(run: Run, parent: str, name: str | None) -> None:
    write(run.output / parent / ".finetune-restoring", WEIGHTS)
    restore(run, seal_as(run, name, 40) if name is not None else None)
    assert not (run.output / parent / ".finetune-restoring").exists()


def test_sealed_checkpoint_that_has_changed_is_an_error(run: Run) -> None:
    resume = seal_as(run, "step_40", 40)
    (to_local(resume.path) / "model.safetensors").write_bytes(b"wEights")
    with pytest.raises(manifest.BrokenError):
        restore(run, resume)
    assert not (run.output / "step_40").exists()


# --- whatever lies in OUTPUT_DIR --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """Something with the name of a checkpoint."""

    parent: str
    form: str
    number: int
    kind: str

    @property
    def name(self) -> str:
        return f"{self.parent}{self.form}{self.number}"

    def make(self, run: Run) -> None:
        path = run.output / self.name
        make_folder(path.parent)
        match self.kind:
            case "a file":
                path.write_text(f"mine {self.name}")
            case "a link":
                path.symlink_to(write(run.output / "elsewhere", WEIGHTS))
            case "to another":
                path.symlink_to(run.output / "step_7")
            case "torn":
                write(path, {**WEIGHTS, "model.safetensors": self.name.encode()})
            case "extra":
                write(path, {**WEIGHTS, "more": self.name.encode()})
            case "nothing":
                path.mkdir()
            case _:
                write(path, WEIGHTS)


PARENTS, FORMS = ("", "checkpoints/", "results/"), ("checkpoint-", "checkpoint_", "step_", "epoch_")
KINDS = ("as sealed", "torn", "extra", "nothing", "a file", "a link", "to another")
ENTRIES = st.builds(Entry, *map(st.sampled_from, (PARENTS, FORMS)), st.integers(0, 12), st.sampled_from(KINDS))
LEFTOVERS = ("step_7.partial", "checkpoints/step_7.partial", "step_7.aside-0", ".hidden", "tensorboard", "final")


def tree(path: Path) -> frozenset[tuple[str, str]]:
    """Return everything at a path, comparable."""
    if path.is_symlink():
        return frozenset({("", f"-> {os.readlink(path)}")})
    if path.is_file():
        return frozenset({("", path.read_text())})
    below = ((item.relative_to(path).as_posix(), item) for item in path.rglob("*"))
    return frozenset((name, "" if item.is_dir() else item.read_text()) for name, item in below)


def trees(run: Run) -> Counter[frozenset[tuple[str, str]]]:
    """Return what lies in OUTPUT_DIR, in the folders of checkpoints in it, and among what was moved aside."""
    folders = [*(run.output / parent for parent in PARENTS), run.broken]
    paths = (
        path for folder in folders if folder.is_dir() for path in folder.iterdir() if f"{path.name}/" not in PARENTS
    )
    return Counter(map(tree, paths))


def newest_of_each_kind(run: Run) -> dict[bool, list[str]]:
    """Return the folders with the highest number, as programs find them: by name, through links."""
    best: dict[bool, tuple[int, list[str]]] = {}
    for parent in PARENTS:
        folder = run.output / parent
        for name in sorted(os.listdir(folder)) if folder.is_dir() else ():
            match = CHECKPOINT_NAME.match(name)
            if match is None or not (folder / name).is_dir():
                continue
            steps, number = match["form"] in COUNTS_STEPS, int(match["number"])
            highest, names = best.get(steps, (-1, []))
            if number >= highest:
                best[steps] = number, [*(names if number == highest else []), parent + name]
    return {steps: names for steps, (_, names) in best.items()}


def assert_restored(run: Run, sealed: Entry, before: Counter[frozenset[tuple[str, str]]]) -> None:
    target = run.output / sealed.name
    assert contents(target) == WEIGHTS
    assert not target.is_symlink()
    assert newest_of_each_kind(run)[sealed.form in COUNTS_STEPS] == [sealed.name]
    other_kinds = [item for item in written(run, links=True) if item.counts_steps != (sealed.form in COUNTS_STEPS)]
    assert all(item.folder.stat().st_mtime_ns < target.stat().st_mtime_ns for item in other_kinds)
    assert not before - trees(run), "nothing was deleted"
    assert not list(run.output.rglob(".finetune-restoring"))


def fill(run: Run, entries: set[Entry]) -> None:
    """Put entries into OUTPUT_DIR, one of each name, and what is no checkpoint."""
    for name in LEFTOVERS:
        write(run.output / name, {"mine": name.encode()})
    for entry in {entry.name: entry for entry in sorted(entries, key=repr)}.values():
        entry.make(run)


@contextmanager
def volume() -> Iterator[Layout]:
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield layout(Path(folder))


@pytest.fixture
def memory() -> Iterator[Path]:
    """Return a folder in memory: hundreds of volumes are synced."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        yield Path(folder)


@given(st.sets(ENTRIES, max_size=8), ENTRIES)
@settings(max_examples=100)
@example({Entry("", "step_", 9, "a link")}, Entry("", "step_", 7, "as sealed"))
@example({Entry("", "step_", 7, "a link")}, Entry("", "step_", 7, "as sealed"))
@example({Entry("", "step_", 7, "extra"), Entry("", "step_", 8, "as sealed")}, Entry("", "step_", 7, "as sealed"))
@example({Entry("", "checkpoint-", 8, "to another")}, Entry("", "step_", 7, "as sealed"))
def test_sealed_checkpoint_is_the_newest_and_nothing_is_lost(entries: set[Entry], sealed: Entry) -> None:
    with volume() as place:
        run = place.run
        resume = seal_as(run, sealed.name, sealed.number)
        fill(run, entries)
        before = trees(run)
        restore(run, resume)
        assert_restored(run, sealed, before)
        after = trees(run)
        restore(run, resume)
        assert trees(run) == after, "a second time changes nothing"


@pytest.mark.parametrize("kind", ["as sealed", "torn", "a link", "a file", None])
def test_killed_at_any_moment_the_next_attempt_restores(memory: Path, kind: str | None) -> None:
    sealed = Entry("checkpoints/", "step_", 7, kind or "")
    others = {Entry("", "step_", 8, "torn"), Entry("", "checkpoint-", 6, "torn"), Entry("", "epoch_", 1, "extra")}
    entries = others | ({sealed} if kind is not None else set())
    refs: list[CheckpointRef] = []
    before: list[Counter[frozenset[tuple[str, str]]]] = []

    def set_up(place: Layout) -> None:
        refs.append(seal_as(place.run, sealed.name, sealed.number))
        fill(place.run, entries)
        before.append(trees(place.run))

    volumes = every_moment(memory, set_up, lambda place: restore(place.run, refs[-1]), dead_at)
    assert len(volumes) > 5
    for place, resume, entries_before in zip(volumes, refs, before, strict=True):
        restore(place.run, resume)
        assert_restored(place.run, sealed, entries_before)
        assert resume.time == START
