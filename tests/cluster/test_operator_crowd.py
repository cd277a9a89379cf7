"""Many jobs at once: all get their pods before any of them is told about at length."""

from __future__ import annotations

from tests.cluster.conftest import StartOperator
from tests.support.api import Api
from tests.support.cluster.control_plane import ControlPlane
from tests.support.jobs import eventually, finetune_job, status

JOBS = 10


def test_pods_for_all_come_before_status_and_events(
    audited: ControlPlane, api: Api, claim: str, start_operator: StartOperator
) -> None:
    names = [f"yelp-{number}" for number in range(JOBS)]
    for name in names:
        api.create(finetune_job(name))
    begun = len(audited.audit_events())
    start_operator(concurrency=1)
    eventually("all are told of", lambda: all(status(api, name).get("attempt") == 1 for name in names))

    done = [event for event in audited.audit_events()[begun:] if event["stage"] == "ResponseComplete"]
    ours = [event for event in done if (event.get("objectRef") or {}).get("namespace") == api.namespace]
    made = [number for number, event in enumerate(ours) if _is(event, "create", "jobs")]
    status_updates = [number for number, event in enumerate(ours) if _is(event, "update", "finetunejobs")]
    assert len(made) == JOBS
    assert sum(number < status_updates[0] for number in made) >= JOBS - 1, "the last one has nobody to wait for"
    reasons = [event["reason"] for event in api.list("Event") if event["involvedObject"]["kind"] == "FineTuneJob"]
    assert reasons.count("AttemptStarted") == JOBS


def _is(event: dict[str, object], verb: str, resource: str) -> bool:
    reference = event["objectRef"]
    assert isinstance(reference, dict)
    return event["verb"] == verb and reference.get("resource") == resource
