"""Events and the status of what can't be read: values."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.kube.event_manifest import MESSAGE_LIMIT, event
from finetune_operator.plan.status.unparsable_spec import unreadable_status
from finetune_operator.plan.types import EventNote

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
NOTE = EventNote("Normal", "Started", "Attempt 1 has started.")


def body(version: str = "7", **more: Any) -> dict[str, Any]:
    metadata = {"name": "yelp", "namespace": "ns", "uid": "u", "resourceVersion": version, "generation": 3}
    return {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": metadata, "spec": {}, **more}


def unreadable(present: dict[str, Any]) -> ValidationError:
    with pytest.raises(ValidationError) as caught:
        FineTuneJob.parse(present)
    return caught.value


def test_the_same_transition_has_the_same_event() -> None:
    assert event(body(), NOTE, NOW)["metadata"]["name"] == event(body(), NOTE, NOW.replace(hour=9))["metadata"]["name"]
    assert event(body(), NOTE, NOW)["metadata"]["name"] != event(body("8"), NOTE, NOW)["metadata"]["name"]


def test_what_happens_once_has_one_event_whatever_else_was_written() -> None:
    begun = EventNote("Normal", "Training", "attempt 1 has begun", once=True)
    again = EventNote("Normal", "Training", "attempt 2 has begun", once=True)
    assert event(body(), begun, NOW)["metadata"]["name"] == event(body("8"), begun, NOW)["metadata"]["name"]
    assert event(body(), begun, NOW)["metadata"]["name"] != event(body(), again, NOW)["metadata"]["name"]


def test_an_event_names_the_job_and_fits() -> None:
    made = event(body(), EventNote("Warning", "Failed", "x" * 5000), NOW)
    assert made["involvedObject"]["uid"] == "u"
    assert made["lastTimestamp"] == "2026-01-02T03:04:05Z"
    assert len(made["message"]) == MESSAGE_LIMIT


def test_what_can_not_be_read_is_said_field_by_field() -> None:
    present = body(spec={"task": "text-classification", "nodes": "two", "surprise": 1})
    condition = unreadable_status(present, unreadable(present), NOW)["conditions"][0]
    assert (condition["type"], condition["status"], condition["observedGeneration"]) == ("Validated", "False", 3)
    assert "spec.nodes: " in condition["message"]
    assert "spec.storage: Field required" in condition["message"]


def test_what_stands_in_the_status_is_kept() -> None:
    ready = {"type": "Prepared", "status": "True"}
    present = body(status={"phase": "Running", "attempt": 4, "conditions": [ready]})
    status = unreadable_status(present, unreadable(present), NOW)
    assert (status["phase"], status["attempt"]) == ("Running", 4)
    assert ready in status["conditions"]


def test_saying_it_again_changes_nothing() -> None:
    present = body()
    first = unreadable_status(present, unreadable(present), NOW)
    again = body(status=first)
    assert unreadable_status(again, unreadable(again), NOW.replace(day=9)) == first
