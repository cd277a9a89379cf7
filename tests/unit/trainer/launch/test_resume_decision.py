"""What an attempt goes on from."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.launch.checkpoints import rotate
from finetune_trainer.launch.resume_decision import decide, may_go_on, trains_the_same
from finetune_trainer.shared.checkpoints import manifest, training_note
from finetune_trainer.shared.volume import Layout, VolumeError, write_checked
from tests.support.checkpoints import begin, layout, prepared, run_config, seal, seal_model
from tests.support.damage import DAMAGE

OTHERS = [
    (prepared(("good", "negative"), "b"), "other data (classes bad, good; now good, negative)"),
    (prepared(data="b"), "other data"),
    (prepared(model="n"), "another base model"),
]
"""Data and model that are trained on now, and the words for what else the checkpoints are made from."""


def earlier_run(
    folder: Path, uid: str = "old", attempt: int = 1, trained_on: PreparedTask | None = None, **fields: Any
) -> Layout:
    """Make a run of an earlier object, with a sealed checkpoint at step 40."""
    place = layout(folder, uid)
    begin(place.run, attempt)
    seal(place.run, attempt, 40, trained_on=trained_on)
    write_checked(place.run.config, run_config(uid, **fields))
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


def test_a_checkpoint_that_the_job_had_and_the_volume_has_not_is_said(tmp_path: Path) -> None:
    decision = decide(layout(tmp_path), run_config(), 1, expected=20)
    assert decision.resume is None
    (message,) = decision.messages
    for part in ("step 20", str(layout(tmp_path).run.folder), "begins anew"):
        assert part in message


def test_so_is_one_that_the_attempt_before_went_on_from(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    sealed = seal(run, 1, 20)
    sealed_manifest = manifest.read(sealed)
    assert sealed_manifest is not None
    begin(run, 2, resume=sealed_manifest.ref(sealed), known=(sealed_manifest.ref(sealed),))
    shutil.rmtree(sealed)
    decision = decide(layout(tmp_path), run_config(), 3)
    assert decision.resume is None
    assert "step 20" in decision.messages[-1]
    assert "begins anew" in decision.messages[-1]


def test_an_older_one_in_its_place_is_gone_on_from_and_said(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    seal(run, 1, 10)
    for resume_from in ("auto", "required"):
        decision = decide(layout(tmp_path), run_config(resume_from=resume_from), 2, expected=20)
        assert decision.resume is not None
        assert decision.resume.step == 10
        assert "goes on from step 10" in decision.messages[-1]


def test_required_stops_in_place_of_beginning_anew(tmp_path: Path) -> None:
    with pytest.raises(VolumeError) as caught:
        decide(layout(tmp_path), run_config(resume_from="required"), 1, expected=20)
    failure = caught.value.failure
    assert (failure.reason, failure.cause) == (Reason.CHECKPOINT_NOT_FOUND, Cause.USER)
    assert "step 20" in failure.message


def test_what_is_passed_over_is_no_part_of_what_rotation_counts(tmp_path: Path) -> None:
    """A later step that is of no use would take the place of what this attempt seals."""
    place = layout(tmp_path)
    begin(place.run, 1)
    good = seal(place.run, 1, 10, weights=[1.0])
    poisoned = seal(place.run, 1, 20, weights=[float("nan")], noted=False)
    decision = decide(place, run_config(), 2)
    assert [ref.step for ref in decision.known] == [10]
    mark = begin(place.run, 2, known=decision.known, resume=decision.resume)
    own = seal(place.run, 2, 12, weights=[1.0])
    assert rotate(place, mark, 1) == [good]
    assert own.is_dir()
    assert poisoned.is_dir()


def test_required_names_what_became_of_the_checkpoint(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    (seal(run, 1, 20) / "model.safetensors").unlink()
    with pytest.raises(VolumeError, match=r"model.safetensors is missing.*has been moved to"):
        decide(layout(tmp_path), run_config(resume_from="required"), 2, expected=20)


def test_required_of_a_job_that_had_no_checkpoint_begins(tmp_path: Path) -> None:
    decision = decide(layout(tmp_path), run_config(resume_from="required"), 1)
    assert (decision.resume, decision.messages) == (None, ())
    earlier_run(tmp_path)
    resumed = decide(layout(tmp_path), run_config(resume_from="required"), 1).resume
    assert resumed is not None
    assert resumed.step == 40


def test_a_later_job_of_the_name_does_not_go_on_from_what_is_not_finite(tmp_path: Path) -> None:
    earlier = earlier_run(tmp_path)
    seal(earlier.run, 1, 50, weights=[float("nan")])
    decision = decide(layout(tmp_path), run_config(), 1)
    assert decision.resume is not None
    assert decision.resume.step == 40
    assert any("not finite" in message for message in decision.messages)


def test_a_named_checkpoint_that_is_not_finite_is_the_users_to_mend(tmp_path: Path) -> None:
    place = layout(tmp_path / "elsewhere", "old")
    begin(place.run, 1)
    path = str(seal(place.run, 1, 40, weights=[float("inf")]))
    with pytest.raises(VolumeError, match=r"head\.weight") as caught:
        decide(layout(tmp_path), run_config(resume_from=path), 1)
    assert caught.value.failure.cause is Cause.USER


@pytest.mark.parametrize("damage", [damage for name, damage in DAMAGE.items() if name != "gone"])
def test_an_earlier_run_of_which_is_not_known_what_it_trained_is_named(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    damage(earlier_run(tmp_path).run.config)
    decision = decide(layout(tmp_path), run_config(), 1)
    assert decision.resume is None
    assert "run.json" in decision.messages[0]


def test_a_model_is_the_end_also_where_the_mark_of_its_attempt_is_lost(tmp_path: Path) -> None:
    run = layout(tmp_path).run
    begin(run, 1)
    model = seal_model(run, 1)
    for file in (run.attempt(1).record_file, run.attempt(1).record_copy):
        file.write_bytes(b"")
    assert decide(layout(tmp_path), run_config(), 2).model == str(model)


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
    two_ranks = run_config(nodes=1, processes_per_node=2, training_arguments={"per_device_train_batch_size": 4})
    one_rank = run_config(
        "other",
        nodes=1,
        processes_per_node=1,
        training_arguments={"per_device_train_batch_size": 2, "gradient_accumulation_steps": 4},
    )
    assert trains_the_same(two_ranks, one_rank)
    assert not trains_the_same(two_ranks, run_config(nodes=1, processes_per_node=2))


# --- a run knows its data --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("trained_on", [prepared(), prepared(key="other-files-same-rows"), None])
def test_checkpoints_of_the_same_data_are_gone_on_from(tmp_path: Path, trained_on: PreparedTask | None) -> None:
    """Checkpoints of an older release do not tell their data: within a run they are gone on from too."""
    run = layout(tmp_path).run
    begin(run, 1)
    seal(run, 1, 20, trained_on=trained_on)
    decision = decide(layout(tmp_path), run_config(), 2, prepared())
    assert decision.resume is not None
    assert decision.resume.step == 20


@pytest.mark.parametrize(("now", "difference"), OTHERS)
def test_checkpoints_of_other_data_are_left_alone(tmp_path: Path, now: PreparedTask, difference: str) -> None:
    """The attempts that follow neither read nor remove them."""
    place = layout(tmp_path)
    begin(place.run, 1)
    left = [seal(place.run, 1, step, trained_on=prepared()) for step in (10, 20)]
    decision = decide(place, run_config(), 2, now)
    assert (decision.resume, decision.known) == (None, ())
    (message,) = decision.messages
    assert f"{left[1]}, the newest checkpoint of this run, was made from {difference}: it stays there" in message
    mark = begin(place.run, 2, known=decision.known)
    own = [seal(place.run, 2, step, trained_on=now) for step in (2, 4, 6)]
    assert rotate(place, mark, 2) == own[:1]
    again = decide(place, run_config(), 3, now)
    assert again.resume is not None
    assert (again.resume.path, again.messages) == (str(own[2]), ())
    assert all(folder.is_dir() for folder in left)


def test_a_damaged_word_of_its_data_is_damage_and_not_other_data(tmp_path: Path) -> None:
    place = layout(tmp_path)
    begin(place.run, 1)
    seal(place.run, 1, 10, trained_on=prepared())
    newest = seal(place.run, 1, 20, trained_on=prepared())
    note = newest / training_note.NOTE
    note.write_text(note.read_text().replace('"data": "a"', '"data": "b"'))
    decision = decide(place, run_config(), 2, prepared())
    assert decision.resume is not None
    assert decision.resume.step == 10
    assert "checkpoint-20 was damaged" in decision.messages[0]


@pytest.mark.parametrize(("now", "difference"), OTHERS)
def test_an_earlier_run_of_other_data_is_not_continued(tmp_path: Path, now: PreparedTask, difference: str) -> None:
    place = earlier_run(tmp_path, trained_on=prepared())
    assert decide(layout(tmp_path), run_config(), 1, prepared()).resume is not None
    decision = decide(layout(tmp_path), run_config(), 1, now)
    assert decision.resume is None
    (message,) = decision.messages
    assert f"the newest checkpoint of an earlier, unfinished run, was made from {difference}" in message
    assert place.run.attempt(1).checkpoint(40).is_dir()


@pytest.mark.parametrize(
    ("theirs", "goes_on"),
    [(prepared(data="older"), True), (prepared(key="other", data="older"), False), (None, False)],
)
def test_of_an_older_release_what_it_had_prepared_tells(
    tmp_path: Path, theirs: PreparedTask | None, *, goes_on: bool
) -> None:
    place = earlier_run(tmp_path)
    if theirs is not None:
        write_checked(place.run.prepared, theirs)
    decision = decide(layout(tmp_path), run_config(), 1, prepared())
    assert (decision.resume is not None) is goes_on
    assert ("data that is not known to be the same" in decision.messages[0]) is not goes_on


@pytest.mark.parametrize(("now", "difference"), OTHERS)
def test_a_named_checkpoint_of_other_data_is_refused(tmp_path: Path, now: PreparedTask, difference: str) -> None:
    place = earlier_run(tmp_path / "elsewhere", trained_on=prepared())
    path = str(place.run.attempt(1).checkpoint(40))
    with pytest.raises(VolumeError) as caught:
        decide(layout(tmp_path), run_config(resume_from=path), 1, now)
    assert (caught.value.failure.reason, caught.value.failure.cause) == (Reason.CHECKPOINT_MISMATCH, Cause.USER)
    assert difference in caught.value.failure.message


def test_resume_candidates_decide_whether_data_is_needed(tmp_path: Path) -> None:
    """Checkpoints that could be gone on from decide whether data must be known first."""
    place = layout(tmp_path)
    assert not may_go_on(place, run_config(), 1)
    assert may_go_on(place, run_config(resume_from="/a/path"), 1)
    earlier_run(tmp_path)
    assert may_go_on(place, run_config(), 1)
    assert not may_go_on(place, run_config(resume_from="never"), 1)
    begin(place.run, 1)
    seal(place.run, 1, 10)
    assert may_go_on(place, run_config(resume_from="never"), 2)
