"""Conditions keep their transition time until their status flips."""

from __future__ import annotations

from datetime import timedelta

from finetune_operator.api.status import ConditionType, FailureStatus, FineTuneJobStatus, Phase
from finetune_operator.plan.conditions import Fact, Facts, build, find, holds
from tests.support.simulated_cluster import START

LATER = START + timedelta(seconds=9, microseconds=123)
VALID: Facts = {ConditionType.VALIDATED: Fact(True, "Valid", "fine")}


def status(facts: Facts, phase: Phase = Phase.STARTING, old: FineTuneJobStatus | None = None) -> FineTuneJobStatus:
    base = (old or FineTuneJobStatus()).model_copy(update={"phase": phase})
    now = LATER if old else START
    return base.model_copy(update={"conditions": build(base, facts, 1, now)})


def test_every_type_is_there_once() -> None:
    built = status({**VALID, ConditionType.CHECKPOINT_LOST: Fact(True, "NotOnVolume", "gone")})
    assert [condition.type for condition in built.conditions] == list(ConditionType)


def test_a_job_that_never_lost_a_checkpoint_has_no_condition_about_that() -> None:
    built = status(VALID)
    assert [condition.type for condition in built.conditions] == [
        kind for kind in ConditionType if kind is not ConditionType.CHECKPOINT_LOST
    ]


def test_another_reason_keeps_the_time_another_status_does_not() -> None:
    first = status({ConditionType.RUNNING: Fact(False, "Starting", "0 of 2")})
    again = status({ConditionType.RUNNING: Fact(False, "FailedScheduling", "no place")}, old=first)
    flipped = status({ConditionType.RUNNING: Fact(True, "Training", "2 of 2")}, Phase.RUNNING, old=again)
    times = [
        condition.last_transition_time
        for job_status in (first, again, flipped)
        if (condition := find(job_status, ConditionType.RUNNING))
    ]
    assert times == [START, START, LATER.replace(microsecond=0)]


def test_what_is_not_stated_stays_as_it_was() -> None:
    first = status(VALID)
    second = status({ConditionType.PREPARED: Fact(True, "Prepared", "done")}, old=first)
    assert find(second, ConditionType.VALIDATED) == find(first, ConditionType.VALIDATED)
    assert holds(second, ConditionType.PREPARED)


def test_the_verdict_stays_the_reason_of_a_failed_job() -> None:
    failure = FailureStatus(reason="OutOfMemory", message="node 1 ran out of memory.", resolution="Give more.")
    base = FineTuneJobStatus(failure=failure)
    first = status({ConditionType.FAILED: Fact(True, "BackoffLimitExceeded", "")}, Phase.FAILED, old=base)
    again = status({}, Phase.FAILED, old=first)
    for job_status in (first, again):
        failed, stalled = find(job_status, ConditionType.FAILED), find(job_status, ConditionType.STALLED)
        assert failed is not None
        assert stalled is not None
        assert (failed.reason, failed.status, stalled.status) == ("BackoffLimitExceeded", "True", "True")
        assert "ran out of memory" in failed.message
        assert "Give more." in failed.message


def test_long_messages_are_cut() -> None:
    condition = find(status({ConditionType.VALIDATED: Fact(False, "Many", "x" * 9000)}), ConditionType.VALIDATED)
    assert condition is not None
    assert len(condition.message) == 4096
