"""Which files of OUTPUT_DIR are the model that is sealed and published."""

from __future__ import annotations

from pathlib import Path

import pytest

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.launch import sealing
from finetune_trainer.script.model_files import LEFT_OUT, of_output, stage, trainer_step
from finetune_trainer.shared.checkpoints import manifest
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.volume import Run
from tests.support.checkpoints import layout
from tests.support.scripts import WEIGHTS, contents, seal_as, write

MODEL = {"config.json": b"{}", "model.safetensors": b"weights", "tokenizer/vocab.txt": b"a"}


@pytest.fixture
def run(tmp_path: Path) -> Run:
    made = layout(tmp_path).run
    write(made.output, MODEL)
    return made


def staged(run: Run, name: str | None = None) -> dict[str, bytes]:
    """Return the files that are handed over, by name."""
    folder = run.attempt(1).staging / "model"
    names = stage(run, name, folder)
    assert sorted(names) == sorted(contents(folder))
    return contents(folder)


def test_model_is_all_of_the_output_folder(run: Run) -> None:
    assert staged(run) == MODEL
    assert contents(run.output) == MODEL, "what the program wrote stays"


@pytest.mark.parametrize(
    "name",
    [
        *("checkpoint-10", "checkpoint_1", "step_40", "epoch_0", "checkpoints", "checkpoints/mine"),
        *("deep/checkpoint-10", "deep/deeper/step_2", "checkpoints/checkpoint-4", ".cache", "deep/.git"),
    ],
)
def test_checkpoint_is_left_out_at_any_depth(run: Run, name: str) -> None:
    write(run.output / name, WEIGHTS)
    assert staged(run) == MODEL


@pytest.mark.parametrize("name", ["checkpoint", "step_x", "my-step_4", "deep/checkpoints", "checkpoint-10.d", "epoch_"])
def test_folder_of_another_name_is_part_of_the_model(run: Run, name: str) -> None:
    write(run.output / name, {"a": b"1"})
    assert staged(run) == {**MODEL, f"{name}/a": b"1"}


@pytest.mark.parametrize("name", [*sorted(LEFT_OUT), ".hidden"])
def test_file_that_only_goes_on_with_a_training_is_left_out_at_any_depth(run: Run, name: str) -> None:
    write(run.output, {name: b"pickle", f"deep/{name}": b"pickle"})
    assert staged(run) == MODEL


def test_pickled_arguments_are_among_them() -> None:
    assert "training_args.bin" in LEFT_OUT


def test_links_are_left_out(run: Run, tmp_path: Path) -> None:
    elsewhere = write(tmp_path / "elsewhere", {"secret": b"s"})
    (run.output / "file").symlink_to(elsewhere / "secret")
    (run.output / "folder").symlink_to(elsewhere)
    (run.output / "dangling").symlink_to(elsewhere / "nothing")
    (run.output / "loop").symlink_to(run.output)
    assert staged(run) == MODEL


@pytest.mark.parametrize("name", ["final", "deep/final", "step_40"])
def test_named_folder_is_the_model_even_where_it_has_the_name_of_a_checkpoint(run: Run, name: str) -> None:
    write(run.output / name, {**MODEL, "checkpoint-3/a": b"1", "training_args.bin": b"pickle"})
    assert staged(run, name) == MODEL


def test_named_folder_may_be_a_link_to_the_best_checkpoint(run: Run) -> None:
    write(run.output / "step_40", {"best.bin": b"1"})
    (run.output / "best").symlink_to("step_40")
    assert staged(run, "best") == {"best.bin": b"1"}


@pytest.mark.parametrize("name", ["model.keras", "deep/model.keras"])
def test_named_file_is_the_model(run: Run, name: str) -> None:
    write(run.output, {name: b"keras"})
    assert staged(run, name) == {"model.keras": b"keras"}


@pytest.mark.parametrize("name", ["final", "deep/final.keras"])
def test_missing_model_is_named(run: Run, name: str) -> None:
    with pytest.raises(ExpectedError) as caught:
        staged(run, name)
    assert (caught.value.reason, caught.value.cause) == (Reason.NOTHING_TRAINED, Cause.USER)
    for word in (name, "spec.script.outputs.model"):
        assert word in caught.value.message


def test_output_folder_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExpectedError, match="has left no"):
        staged(layout(tmp_path).run)


@pytest.mark.parametrize("files", [{}, {"checkpoint-3/model.bin": b"1", "training_args.bin": b"1"}])
def test_output_without_a_model_has_no_files(tmp_path: Path, files: dict[str, bytes]) -> None:
    run = layout(tmp_path).run
    write(run.output, files)
    assert staged(run) == {}
    assert list(of_output(run.output, None)) == []


def test_staging_begins_anew(run: Run) -> None:
    write(run.attempt(1).staging / "model", {"leftover": b"of a killed rank"})
    assert staged(run) == MODEL


def test_interrupted_copy_of_a_checkpoint_is_no_part_of_the_model(run: Run) -> None:
    write(run.output / ".finetune-restoring", WEIGHTS)
    assert staged(run) == MODEL


def test_file_with_the_name_of_the_seal_does_not_break_the_model(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    write(run.output, {"manifest.json": b"mine", "deep/manifest.json": b"kept"})
    names = stage(run, None, run.attempt(1).staging / "model")
    assert "deep/manifest.json" in names
    assert f"{run.output}/manifest.json is left out" in capsys.readouterr().err
    seal_as(run, None, 4, contents(run.attempt(1).staging / "model"))
    assert manifest.problem(run.attempt(1).checkpoint(4)) is None
    assert sealing.partial(run.attempt(1).checkpoint(4)).exists() is False


@pytest.mark.parametrize(
    ("files", "step"),
    [
        ({}, None),
        ({"checkpoint-4/trainer_state.json": b'{"global_step": 4}'}, 4),
        ({"checkpoint-4/trainer_state.json": b'{"global_step": 4}', "trainer_state.json": b'{"global_step": 6}'}, 6),
        ({"trainer_state.json": b'{"global_step": ', "checkpoint-4/trainer_state.json": b"[]"}, None),
    ],
)
def test_step_of_the_trainer_is_that_of_its_own_state(run: Run, files: dict[str, bytes], step: int | None) -> None:
    write(run.output, files)
    assert trainer_step(run) == step
