"""Sealing survives SIGKILL between any two of its file operations."""

import errno
import os
import shutil
from pathlib import Path

import pytest

from finetune_trainer.contract.launch_protocol import FileDigest
from finetune_trainer.launch import sealing
from finetune_trainer.launch.checkpoints import choose, rotate, sweep, usable_folders
from finetune_trainer.launch.resume_decision import decide
from finetune_trainer.launch.sealing import SupersededError
from finetune_trainer.shared.checkpoints import manifest
from finetune_trainer.shared.volume import Layout
from tests.support.checkpoints import begin, layout, newest_good, run_config, seal, seal_model, stage, two_sealed
from tests.support.crashes import every_moment


def test_a_checkpoint_is_sealed_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    volumes = every_moment(tmp_path, two_sealed, lambda place: seal(place.run, 1, 30))
    steps = [newest_good(place) for place in volumes]
    assert set(steps) == {20, 30}
    assert steps == sorted(steps)
    assert len(steps) > 20
    for place in volumes:
        begin(place.run, 2)
        sweep(place.run, 2)
        assert not list(place.run.attempt(1).checkpoints.glob("*.partial"))
        assert not place.run.broken.exists()


def test_rotation_never_loses_the_newest(tmp_path: Path) -> None:
    def rotating(place: Layout) -> None:
        seal(place.run, 1, 30)
        mark = begin(place.run, 1)
        rotate(place, mark, 1)

    assert {newest_good(place) for place in every_moment(tmp_path, two_sealed, rotating)} == {20, 30}


def test_a_model_is_there_as_a_whole_or_trained_again(tmp_path: Path) -> None:
    volumes = every_moment(tmp_path, two_sealed, lambda place: seal_model(place.run, 1))
    decisions = [decide(place, run_config(), 2) for place in volumes]
    assert {decision.model is None for decision in decisions} == {True, False}
    assert all(decision.model or decision.resume for decision in decisions)
    assert not any(decision.messages for decision in decisions)


def test_moving_a_broken_one_aside_may_be_interrupted(tmp_path: Path) -> None:
    def damaged(place: Layout) -> None:
        two_sealed(place)
        (place.run.attempt(1).checkpoint(20) / "model.safetensors").write_text("")

    volumes = every_moment(tmp_path, damaged, lambda place: choose(usable_folders(place.run, 2), place.run))
    assert {newest_good(place) for place in volumes} == {10}


def test_a_superseded_attempt_seals_nothing(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    begin(run, 2)
    with pytest.raises(SupersededError):
        seal(run, 1, 10)
    assert not run.attempt(1).checkpoint(10).exists()


def test_a_manifest_is_not_written_over_missing_files(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    final = seal(run, 1, 10)
    sealed_manifest = manifest.read(final)
    assert sealed_manifest is not None
    with pytest.raises(FileNotFoundError):
        sealing.seal(run, run.attempt(1).checkpoint(20), sealed_manifest)


def test_staging_on_another_file_system_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    names = stage(run, 1, 10)
    rename = os.rename

    def across(source: Path, target: Path) -> None:
        if "staging" in str(source):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        rename(source, target)

    monkeypatch.setattr(os, "rename", across)
    own = run.attempt(1)
    digests = sealing.place(own.staging / "checkpoint-10", own.checkpoint(10), names)
    placed = sealing.partial(own.checkpoint(10))
    assert {name: manifest.digest(placed / name) for name in names} == digests
    assert not any((own.staging / "checkpoint-10" / name).exists() for name in names)


def test_a_file_that_two_nodes_claim_is_refused() -> None:
    digest = FileDigest(size=1, sha256="0" * 64)
    with pytest.raises(ValueError, match="was listed by two nodes"):
        sealing.merged([{"trainer_state.json": digest}, {"trainer_state.json": digest}])


def test_discard_of_what_is_not_there(tmp_path: Path) -> None:
    sealing.discard(tmp_path / "nothing")
    assert shutil.disk_usage(tmp_path).free > 0
