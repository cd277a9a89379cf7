"""Whatever becomes of what a run has left on the volume, between any two of its attempts: the job ends with the weights that
an undisturbed one has, or stops with a reason before a rank starts. Never with others.

The ranks are played: the weights of a step are a digest of those of the step before, so that no other way leads to the
last ones. What decides (fencing, marks, manifests, resume, rotation) is the real thing, on real files.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from finetune_trainer.contract.records import Cause, Failure, Outcome, Reason, ResultRecord
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.launch import fencing, sealing
from finetune_trainer.launch.begin import claim, decide_and_record
from finetune_trainer.launch.checkpoints import rotate
from finetune_trainer.launch.children import Children
from finetune_trainer.launch.launch_settings import Peer, Settings
from finetune_trainer.launch.node import Node
from finetune_trainer.launch.peers import NodeZero
from finetune_trainer.launch.preparation import left_by_job
from finetune_trainer.shared.checkpoints import training_note
from finetune_trainer.shared.checkpoints.attempt_file import AttemptRecord
from finetune_trainer.shared.checkpoints.manifest import Manifest
from finetune_trainer.shared.paths import to_local
from finetune_trainer.shared.result_record import write_to_volume
from finetune_trainer.shared.volume import Attempt, Layout, VolumeError, exists, make_folder, write_checked
from tests.support.checkpoints import START, prepared, run_config
from tests.support.damage import DAMAGE

STEPS = 8
SAVE_EVERY = 2
KEPT = 2
FALLS = 4
"""Number of falls at most; then the attempts do well."""
HERE = Peer("127.0.0.1", 1)
MEMORY = Path("/dev/shm")


def trained(weights: bytes) -> bytes:
    """Return the weights after one more step."""
    return hashlib.sha256(weights).digest()


def undisturbed() -> bytes:
    weights = b""
    for _ in range(STEPS):
        weights = trained(weights)
    return weights


# --- damages ---------------------------------------------------------------------------------------------------------


def fail_reading(path: Path) -> None:
    """Let the kernel answer EIO to whoever reads it."""
    remove(path)
    path.symlink_to("/proc/self/mem")


def remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def replace_by_file(path: Path) -> None:
    remove(path)
    path.write_text("something else")


def replace_by_loop(path: Path) -> None:
    remove(path)
    path.symlink_to(path)


def exchange(path: Path) -> None:
    """Put another file of the same folder in its place."""
    others = [
        other for other in sorted(path.parent.iterdir()) if other.is_file() and not other.is_symlink() and other != path
    ]
    if others:
        path.write_bytes(others[0].read_bytes())


OF_FILES: dict[str, Callable[[Path], None]] = {
    **DAMAGE,
    "a loop": replace_by_loop,
    "another one": exchange,
    "unreadable": fail_reading,
}
OF_FOLDERS: dict[str, Callable[[Path], None]] = {"gone": remove, "a file": replace_by_file, "a loop": replace_by_loop}


@dataclass(frozen=True)
class Damage:
    kind: str
    place: float
    """Place among all files and folders of the run, in their order: from 0 to 1."""

    def inflict(self, run: Path) -> None:
        paths = [path for path in sorted(run.rglob("*")) if self.fits(path)]
        if paths:
            path = paths[min(len(paths) - 1, int(self.place * len(paths)))]
            (OF_FOLDERS if path.is_dir() else OF_FILES)[self.kind](path)

    def fits(self, path: Path) -> bool:
        if path.is_symlink():
            return False
        if path.is_dir():
            return self.kind in OF_FOLDERS
        return self.kind in OF_FILES and path.stat().st_size > 0


# --- the job ---------------------------------------------------------------------------------------------------------


class PlayedJob:
    """A job on one volume, attempt by attempt."""

    def __init__(self, output: Path) -> None:
        self.config = run_config(output=str(output))
        self.layout = Layout(output, self.config.job, self.config.uid)
        self.temporary = output.with_name("temporary")
        self.number = 0
        self.sealed: int | None = None
        """Newest checkpoint, as the operator knows it."""

    def attempt(self, steps: int, *, leaves_record: bool) -> bytes | None:
        """Begin, train so many steps at most, and fall. Return the weights of the final model where it came so far."""
        self.number += 1
        self._prepare()
        mark = asyncio.run(self._begin())
        own = self.layout.run.attempt(self.number)
        if mark.model is not None:
            return (to_local(mark.model) / "model.safetensors").read_bytes()
        step, weights = _loaded(mark)
        for _ in range(min(steps, STEPS - step)):
            step, weights = step + 1, trained(weights)
            if step % SAVE_EVERY == 0:
                self._save(own, mark, step, weights)
        if step == STEPS and steps > STEPS:
            self._seal(own, own.model, step, {"model.safetensors": weights})
            return weights
        if leaves_record:
            write_to_volume(own, self._record())
        return None

    def _prepare(self) -> None:
        """Prepare as the Job does, again where what it left is damaged."""
        if isinstance(left_by_job(self.layout.run), Failure):
            make_folder(self.layout.run.folder)
            write_checked(self.layout.run.prepared, prepared())

    async def _begin(self) -> AttemptRecord:
        temporary = self.temporary / str(self.number)
        temporary.mkdir(parents=True)
        own = Settings(
            self.config, temporary, self.number, 0, (HERE,), "127.0.0.1", temporary, expected_step=self.sealed
        )
        children = Children()
        try:
            async with aiohttp.ClientSession() as session:
                claim(self.layout.run, self.number, HERE)
                node = Node(own, children, NodeZero(session, own), temporary)
                return await decide_and_record(node, session, (str(HERE),))
        finally:
            children.close()

    def _save(self, own: Attempt, mark: AttemptRecord, step: int, weights: bytes) -> None:
        files = {
            "model.safetensors": weights,
            "trainer_state.json": json.dumps({"global_step": step}).encode(),
            training_note.NOTE: json.dumps(training_note.of(prepared())).encode(),
        }
        self._seal(own, own.checkpoint(step), step, files)
        rotate(self.layout, mark, KEPT)
        self.sealed = step

    def _seal(self, own: Attempt, final: Path, step: int, files: dict[str, bytes]) -> None:
        staged = make_folder(own.staging / final.name)
        for name, content in files.items():
            (staged / name).write_bytes(content)
        digests = sealing.place(staged, final, files)
        sealed = Manifest(step=step, attempt=self.number, world_size=1, time=START, finite=True, files=digests)
        sealing.seal(self.layout.run, final, sealed)

    def _record(self) -> ResultRecord:
        return ResultRecord(
            role="train",
            uid=self.config.uid,
            attempt=self.number,
            outcome=Outcome.FAILED,
            started=START,
            finished=START,
        )


def _loaded(mark: AttemptRecord) -> tuple[int, bytes]:
    """Return what a rank reads: the checkpoint's own files, not its manifest."""
    if mark.resume is None:
        return 0, b""
    folder = to_local(mark.resume.path)
    state = json.loads((folder / "trainer_state.json").read_text())
    return state["global_step"], (folder / "model.safetensors").read_bytes()


@dataclass(frozen=True)
class Fall:
    """An attempt that falls after some steps, or having sealed the model, and what becomes of the volume before the next."""

    steps: int
    leaves_record: bool
    damages: tuple[Damage, ...]


def lived(
    falls: tuple[Fall, ...], config: Callable[[TaskConfig], TaskConfig] = lambda config: config
) -> bytes | VolumeError:
    """Return the final weights of a job with these falls, or what it stopped by."""
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as folder:
        output = Path(folder) / "output"
        output.mkdir()
        job = PlayedJob(output)
        job.config = config(job.config)
        try:
            for fall in falls:
                job.attempt(fall.steps, leaves_record=fall.leaves_record)
                for damage in fall.damages:
                    damage.inflict(job.layout.run.folder)
            weights = job.attempt(STEPS + 1, leaves_record=True)
        except VolumeError as error:
            return error
    assert weights is not None
    return weights


# --- what must hold --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", autouse=True)
def nobody_is_waited_for() -> Iterator[None]:
    """Let no attempt wait for those before: they are over."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fencing, "UNREACHABLE_SECONDS", 0.0)
        patch.setattr(fencing, "_POLL_SECONDS", 0.0)
        yield


damages = st.builds(Damage, st.sampled_from(sorted({*OF_FILES, *OF_FOLDERS})), st.floats(0, 1))
histories = st.lists(
    st.builds(Fall, st.integers(0, STEPS + 1), st.booleans(), st.lists(damages, max_size=3).map(tuple)),
    min_size=1,
    max_size=FALLS,
).map(tuple)


@given(histories)
@settings(max_examples=150, deadline=None)
@example((Fall(5, True, (Damage("zeros", 0.3),)),))
def test_a_job_ends_with_the_undisturbed_weights_or_stops_with_a_reason(falls: tuple[Fall, ...]) -> None:
    outcome = lived(falls)
    if not isinstance(outcome, VolumeError):
        assert outcome == undisturbed()
        return
    failure = outcome.failure
    assert (failure.reason, failure.cause is Cause.USER) == (Reason.VOLUME_UNREADABLE, False)
    assert "move it away" in failure.message
    kinds = {damage.kind for fall in falls for damage in fall.damages}
    assert "unreadable" in kinds, "what is only damaged ends no job"


PLACES = 24
"""Number of places: more than a run has files and folders."""


@pytest.mark.parametrize("kind", sorted({*OF_FILES, *OF_FOLDERS} - {"unreadable"}))
def test_no_single_damage_ends_a_job(kind: str) -> None:
    """The next attempt goes on, whichever file or folder of a run that has fallen once is damaged."""
    for place in range(PLACES):
        outcome = lived((Fall(5, True, (Damage(kind, place / PLACES),)),))
        assert outcome == undisturbed(), place


@pytest.mark.parametrize("place", range(PLACES))
def test_a_single_file_that_can_not_be_read_ends_no_job_that_has_another(place: int) -> None:
    """Two checkpoints and two marks mean that there is another one of everything."""
    assert lived((Fall(5, True, (Damage("unreadable", place / PLACES),)),)) == undisturbed()


@given(histories)
@settings(max_examples=50, deadline=None)
def test_a_job_whose_checkpoint_is_required_stops_or_goes_on_from_one(falls: tuple[Fall, ...]) -> None:
    outcome = lived(falls, lambda config: config.model_copy(update={"resume_from": "required"}))
    if not isinstance(outcome, VolumeError):
        assert outcome == undisturbed()
    else:
        assert outcome.failure.reason in (Reason.VOLUME_UNREADABLE, Reason.CHECKPOINT_NOT_FOUND)


def test_nothing_good_is_ever_deleted_but_by_rotation(tmp_path: Path) -> None:
    """Files that are set aside are not deleted: what was good when it was moved is good where it lies."""
    job = PlayedJob(tmp_path / "output")
    job.layout.output.mkdir()
    job.attempt(5, leaves_record=True)
    newest = job.layout.run.attempt(1).checkpoint(4)
    before = {file.name: file.read_bytes() for file in newest.iterdir() if file.name != "model.safetensors"}
    (newest / "model.safetensors").write_bytes(b"")
    job.attempt(0, leaves_record=True)
    assert not exists(newest)
    aside = job.layout.run.broken / "attempt-1-checkpoint-4"
    assert {name: (aside / name).read_bytes() for name in before} == before
