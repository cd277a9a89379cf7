"""What node 0 hears counts once, however often it is said; a volume that is full or away costs as little as it can."""

from __future__ import annotations

import asyncio
import errno
import math
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_trainer.contract.launch_protocol import NodeCheckpoint, RankModel, RankProgress, Saved
from finetune_trainer.contract.prepared import PreparedTask, PrepareSummary
from finetune_trainer.contract.records import Cause, CheckpointRef, Outcome, Reason, ResultRecord
from finetune_trainer.launch import checkpoint_coordinator, output_folder, sealing
from finetune_trainer.launch.attempt_metrics import AttemptMetrics
from finetune_trainer.launch.checkpoint_coordinator import CheckpointCoordinator
from finetune_trainer.launch.launch_settings import Peer, Settings
from finetune_trainer.launch.node_roster import NodeRoster
from finetune_trainer.launch.output_folder import Written
from finetune_trainer.launch.progress_state import ProgressState
from finetune_trainer.launch.resume_decision import decide
from finetune_trainer.shared.checkpoints import manifest
from finetune_trainer.shared.checkpoints.manifest import Manifest
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.volume import VolumeError, make_folder
from tests.support.checkpoints import START, begin, run_config, safetensors, stage
from tests.support.scripts import WEIGHTS, contents, write

NAN = math.nan


def test_a_checkpoint_is_sealed_or_given_up_once(tmp_path: Path) -> None:
    peers = (Peer("127.0.0.1", 1), Peer("127.0.0.1", 2))
    config = run_config(output=str(tmp_path), nodes=2)
    settings = Settings(config, tmp_path / "run.json", 1, 0, peers, "127.0.0.1", tmp_path / "log")
    metrics, errors = AttemptMetrics(), list[Exception]()
    reports = [NodeCheckpoint(node=0, step=2), NodeCheckpoint(node=1, step=2, problem="volume: no answer")]

    async def run() -> Path | None:
        node_zero = CheckpointCoordinator(settings, ProgressState("u", 1), metrics, errors.append)
        for report in [*reports, reports[1], *reports]:
            await node_zero.node_reported(report)
            await node_zero.idle()
        return node_zero.done(2).result()

    assert asyncio.run(run()) is None
    assert errors == []
    assert 'finetune_checkpoint_failures_total{reason="volume"} 1.0' in metrics.exposition().decode()


class Sealing:
    """Node 0's part of a one-node attempt that has begun, on a volume that a test makes fail."""

    def __init__(self, folder: Path) -> None:
        config = run_config(output=str(folder / "volume"))
        self.settings = Settings(
            config, folder / "run.json", 1, 0, (Peer("127.0.0.1", 1),), "127.0.0.1", folder / "log"
        )
        self.run = self.settings.layout.run
        self.progress_state, self.errors = ProgressState("u", 1), list[Exception]()
        self.mark = begin(self.run, 1)

    def part(self, step: int, **fields: object) -> NodeCheckpoint:
        """Return the node's report of what it placed of a checkpoint."""
        names = stage(self.run, 1, step)
        own = self.run.attempt(1)
        files = sealing.place(own.staging / f"checkpoint-{step}", own.checkpoint(step), names)
        return NodeCheckpoint.model_validate({"node": 0, "step": step, "files": files, **fields})

    def checkpoints(self, *reports: NodeCheckpoint) -> Saved:
        async def report() -> Saved:
            node_zero = CheckpointCoordinator(self.settings, self.progress_state, AttemptMetrics(), self.errors.append)
            node_zero.attempt_record = self.mark
            for node_report in reports:
                await node_zero.node_reported(node_report)
                await node_zero.idle()
            return node_zero.saved

        return asyncio.run(report())

    def model(self) -> str:
        folder = make_folder(self.run.attempt(1).staging / "model")
        for name in ("model.safetensors", "config.json"):
            (folder / name).write_text(name)

        async def seal() -> str:
            node_zero = CheckpointCoordinator(self.settings, self.progress_state, AttemptMetrics(), self.errors.append)
            return await node_zero.seal_model(RankModel(files=("model.safetensors", "config.json"), step=9))

        return asyncio.run(seal())

    def written(self, *names: str) -> list[bool]:
        """Seal what a user's own program has written below OUTPUT_DIR under these names, one after the other."""

        async def seal() -> list[bool]:
            node_zero = CheckpointCoordinator(self.settings, self.progress_state, AttemptMetrics(), self.errors.append)
            node_zero.attempt_record = self.mark
            answers = []
            for name in names:
                (checkpoint,) = (
                    item for item in output_folder.written(self.run) if item.folder == self.run.output / name
                )
                answers.append(await node_zero.seal_written(checkpoint, output_folder.look(checkpoint.folder)))
            return answers

        return asyncio.run(seal())

    def sealed(self) -> list[tuple[int, str | None]]:
        """Return step and own name of what is sealed."""
        folders = self.run.attempt(1).checkpoints.iterdir() if self.run.attempt(1).checkpoints.is_dir() else ()
        manifests = [manifest.verified(folder) for folder in folders if folder.suffix != ".partial"]
        return sorted((content.step, content.written_as) for content in manifests)


def failing(monkeypatch: pytest.MonkeyPatch, number: int, times: int, *, only: str = "") -> None:
    """Let renaming fail so often, where the new name ends so."""
    rename, left = os.rename, [times]

    def refuse(source: Path, target: Path) -> None:
        if left[0] and str(target).endswith(only):
            left[0] -= 1
            raise OSError(number, os.strerror(number), str(target))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO, errno.ESTALE])
def test_volume_away_costs_one_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A volume that is away costs one checkpoint, and another is asked for."""
    sealer = Sealing(tmp_path)
    reports = [sealer.part(2), sealer.part(4)]
    failing(monkeypatch, number, 1)
    assert sealer.checkpoints(*reports) == Saved(sealed=4, given_up=2)
    assert sealer.errors == []
    assert "checkpoint 2 was not saved" in sealer.progress_state.messages[0]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EMFILE, errno.ENOSYS, errno.EOPNOTSUPP])
def test_first_checkpoint_never_sealed_ends_attempt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The first checkpoint ends the attempt where checkpoints can never be sealed."""
    sealer = Sealing(tmp_path)
    report = sealer.part(2)
    failing(monkeypatch, number, 1, only="checkpoint-2")
    assert sealer.checkpoints(report) == Saved(given_up=2)
    (error,) = sealer.errors
    assert isinstance(error, VolumeError)
    assert (error.failure.reason, error.failure.cause) == (Reason.VOLUME_UNSUITABLE, Cause.USER)
    assert os.strerror(number) in error.failure.message


@pytest.mark.parametrize(("size", "fatal"), [(None, False), (1 << 20, False), (1 << 60, True)])
def test_a_volume_that_is_too_small_as_a_whole_is_not_waited_for(tmp_path: Path, size: int | None, fatal: bool) -> None:
    sealer = Sealing(tmp_path)
    sealer.checkpoints(sealer.part(2, files={}, problem="volume_full: No space left on device", size_bytes=size))
    assert [type(error) for error in sealer.errors] == [VolumeError] * fatal
    for error in sealer.errors:
        assert isinstance(error, VolumeError)
        assert (error.failure.reason, error.failure.cause) == (Reason.VOLUME_FULL, Cause.USER)
        assert "The volume is full, and too small: a checkpoint takes about 1048576.0 TiB" in error.failure.message


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("only", ["model.safetensors", "config.json", "manifest.json", "/model"])
def test_the_model_is_sealed_when_the_volume_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, only: str
) -> None:
    monkeypatch.setattr(checkpoint_coordinator, "MODEL_AGAIN_SECONDS", 0.0)
    sealer = Sealing(tmp_path)
    failing(monkeypatch, number, 2, only=only)
    path = Path(sealer.model())
    assert manifest.problem(path) is None
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "manifest.json", "model.safetensors"]
    assert any("trying again" in message for message in sealer.progress_state.messages)
    assert sealer.settings.layout.model_link.resolve() == path.resolve()


@pytest.mark.parametrize(("sealed", "cause"), [(True, Cause.VOLUME), (False, Cause.ERROR)])
def test_model_not_sealed_costs_only_if_nothing_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: bool, cause: Cause
) -> None:
    """A model that cannot be sealed for long costs only where nothing was ever saved."""
    monkeypatch.setattr(checkpoint_coordinator, "MODEL_SECONDS", 0.0)
    sealer = Sealing(tmp_path)
    if sealed:
        sealer.checkpoints(sealer.part(2))
    failing(monkeypatch, errno.ENOSPC, 1)
    with pytest.raises(VolumeError) as caught:
        sealer.model()
    assert (caught.value.failure.reason, caught.value.failure.cause) == (Reason.VOLUME_FULL, cause)


def test_a_volume_without_links_keeps_no_model_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "symlink", refuse)
    sealer = Sealing(tmp_path)
    path = sealer.model()
    assert manifest.problem(Path(path)) is None
    (message,) = sealer.progress_state.messages
    assert f"The model is at {path}" in message


def prepared_with(base: Path) -> PreparedTask:
    return PreparedTask(
        config_digest="0", data="/d", model=str(base), label_names=(), summary=PrepareSummary(train_rows=1)
    )


def seal_all(sealer: Sealing, weights: dict[int, dict[str, list[float]]]) -> list[Manifest]:
    """Seal checkpoints with these weights, and return their manifests."""
    own = sealer.run.attempt(1)
    reports = []
    for step, tensors in weights.items():
        staged = make_folder(own.staging / f"checkpoint-{step}")
        safetensors(staged / "model.safetensors", tensors)
        files = sealing.place(staged, own.checkpoint(step), ["model.safetensors"])
        reports.append(NodeCheckpoint(node=0, step=step, files=files))
    sealer.checkpoints(*reports)
    assert sealer.errors == []
    manifests = [manifest.read(own.checkpoint(step)) for step in weights]
    return [sealed for sealed in manifests if sealed is not None]


def test_manifest_says_whether_finite(tmp_path: Path) -> None:
    """What is sealed says whether it is finite, and the newest is one that is."""
    sealer = Sealing(tmp_path)
    manifests = seal_all(sealer, {10: {"head": [1.0]}, 20: {"head": [NAN]}})
    assert [(sealed.step, sealed.finite) for sealed in manifests] == [(10, True), (20, False)]
    assert sealer.progress_state.checkpoint is not None
    assert sealer.progress_state.checkpoint.step == 10
    (message,) = sealer.progress_state.messages
    for part in ("checkpoint 20", "not finite", "model.safetensors: head", "nothing goes on from it"):
        assert part in message


def test_what_the_base_model_holds_is_no_fault_of_the_training(tmp_path: Path) -> None:
    base = make_folder(tmp_path / "base")
    safetensors(base / "model.safetensors", {"mask": [-math.inf], "head": [1.0]})
    sealer = Sealing(tmp_path)
    sealer.progress_state.prepared_as(prepared_with(base))
    tensors = {"bert.mask": [-math.inf], "bert.head": [1.0]}
    manifests = seal_all(sealer, {10: tensors, 20: {**tensors, "bert.head": [NAN]}})
    assert [sealed.finite for sealed in manifests] == [True, False]
    assert "mask" not in sealer.progress_state.messages[-1]


def test_a_model_that_is_not_finite_is_no_result_and_is_kept(tmp_path: Path) -> None:
    sealer = Sealing(tmp_path)
    seal_all(sealer, {10: {"head": [1.0]}})
    safetensors(make_folder(sealer.run.attempt(1).staging / "model") / "model.safetensors", {"head": [NAN]})

    async def work() -> None:
        node_zero = CheckpointCoordinator(
            sealer.settings, sealer.progress_state, AttemptMetrics(), sealer.errors.append
        )
        await node_zero.seal_model(RankModel(files=("model.safetensors",), step=20))

    with pytest.raises(ExpectedError) as caught:
        asyncio.run(work())
    failure = caught.value.failure
    assert (failure.reason, failure.cause) == (Reason.NON_FINITE, Cause.USER)
    for part in ("model.safetensors: head", "checkpoint-10"):
        assert part in failure.message
    assert not sealer.run.attempt(1).model.exists()
    assert not sealer.settings.layout.model_link.is_symlink()
    (kept,) = [folder for folder in sealer.run.broken.iterdir() if folder.is_dir()]
    assert (kept / "model.safetensors").is_file()
    assert decide(sealer.settings.layout, sealer.settings.config, 2).model is None


# --- checkpoints of a user's own program ------------------------------------------------------------------------------


@pytest.fixture
def programs(tmp_path: Path) -> Sealing:
    """Return an attempt whose program has written `step_40`."""
    sealer = Sealing(tmp_path)
    write(sealer.run.output / "step_40", WEIGHTS)
    return sealer


def leftovers(sealer: Sealing) -> list[str]:
    """Return what is unfinished of the attempt."""
    own = sealer.run.attempt(1)
    return [path.name for path in (*own.staging.rglob("*"), *own.checkpoints.rglob("*.partial"))]


def after_copying(monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]) -> None:
    """Let the program change a checkpoint after it was copied, and before anybody has looked again."""
    real = output_folder.copy

    def copy(folder: Path, names: list[str], target: Path) -> None:
        real(folder, names, target)
        change(folder)

    monkeypatch.setattr(output_folder, "copy", copy)


def test_written_checkpoint_is_sealed_as_a_copy(programs: Sealing) -> None:
    write(programs.run.output / "checkpoints" / "checkpoint-50", {"model.bin": b"of step 50"})
    assert programs.written("step_40", "checkpoints/checkpoint-50") == [True, True]
    assert programs.sealed() == [(40, "step_40"), (50, "checkpoints/checkpoint-50")]
    sealed = programs.run.attempt(1).checkpoint(40)
    assert contents(programs.run.output / "step_40") == WEIGHTS, "the program's own stays"
    assert {name: (sealed / name).read_bytes() for name in WEIGHTS} == WEIGHTS
    assert (programs.errors, programs.progress_state.messages, leftovers(programs)) == ([], (), [])
    assert programs.progress_state.checkpoint is not None
    assert programs.progress_state.checkpoint.step == 50


def test_written_checkpoint_comes_back_under_its_own_name(programs: Sealing) -> None:
    programs.written("step_40")
    shutil.rmtree(programs.run.output / "step_40")
    resume = decide(programs.settings.layout, programs.settings.config, 2).resume
    assert resume is not None
    output_folder.restore(programs.run, resume)
    assert contents(programs.run.output / "step_40") == WEIGHTS
    assert output_folder.resume_path(programs.run, resume) == programs.run.output / "step_40"


@pytest.mark.parametrize(
    "change",
    [
        shutil.rmtree,
        lambda folder: (folder / "model.safetensors").unlink(),
        lambda folder: (folder / "model.safetensors").write_bytes(b"another one"),
        lambda folder: os.utime(folder / "model.safetensors", (1, 1)),
        lambda folder: (folder / "more").write_bytes(b"a file more"),
    ],
    ids=["deleted", "a file deleted", "a file written", "a file touched", "a file more"],
)
def test_checkpoint_that_changes_under_the_copy_is_not_sealed(
    programs: Sealing, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    after_copying(monkeypatch, change)
    assert programs.written("step_40") == [False]
    assert (programs.sealed(), leftovers(programs)) == ([], [])
    assert (programs.errors, programs.progress_state.messages) == ([], ()), "nobody is at fault"


def replace_by_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("a file")


def replace_file_by_folder(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()


@pytest.mark.parametrize("change", [shutil.rmtree, replace_by_file, replace_file_by_folder])
def test_checkpoint_that_goes_before_it_is_copied_costs_nothing(
    programs: Sealing, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], object]
) -> None:
    real = output_folder.copy

    def copy(folder: Path, names: list[str], target: Path) -> None:
        change(folder)
        real(folder, names, target)

    monkeypatch.setattr(output_folder, "copy", copy)
    assert programs.written("step_40") == [False]
    assert (programs.sealed(), leftovers(programs), programs.errors) == ([], [], [])


def test_changed_checkpoint_is_sealed_at_the_next_look(programs: Sealing, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        after_copying(patched, lambda folder: (folder / "model.safetensors").write_bytes(b"another one"))
        assert programs.written("step_40") == [False]
    assert programs.written("step_40") == [True]
    sealed = programs.run.attempt(1).checkpoint(40)
    assert (sealed / "model.safetensors").read_bytes() == b"another one"


def test_step_is_sealed_once(programs: Sealing) -> None:
    assert programs.written("step_40", "step_40") == [True, True]
    assert programs.sealed() == [(40, "step_40")]


def seal_story(programs: Sealing, *story: Callable[[], str]) -> None:
    """Let the program write something, and seal the checkpoint that it names, again and again in one attempt."""

    async def seal() -> None:
        node_zero = CheckpointCoordinator(
            programs.settings, programs.progress_state, AttemptMetrics(), programs.errors.append
        )
        node_zero.attempt_record = programs.mark
        for write_some in story:
            folder = programs.run.output / write_some()
            (checkpoint,) = (item for item in output_folder.written(programs.run) if item.folder == folder)
            assert await node_zero.seal_written(checkpoint, output_folder.look(folder))

    asyncio.run(seal())


def writes(programs: Sealing, name: str, content: bytes) -> Callable[[], str]:
    def write_some() -> str:
        write(programs.run.output / name, {"model.safetensors": content})
        return name

    return write_some


def model_of(programs: Sealing, step: int) -> bytes:
    folder = programs.run.attempt(1).checkpoint(step)
    assert manifest.problem(folder) is None
    return (folder / "model.safetensors").read_bytes()


def test_checkpoint_that_was_sealed_half_written_is_sealed_again(programs: Sealing) -> None:
    """A volume that hangs for long makes an unknown writer look as if it were done."""
    seal_story(programs, writes(programs, "step_40", b"half"), writes(programs, "step_40", b"half and half"))
    assert (programs.sealed(), model_of(programs, 40)) == ([(40, "step_40")], b"half and half")
    assert os.listdir(programs.run.attempt(1).checkpoints) == ["checkpoint-40"]
    assert (programs.errors, leftovers(programs)) == ([], [])


def test_older_checkpoint_that_is_touched_stays_as_it_was_sealed(programs: Sealing) -> None:
    story = [writes(programs, "step_40", b"a"), writes(programs, "step_50", b"b"), writes(programs, "step_40", b"late")]
    seal_story(programs, *story)
    assert (model_of(programs, 40), model_of(programs, 50)) == (b"a", b"b")
    assert programs.progress_state.checkpoint is not None
    assert programs.progress_state.checkpoint.step == 50


def test_same_step_under_another_name_does_not_replace_it(programs: Sealing) -> None:
    seal_story(programs, writes(programs, "step_40", b"a"), writes(programs, "checkpoint-40", b"b"))
    assert (programs.sealed(), model_of(programs, 40)) == ([(40, "step_40")], b"a")


def test_older_checkpoint_that_is_finished_later_is_not_the_newest(programs: Sealing) -> None:
    seal_story(programs, writes(programs, "step_50", b"b"), writes(programs, "step_40", b"a"))
    assert programs.progress_state.checkpoint is not None
    assert programs.progress_state.checkpoint.step == 50


@pytest.mark.parametrize("only", ["manifest.json", "checkpoint-40"])
def test_volume_that_takes_no_second_copy_keeps_the_first(
    programs: Sealing, monkeypatch: pytest.MonkeyPatch, only: str
) -> None:
    def fail_and_write() -> str:
        failing(monkeypatch, errno.ENOSPC, 1, only=only)
        return writes(programs, "step_40", b"more")()

    seal_story(programs, writes(programs, "step_40", b"first"), fail_and_write)
    assert model_of(programs, 40) == b"first"
    assert "checkpoint 40 was not saved" in programs.progress_state.messages[0]


def test_epoch_is_sealed_as_the_reported_step(programs: Sealing) -> None:
    write(programs.run.output / "epoch_2", WEIGHTS)
    programs.progress_state.absorb(RankProgress(step=750), START)
    assert programs.written("epoch_2") == [True]
    assert programs.sealed() == [(750, "epoch_2")]


@pytest.mark.parametrize("steps", [(), (100, 100, 100), (100, 3, 2)], ids=["none", "the same", "anew in each epoch"])
def test_later_epoch_is_the_newer_checkpoint_whatever_is_reported(programs: Sealing, steps: tuple[int, ...]) -> None:
    names = ["epoch_0", "epoch_1", "epoch_2"]

    async def seal() -> None:
        node_zero = CheckpointCoordinator(
            programs.settings, programs.progress_state, AttemptMetrics(), programs.errors.append
        )
        node_zero.attempt_record = programs.mark
        for number, name in enumerate(names):
            if steps:
                programs.progress_state.absorb(RankProgress(step=steps[number]), START)
            folder = write(programs.run.output / name, WEIGHTS)
            assert await node_zero.seal_written(Written(folder, "epoch_", number), output_folder.look(folder))
        (folder / "log").write_text("touched")
        oldest = programs.run.output / "epoch_1"
        (oldest / "log").write_text("touched")
        assert await node_zero.seal_written(Written(oldest, "epoch_", 1), output_folder.look(oldest))

    asyncio.run(seal())
    assert [name for _, name in programs.sealed()] == names[-2:], "two are kept"
    resume = decide(programs.settings.layout, programs.settings.config, 2).resume
    assert output_folder.resume_path(programs.run, resume) == programs.run.output / "epoch_2"


def test_epoch_after_a_resume_is_newer_than_what_was_resumed_from(programs: Sealing) -> None:
    write(programs.run.output / "epoch_1", WEIGHTS)
    programs.progress_state.resumed_from = CheckpointRef(step=500, path="/output/c", time=START)
    programs.progress_state.absorb(RankProgress(step=20), START)
    programs.written("epoch_1")
    assert programs.sealed() == [(501, "epoch_1")]


def test_numbers_of_a_programs_own_files_are_not_judged(programs: Sealing) -> None:
    folder = make_folder(programs.run.output / "step_41")
    safetensors(folder / "model.safetensors", {"mask": [-math.inf]})
    assert programs.written("step_41") == [True]
    assert manifest.unfit(programs.run.attempt(1).checkpoint(41)) is None


def test_file_with_the_name_of_the_seal_is_named(programs: Sealing) -> None:
    write(programs.run.output / "step_41", {"manifest.json": b"{}"})
    assert programs.written("step_41", "step_40") == [True, True]
    (message,) = programs.progress_state.messages
    assert "step_41/manifest.json" in message
    assert (programs.sealed(), programs.errors) == ([(40, "step_40")], [])


def test_program_of_a_superseded_attempt_seals_nothing(programs: Sealing) -> None:
    begin(programs.run, 2)
    assert programs.written("step_40") == [True]
    (error,) = programs.errors
    assert isinstance(error, sealing.SupersededError)
    assert (programs.sealed(), leftovers(programs)) == ([], [])
    assert contents(programs.run.output / "step_40") == WEIGHTS


@pytest.mark.parametrize("operation", ["copy_file_range", "fsync", "rename"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE])
def test_volume_that_takes_no_copy_costs_one_checkpoint(
    programs: Sealing, monkeypatch: pytest.MonkeyPatch, operation: str, number: int
) -> None:
    write(programs.run.output / "step_50", WEIGHTS)

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patched:
        patched.setattr(os, operation, refuse)
        assert programs.written("step_40") == [True], "it is given up, and not tried once a second"
    (message,) = programs.progress_state.messages
    assert "checkpoint 40 was not saved" in message
    assert (programs.sealed(), programs.errors, leftovers(programs)) == ([], [], [])
    assert programs.written("step_50") == [True]
    assert programs.sealed() == [(50, "step_50")]


# --- the end of nodes, and their workers ------------------------------------------------------------------------------


def test_an_end_is_noted_once() -> None:
    record = ResultRecord(
        role="train", uid="u", attempt=1, node=1, outcome=Outcome.SUCCEEDED, started=START, finished=START
    )

    async def run() -> list[int]:
        roster = NodeRoster(2)
        await roster.has_ended(record)
        await roster.has_ended(record)
        await roster.all_ended()
        return list(roster.ended)

    assert asyncio.run(run()) == [1]


@pytest.mark.parametrize(
    ("ports", "workers"),
    [
        ({}, ("10.0.0.1:7000",)),
        ({2: 7002, 1: 7001}, ("10.0.0.1:7000", "[fd00::1]:7001", "[fd00::2]:7002")),
        ({1: 7001, 2: None}, ()),
    ],
    ids=["one node", "in the order of nodes", "a peer of an older release"],
)
def test_workers_are_all_nodes_or_nothing(ports: dict[int, int | None], workers: tuple[str, ...]) -> None:
    async def run() -> tuple[str, ...]:
        roster = NodeRoster(len(ports) + 1)
        for node, port in ports.items():
            await roster.joined(node, f"[fd00::{node}]:8080", "10.0.0.1", port)
        await roster.complete()
        return roster.workers("10.0.0.1:7000")

    assert asyncio.run(run()) == workers


def test_worker_that_left_and_came_back_has_its_new_port() -> None:
    async def run() -> tuple[str, ...]:
        roster = NodeRoster(2)
        await roster.joined(1, "10.0.0.2:8080", "10.0.0.1", 7001)
        await roster.left(1)
        assert roster.workers("10.0.0.1:7000") == ("10.0.0.1:7000",)
        await roster.joined(1, "10.0.0.3:8080", "10.0.0.1", 7009)
        return roster.workers("10.0.0.1:7000")

    assert asyncio.run(run()) == ("10.0.0.1:7000", "10.0.0.3:7009")
