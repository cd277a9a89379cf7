"""What a person is told while a job runs: each thing once, in order."""

from __future__ import annotations

from datetime import UTC, datetime

from finetune_operator.cli.progress_log import ProgressLog, gist, steps
from finetune_operator.plan.types import EventNote, Manifest
from finetune_trainer.contract.prepared import PrepareSummary
from finetune_trainer.contract.records import CheckpointRef, PodPhase, Progress

NOW = datetime(2026, 1, 2, tzinfo=UTC)
RUNNING: Manifest = {"phase": "Running", "attempt": 1}


def answer(phase: PodPhase, **update: object) -> Progress:
    return Progress.model_validate({"uid": "u", "attempt": 1, "phase": phase, **update})


def test_each_phase_is_told_once() -> None:
    story = ProgressLog()
    phases = (PodPhase.WAITING, PodPhase.PREPARING, PodPhase.STARTING, PodPhase.TRAINING, PodPhase.EVALUATING)
    lines = [line for phase in phases for _ in range(2) for line in story.lines(RUNNING, answer(phase), ())]
    assert [line.head for line in lines] == ["Preparing", "Starting", "Training"]


def test_what_was_prepared_is_told_once_whoever_prepared_it() -> None:
    summary = PrepareSummary(train_rows=1000, validation_rows=200, labels=("bad", "good"))
    inline = ProgressLog().lines(RUNNING, answer(PodPhase.WAITING, prepared=summary), ())
    assert [(line.head, line.text) for line in inline] == [
        ("Prepared", "1,000 train and 200 validation rows, 2 labels")
    ]
    story, message = ProgressLog(), f"model and data are prepared: {summary.text}"
    by_job = {**RUNNING, "conditions": [{"type": "Prepared", "status": "True", "message": message}]}
    lines = [line for _ in range(2) for line in story.lines(by_job, None, ())]
    assert [(line.head, line.text) for line in lines] == [("Prepared", summary.text)]
    silent = {"conditions": [{"type": "Prepared", "status": "True", "message": "model and data are prepared"}]}
    assert list(ProgressLog().lines(silent, None, ())) == []


def test_a_resumed_attempt_says_from_where() -> None:
    checkpoint = CheckpointRef(step=40, path="/output/x", time=NOW)
    progress = answer(PodPhase.TRAINING, total_steps=100, resumed_from=checkpoint)
    (line,) = ProgressLog().lines(RUNNING, progress, ())
    assert line.text == "100 steps, going on from the checkpoint of step 40"


def test_progress_of_another_attempt_tells_nothing() -> None:
    assert list(ProgressLog().lines({"phase": "Restarting", "attempt": 2}, answer(PodPhase.TRAINING), ())) == []


def test_warnings_messages_and_evaluations_are_told_once() -> None:
    story, status = ProgressLog(), {**RUNNING, "messages": ["fp16 runs as fp32"]}
    events = (
        EventNote("Warning", "Restarting", "rank 1 fell. Last lines:\nTraceback"),
        EventNote("Normal", "Started", "attempt 1"),
    )
    progress = answer(PodPhase.EVALUATING, evaluation={"eval_accuracy": 0.5, "eval_runtime": 3.0})
    lines = [line for _ in range(2) for line in story.lines(status, progress, events)]
    assert [(line.head, line.text) for line in lines] == [
        ("Restarting", "rank 1 fell."),
        ("Evaluated", "accuracy 0.5"),
        ("Note", "fp16 runs as fp32"),
    ]
    assert lines[0].warning


def test_numbers_are_shown_as_far_as_they_are_known() -> None:
    progress = {"step": 3, "totalSteps": 9, "loss": 0.51234, "samplesPerSecond": 41.6, "etaSeconds": 7}
    assert steps({"progress": progress}) == "step 3/9, loss 0.5123, 42 samples/s, 7 s left"
    assert steps({"progress": {"totalSteps": 9}}) == "step 0/9"
    assert steps({}) == ""


def test_of_an_error_with_a_traceback_the_error_is_told() -> None:
    traceback = 'attempt 1 ended (RankFailed):   File "train.py", line 47, in run\n    train()\nValueError: no rows'
    assert gist(traceback) == "attempt 1 ended (RankFailed): ValueError: no rows"
    assert gist("one line") == "one line"
    assert gist("") == ""


def test_publishing_is_told_once() -> None:
    story, status = ProgressLog(), {"phase": "Publishing", "attempt": 2, "publishAttempt": 1}
    lines = [line for _ in range(2) for line in story.lines(status, None, ())]
    assert [(line.head, line.text) for line in lines] == [("Publishing", "the model goes to the Hub")]
