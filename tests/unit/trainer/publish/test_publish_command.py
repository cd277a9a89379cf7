"""What the pod that publishes leaves behind, however it ended."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from finetune_trainer.contract.records import Cause, Failure, Outcome, PublishedModel, Reason, ResultRecord
from finetune_trainer.contract.run_config import Env, TaskConfig
from finetune_trainer.publish.publish_command import Result, environment, failure_of, leave, record_of
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.volume import Layout
from tests.support.published import MOMENT, config

MODEL = PublishedModel(repo_id="me/reviews", url="https://hub/me/reviews", commit="a" * 40)


@pytest.fixture
def job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TaskConfig:
    monkeypatch.setenv(Env.TERMINATION_LOG, str(tmp_path / "termination-log"))
    monkeypatch.setenv(Env.ATTEMPT, "3")
    (tmp_path / "output").mkdir()
    return config(tmp_path / "output")


def test_a_success_counts_also_if_it_is_stopped_at_that_moment(job: TaskConfig) -> None:
    record = record_of(job, Result(hub=MODEL, stopped=True), MOMENT)
    assert (record.outcome, record.hub, record.failure) == (Outcome.SUCCEEDED, MODEL, None)
    assert (record.role, record.attempt) == ("publish", 3)


def test_stopped_is_no_failure(job: TaskConfig) -> None:
    record = record_of(job, Result(stopped=True), MOMENT)
    assert (record.outcome, record.failure) == (Outcome.STOPPED, None)


def test_a_request_without_end_is_ended_after_the_deadline(job: TaskConfig) -> None:
    record = record_of(job, Result(), MOMENT)
    assert record.outcome is Outcome.FAILED
    assert record.failure is not None
    assert (record.failure.reason, record.failure.cause) == (Reason.HUB_UNAVAILABLE, Cause.ERROR)


def test_the_record_fits_the_termination_log_and_is_whole_on_the_volume(job: TaskConfig) -> None:
    failure = Failure(reason=Reason.INTERNAL, cause=Cause.ERROR, message="x" * 9000)
    record = record_of(job, Result(failure=failure), MOMENT)
    leave(job, record)
    file = Layout.of(job).run.publish_record
    assert ResultRecord.model_validate_json(file.read_text()) == record
    log = Path(job.output).parent / "termination-log"
    assert log.stat().st_size <= 4096
    assert ResultRecord.model_validate_json(log.read_text()).failure is not None


def test_a_volume_that_takes_nothing_more_loses_no_result(job: TaskConfig, capsys: pytest.CaptureFixture[str]) -> None:
    (Path(job.output) / "reviews").write_text("a file where the job's folder should be")
    leave(job, record_of(job, Result(hub=MODEL), MOMENT))
    assert "the record could not be written to the volume" in capsys.readouterr().err
    log = Path(job.output).parent / "termination-log"
    assert ResultRecord.model_validate_json(log.read_text()).hub == MODEL


def test_what_exceptions_mean(job: TaskConfig, capsys: pytest.CaptureFixture[str]) -> None:
    expected = ExpectedError(Reason.QUOTA_EXCEEDED, "no room")
    assert failure_of(expected, job) == expected.failure
    full = OSError(errno.ENOSPC, "No space left on device", f"{job.output}/reviews/x")
    assert failure_of(full, job).reason is Reason.VOLUME_FULL
    try:
        raise KeyError("a mistake of our own")
    except KeyError as error:
        failure = failure_of(error, job)
    assert (failure.reason, failure.cause) == (Reason.INTERNAL, Cause.ERROR)
    assert failure.message.endswith("KeyError: 'a mistake of our own'")
    assert "Traceback" in capsys.readouterr().err


def test_the_hub_is_asked_whatever_was_set_for_the_training(job: TaskConfig) -> None:
    mirrored = TaskConfig.model_validate({**job.model_dump(), "hub": {"endpoint": "https://hub.example.com/"}})
    assert environment(job)["HF_HUB_OFFLINE"] == environment(mirrored)["HF_HUB_OFFLINE"] == "0"
    assert "HF_HUB_DISABLE_XET" not in environment(job)
    assert environment(mirrored)["HF_HUB_DISABLE_XET"] == "1"
    assert environment(mirrored)["HF_ENDPOINT"] == "https://hub.example.com"
