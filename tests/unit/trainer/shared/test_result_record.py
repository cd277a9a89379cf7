"""The result record fits into a termination message."""

from datetime import UTC, datetime
from pathlib import Path

from finetune_operator.plan.observed.bounds import ANSWER_MAX_BYTES
from finetune_trainer.contract.prepared import PrepareSummary
from finetune_trainer.contract.records import RESULT_RECORD_MAX_BYTES, Cause, Failure, Outcome, Reason, ResultRecord
from finetune_trainer.launch.progress_state import ProgressState
from finetune_trainer.shared.result_record import fit, fit_gang, write_to_termination_log

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


def test_a_record_of_prepare_fits_whatever_it_holds() -> None:
    labels = tuple(f"label {number}" for number in range(2000))
    prepared = PrepareSummary(train_rows=9000, labels=labels)
    whole = record('ä"\n' * 5000, ("said " * 500,) * 40).model_copy(update={"role": "prepare", "prepared": prepared})
    assert len(fit(whole).to_json().encode()) <= RESULT_RECORD_MAX_BYTES
    done = whole.model_copy(update={"failure": None, "outcome": Outcome.SUCCEEDED, "messages": ("a note", "another")})
    assert fit(done) == done.model_copy(update={"prepared": None}), "notes are kept where the labels made it long"


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


def test_record_of_a_thousand_nodes_is_read() -> None:
    """Each node left as much as fits in a termination message; one node was the cause."""
    echo = Failure(reason=Reason.PEER_LOST, cause=Cause.ERROR, message="lost its peer " + "x" * 2000)
    gang = [
        fit(record("Traceback " + "y" * 9000, ("note",) * 9).model_copy(update={"node": node, "failure": echo}))
        for node in range(1000)
    ]
    cause = fit(record("RuntimeError: it was me " + "z" * 9000))
    gang[777] = cause.model_copy(update={"node": 777, "step": 41})
    gang[0] = gang[0].model_copy(update={"step": 42, "evaluation": {"accuracy": 0.5}})
    progress_state = ProgressState("u", 3)
    progress_state.earlier = fit_gang(gang)
    progress_state.say(f"{number} " + "m" * 5000 for number in range(500))
    document = progress_state.document()
    assert len(document.to_json().encode()) <= ANSWER_MAX_BYTES
    kept = {node_record.node: node_record for node_record in document.earlier}
    assert kept[0] == gang[0]
    failure = kept[777].failure
    assert failure is not None
    assert failure.message.startswith("RuntimeError: it was me")
    assert kept[777].step == 41
    assert 100 < len(kept) < 1000
    assert list(kept) == sorted(kept)


def test_the_records_of_a_small_gang_all_stay() -> None:
    gang = tuple(fit(record("why")).model_copy(update={"node": node}) for node in range(4))
    assert fit_gang(reversed(gang)) == gang
