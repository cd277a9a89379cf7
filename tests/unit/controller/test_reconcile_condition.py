"""Why a reconcile could not go on, as the job's status says it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from finetune_operator.api.status import FineTuneJobStatus
from finetune_operator.controller.reconcile_condition import troubled_status
from finetune_operator.kube.exceptions import ApiError, Refused, Unanswered, Unavailable, Undecided
from finetune_operator.plan.decide import to_json
from tests.support.simulated import World, begun

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def noted(error: ApiError, request: str) -> ApiError:
    error.add_note(request)
    return error


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            noted(Refused(403, "Forbidden", "cannot patch"), "PATCH apis/batch/v1/namespaces/ns/jobs/yelp-train-1"),
            ("cannot patch", "403 Forbidden", "jobs/yelp-train-1", "give the operator the right"),
        ),
        (
            Unavailable(500, "InternalError", "failed calling webhook"),
            ("failed calling webhook", "500", "webhook that"),
        ),
        (Unanswered("Suspend Job 'yelp-train-1'"), ("not answered yet: Suspend Job 'yelp-train-1'", "webhook that")),
        (Undecided("no rest after 8 decisions"), ("no rest after 8 decisions", "log")),
        (KeyError("uid\x1b[31m"), ("an error in the operator: KeyError", "log")),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_cause_is_told_with_the_way_out_and_nothing_else_changes(error: Exception, words: tuple[str, ...]) -> None:
    world = begun()
    before = world.status
    body: dict[str, Any] = {"metadata": {"generation": 7}, "status": before}

    status = troubled_status(body, error, NOW)

    conditions = {condition["type"]: condition for condition in status["conditions"]}
    reconciling = conditions.pop("Reconciling")
    assert (reconciling["status"], reconciling["reason"], reconciling["observedGeneration"]) == ("True", "Retrying", 7)
    assert all(word in reconciling["message"] for word in words), reconciling["message"]
    assert "\x1b" not in reconciling["message"]
    assert conditions == {
        condition["type"]: condition for condition in before["conditions"] if condition["type"] != "Reconciling"
    }
    assert status["observedGeneration"] == before["observedGeneration"], "nothing was learnt about this generation"
    assert status["summary"]["reason"] == "Retrying"
    assert to_json(FineTuneJobStatus.model_validate(status))["phase"] == "Running"


def test_the_same_cause_is_the_same_status() -> None:
    error = Refused(403, "Forbidden", "cannot patch")
    first = troubled_status({"metadata": {}, "status": {}}, error, NOW)
    assert first["phase"] == "Pending"
    assert troubled_status({"metadata": {}, "status": first}, error, NOW + timedelta(minutes=5)) == first


def test_a_reconcile_that_succeeds_takes_it_back() -> None:
    world = World()
    world.status = troubled_status({"metadata": {}, "status": {}}, Refused(403, "Forbidden", "no"), NOW)
    world.wake()
    assert (world.phase, world.condition("Reconciling")["reason"]) == ("Starting", "Starting")
    assert "reason" not in world.status["summary"]
