"""The result record fits into a termination message."""

from datetime import UTC, datetime
from pathlib import Path

from finetune_trainer.config import RESULT_RECORD_MAX_BYTES, Cause, Failure, Outcome, Reason, ResultRecord
from finetune_trainer.launch.records import fit, write_to_termination_log

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def record(message: str, messages: tuple[str, ...] = ()) -> ResultRecord:
    failure = Failure(reason=Reason.RANK_FAILED, cause=Cause.ERROR, message=message, rank=3)
    return ResultRecord(
        role="train",
        uid="u",
        attempt=2,
        outcome=Outcome.FAILED,
        failure=failure,
        started=NOW,
        finished=NOW,
        messages=messages,
    )


def test_a_short_record_stays_as_it_is() -> None:
    assert fit(record("short", ("note",))) == record("short", ("note",))


def test_a_long_message_keeps_its_beginning_and_its_end() -> None:
    text = "FIRST " + 'x\n"ä€' * 5000 + " LAST"
    fitted = fit(record(text))
    assert len(fitted.to_json().encode()) <= RESULT_RECORD_MAX_BYTES
    assert len(fitted.to_json().encode()) > RESULT_RECORD_MAX_BYTES - 50
    assert fitted.failure is not None
    assert fitted.failure.message.startswith("FIRST")
    assert fitted.failure.message.endswith("LAST")


def test_notes_go_before_the_failure() -> None:
    fitted = fit(record("why", tuple("note" * 100 for _ in range(50))))
    assert fitted.failure is not None
    assert fitted.failure.message == "why"
    assert 0 < len(fitted.messages) < 50


def test_the_termination_log_is_overwritten_in_place(tmp_path: Path) -> None:
    file = tmp_path / "log"
    file.write_text("x" * 9000)
    inode = file.stat().st_ino
    write_to_termination_log(file, fit(record("y" * 9000)))
    assert file.stat().st_ino == inode
    assert file.stat().st_size <= RESULT_RECORD_MAX_BYTES
    assert ResultRecord.model_validate_json(file.read_text()).attempt == 2
