"""What the API server refuses to create: tried again with pauses, and at once where an edit mends it."""

from __future__ import annotations

from tests.cluster.conftest import StartOperator
from tests.support.api import Api, Manifest
from tests.support.audit import code, is_request, requests
from tests.support.cluster.control_plane import ControlPlane
from tests.support.jobs import condition, eventually, finetune_job, status, wait_for_phase

MISSPELT: Manifest = {"template": {"spec": {"schedulerName": "nobody", "tolerationz": []}}}
MENDED: Manifest = {"template": {"spec": {"schedulerName": "nobody", "tolerationz": None}}}


def test_edit_after_refusal_is_tried_at_once(
    audited: ControlPlane, api: Api, claim: str, start_operator: StartOperator
) -> None:
    """An edit that mends is tried at once, and owes nothing to what was refused before."""
    start_operator()
    api.create(finetune_job(**MISSPELT))
    eventually("the third refusal", lambda: len(_creations(audited, api)) >= 3)
    assert set(_creations(audited, api)) == {400}
    refusal = condition(api, "Validated")
    assert (refusal["reason"], status(api)["observedGeneration"]) == ("CreateBadRequest", 1)
    assert "tolerationz" in refusal["message"]

    api.patch("FineTuneJob", "yelp", {"spec": MENDED})
    starting = wait_for_phase(api, "Starting")
    assert (starting["observedGeneration"], starting["attempt"]) == (2, 1)

    done = requests(audited, api.namespace)
    edit = next(number for number, request in enumerate(done) if is_request(request, "patch", "finetunejobs"))
    made = next(
        number for number, request in enumerate(done) if is_request(request, "create", "jobs") and code(request) == 201
    )
    between = done[edit + 1 : made]
    assert not [request for request in between if is_request(request, "create", "jobs")], (
        "none was refused after the edit"
    )
    assert not [request for request in between if is_request(request, "update", "finetunejobs")], (
        "nothing was said in between"
    )


def _creations(cluster: ControlPlane, api: Api) -> list[int]:
    """Status codes of the answers to the creations of Jobs."""
    return [code(request) for request in requests(cluster, api.namespace) if is_request(request, "create", "jobs")]
