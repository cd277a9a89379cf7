"""What the API server refuses to create: tried again with pauses, and at once where an edit mends it."""

from __future__ import annotations

from typing import Any

from tests.cluster.conftest import StartOperator
from tests.support.api import Api, Manifest
from tests.support.cluster.control_plane import ControlPlane
from tests.support.jobs import condition, eventually, finetune_job, status, wait_for_phase

MISSPELT: Manifest = {"template": {"spec": {"schedulerName": "nobody", "tolerationz": []}}}
MENDED: Manifest = {"template": {"spec": {"schedulerName": "nobody", "tolerationz": None}}}


def test_an_edit_that_mends_is_tried_at_once_and_owes_nothing_to_what_was_refused_before(
    audited: ControlPlane, api: Api, claim: str, start_operator: StartOperator
) -> None:
    start_operator()
    api.create(finetune_job(**MISSPELT))
    eventually("the third refusal", lambda: len(_creations(audited, api)) >= 3)
    assert set(_creations(audited, api)) == {400}
    refusal = condition(api, "Validated")
    assert (refusal["reason"], status(api)["observedGeneration"]) == ("CreateBadRequest", 1)
    assert "tolerationz" in refusal["message"]

    api.patch("FineTuneJob", "yelp", {"spec": MENDED})
    found = wait_for_phase(api, "Starting")
    assert (found["observedGeneration"], found["attempt"]) == (2, 1)

    done = _requests(audited, api)
    edit = next(number for number, one in enumerate(done) if _is(one, "patch", "finetunejobs"))
    made = next(number for number, one in enumerate(done) if _is(one, "create", "jobs") and _code(one) == 201)
    between = done[edit + 1 : made]
    assert not [one for one in between if _is(one, "create", "jobs")], "none was refused after the edit"
    assert not [one for one in between if _is(one, "update", "finetunejobs")], "nothing was said in between"


def _creations(cluster: ControlPlane, api: Api) -> list[int]:
    """What was answered to the creations of Jobs."""
    return [_code(one) for one in _requests(cluster, api) if _is(one, "create", "jobs")]


def _requests(cluster: ControlPlane, api: Api) -> list[dict[str, Any]]:
    done = [event for event in cluster.audit_events() if event["stage"] == "ResponseComplete"]
    return [event for event in done if (event.get("objectRef") or {}).get("namespace") == api.namespace]


def _is(event: dict[str, Any], verb: str, resource: str) -> bool:
    return bool(event["verb"] == verb and event["objectRef"].get("resource") == resource)


def _code(event: dict[str, Any]) -> int:
    code: int = event["responseStatus"]["code"]
    return code
