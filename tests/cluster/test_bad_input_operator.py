"""Every mistake that only the cluster can tell of: said at the first look, all at once, and mended all at once.

The jobs of all rows are in one namespace: one for each would cost a minute. A good job beside them succeeds meanwhile.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.support.api import Api, Manifest
from tests.support.bad_input.operator import ROWS, TEMPLATES
from tests.support.bad_input.operator_objects import CLAIM, MENDED_BY, SETUP, claim, delete_classes
from tests.support.bad_input.row import BadInput
from tests.support.cluster.client import Client
from tests.support.jobs import eventually, finetune_job, wait_for_phase
from tests.support.kubelet import PlayedKubelet
from tests.support.operator import Operator
from tests.support.recorder import Recorder

by_name = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


@pytest.fixture(scope="module")
def api(control_plane: Client) -> Iterator[Api]:
    """The API in one namespace for all rows."""
    name = f"bad-{uuid.uuid4().hex[:8]}"
    control_plane.create_namespace(name)
    api = Api(control_plane.kubeconfig, name)
    yield api
    delete_classes(api)
    control_plane.delete_namespace(name)


@pytest.fixture(scope="module")
def first_statuses(api: Api, operator: Operator) -> Mapping[str, Manifest]:
    """The first status that each row's job ever had."""
    api.create(claim("shared"))
    for row in ROWS:
        if row.setup:
            SETUP[row.setup](api, row.name)
    eventually("the lost claim", lambda: _claim_phase(api, "claim-lost") == "Lost")
    with Recorder(api) as recorder:
        for row in ROWS:
            api.create(job_of(row))

        def untold() -> list[str]:
            return [row.name for row in ROWS if recorder.first(row.name, _has_status) is None]

        eventually("a status of each", lambda: not untold(), show=untold)
        bodies = {row.name: recorder.first(row.name, _has_status) for row in ROWS}
    return {name: body["status"] for name, body in bodies.items() if body is not None}


@pytest.fixture(scope="module")
def mended(api: Api, first_statuses: Mapping[str, Manifest]) -> None:
    """Mend the mistake of each row's job, from outside or by an edit."""
    for row in ROWS:
        if row.mended_by:
            MENDED_BY[row.mended_by](api, row.name)
        else:
            api.patch("FineTuneJob", row.name, {"spec": _edit(job_of(row)["spec"], good_job(row.name)["spec"])})


def good_job(name: str, **spec: Any) -> Manifest:
    return finetune_job(name, **{"nodes": 1, **spec})


def job_of(row: BadInput) -> Manifest:
    return good_job(row.name, **row.spec)


def _has_status(body: Manifest) -> bool:
    return bool(body.get("status"))


def _validated(status: Manifest) -> Manifest:
    return next((condition for condition in status.get("conditions") or () if condition["type"] == "Validated"), {})


def _claim_phase(api: Api, name: str) -> str | None:
    phase: str | None = ((api.get(CLAIM, name) or {}).get("status") or {}).get("phase")
    return phase


def _edit(bad: Manifest, good: Manifest) -> Manifest:
    """The merge patch that makes one spec the other."""
    change: Manifest = {}
    for key in bad.keys() | good.keys():
        if key not in good:
            change[key] = None
        elif isinstance(good[key], dict) and isinstance(bad.get(key), dict):
            change[key] = _edit(bad[key], good[key])
        else:
            change[key] = good[key]
    return change


@by_name
def test_it_is_the_first_thing_that_is_said(row: BadInput, first_statuses: Mapping[str, Manifest]) -> None:
    """The mistake is said at the first look, before anything of the job is made that runs: the next look is a pause later."""
    validated = _validated(first_statuses[row.name])

    assert (validated["status"], validated["reason"]) == ("False", row.reason)
    assert row.message in validated["message"]
    assert first_statuses[row.name]["phase"] == ("Failed" if row in TEMPLATES else "Pending")
    assert first_statuses[row.name].get("attempt") is None, "nothing runs"


def test_each_is_told_in_an_event_too(api: Api, first_statuses: Mapping[str, Manifest]) -> None:
    def untold() -> list[str]:
        events = {(event["involvedObject"]["name"], event["reason"]) for event in api.list("Event")}
        return [row.name for row in ROWS if (row.name, _validated(first_statuses[row.name])["reason"]) not in events]

    eventually("events", lambda: not untold(), show=untold)
    assert len(first_statuses) == len(ROWS)


def test_a_good_job_beside_them_succeeds(api: Api, first_statuses: Mapping[str, Manifest]) -> None:
    api.create(good_job("good"))
    with PlayedKubelet(api, "good") as kubelet:
        eventually("its pod", lambda: kubelet.pods(1))
        kubelet.report(1, step=1)
        kubelet.run(1)
        wait_for_phase(api, "Running", "good")
        kubelet.succeed(1, step=100)
        end = wait_for_phase(api, "Succeeded", "good")
    assert (end["attempt"], end.get("failure")) == (1, None)


@by_name
@pytest.mark.usefixtures("mended")
def test_it_goes_on_once_it_is_mended(row: BadInput, api: Api) -> None:
    status = wait_for_phase(api, "Starting", row.name)
    assert (status["attempt"], _validated(status)["status"]) == (1, "True")
