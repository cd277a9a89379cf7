"""What an attempt goes on from."""

from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.config import Cause, Reason
from finetune_trainer.launch.resume import decide, trains_the_same
from finetune_trainer.volume import Layout, VolumeError, write_document
from tests.support.checkpoints import begin, layout, run_config, seal, seal_model


def earlier_run(folder: Path, uid: str = "old", attempt: int = 1, **fields: Any) -> Layout:
    """A run of an earlier object with a sealed checkpoint at step 40."""
    place = layout(folder, uid)
    begin(place.run, attempt)
    seal(place.run, attempt, 40)
    write_document(place.run.config, run_config(uid, **fields))
    return place


def test_a_first_attempt_starts_afresh(tmp_path: Path) -> None:
    decision = decide(layout(tmp_path), run_config(), 1)
    assert decision.resume is None
    assert decision.model is None


def test_the_next_attempt_goes_on_and_remembers_what_there_was(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    seal(run, 1, 10)
    newest = seal(run, 1, 20)
    decision = decide(layout(tmp_path), run_config(), 2)
    assert decision.resume is not None
    assert (decision.resume.step, decision.resume.attempt, decision.resume.path) == (20, 1, str(newest))
    assert [ref.step for ref in decision.known] == [10, 20]


@pytest.mark.parametrize("resume_from", ["never", "/somewhere/else"])
def test_a_later_attempt_goes_on_whatever_resume_from_says(tmp_path: Path, resume_from: str) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    seal(run, 1, 20)
    decision = decide(layout(tmp_path), run_config(resume_from=resume_from), 2)
    assert decision.resume is not None
    assert decision.resume.step == 20


def test_a_sealed_model_is_the_end(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    seal(run, 1, 20)
    model = seal_model(run, 1)
    assert decide(layout(tmp_path), run_config(), 2).model == str(model)
    begin(run, 2, model=str(model))
    assert decide(layout(tmp_path), run_config(), 3).model == str(model)


def test_a_damaged_model_is_trained_again_from_the_last_checkpoint(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    seal(run, 1, 20)
    model = seal_model(run, 1)
    (model / "model.safetensors").write_text("weightz")
    decision = decide(layout(tmp_path), run_config(), 2)
    assert decision.model is None
    assert decision.resume is not None
    assert decision.resume.step == 20
    assert any("model" in message for message in decision.messages)
    assert not model.exists()


def test_a_named_checkpoint(tmp_path: Path) -> None:
    place = earlier_run(tmp_path / "elsewhere")
    path = str(place.run.attempt(1).checkpoint(40))
    decision = decide(layout(tmp_path), run_config(resume_from=path), 1)
    assert decision.resume is not None
    assert (decision.resume.path, decision.resume.step) == (path, 40)


@pytest.mark.parametrize("name", ["nothing", "elsewhere"])
def test_a_name_that_holds_no_sealed_checkpoint_is_the_users_to_mend(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    with pytest.raises(VolumeError) as caught:
        decide(layout(tmp_path), run_config(resume_from=str(tmp_path / name)), 1)
    assert (caught.value.failure.reason, caught.value.failure.cause) == (Reason.CHECKPOINT_NOT_FOUND, Cause.USER)
    assert name in caught.value.failure.message


def test_an_unfinished_earlier_run_of_the_same_training_is_continued(tmp_path: Path) -> None:
    place = earlier_run(tmp_path, nodes=2, processes_per_node=1)
    decision = decide(layout(tmp_path), run_config(), 1)
    assert decision.resume is not None
    assert decision.resume.path == str(place.run.attempt(1).checkpoint(40))
    assert decision.known == ()
    assert "earlier" in decision.messages[0]


def test_but_not_where_resume_from_is_never(tmp_path: Path) -> None:
    earlier_run(tmp_path)
    assert decide(layout(tmp_path), run_config(resume_from="never"), 1).resume is None


@pytest.mark.parametrize(
    "fields",
    [
        {"model": {"name": "/data/other"}},
        {"training_arguments": {"learning_rate": 0.1}},
        {"training_arguments": {"per_device_train_batch_size": 4}},
        {"nodes": 2},
        {"preprocessing": {"max_length": 9}},
    ],
)
def test_another_training_is_not_continued(tmp_path: Path, fields: dict[str, Any]) -> None:
    earlier_run(tmp_path, **fields)
    assert decide(layout(tmp_path), run_config(), 1).resume is None


def test_a_finished_earlier_run_is_not_reused_nor_what_is_older(tmp_path: Path) -> None:
    earlier_run(tmp_path, uid="oldest", attempt=1)
    finished = earlier_run(tmp_path, uid="finished", attempt=2)
    seal_model(finished.run, 2)
    assert decide(layout(tmp_path), run_config(), 1).resume is None
    newer = earlier_run(tmp_path, uid="newer", attempt=3)
    decision = decide(layout(tmp_path), run_config(), 1)
    assert decision.resume is not None
    assert decision.resume.path.startswith(str(newer.run.folder))


def test_the_same_global_batch_by_other_means_trains_the_same() -> None:
    one = run_config(nodes=1, processes_per_node=2, training_arguments={"per_device_train_batch_size": 4})
    other = run_config(
        "other",
        nodes=1,
        processes_per_node=1,
        training_arguments={"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    )
    assert trains_the_same(one, other)
    assert not trains_the_same(one, run_config(nodes=1, processes_per_node=2))
