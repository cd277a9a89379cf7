"""Every mistake that only the cluster can tell of: said within 2 s, all at once, and mended all at once.

The jobs of all rows are in one namespace: one for each would cost a minute. A good job beside them succeeds meanwhile.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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

BOUND_SECONDS = 2.0
SLACK_SECONDS = 2.0
"""All jobs are created within a moment, on a machine that runs the cluster as well."""
MENDED_SECONDS = 20.0
by_name = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


@dataclass(frozen=True)
class Seen:
    """A job when its condition Validated first was what was waited for."""

    seconds: float
    body: Manifest

    @property
    def status(self) -> Manifest:
        found: Manifest = self.body["status"]
        return found

    @property
    def validated(self) -> Manifest:
        return _validated(self.body)


@pytest.fixture(scope="module")
def api(control_plane: Client) -> Iterator[Api]:
    """One namespace for all rows."""
    name = f"bad-{uuid.uuid4().hex[:8]}"
    control_plane.create_namespace(name)
    api = Api(control_plane.kubeconfig, name)
    yield api
    delete_classes(api)
    control_plane.delete_namespace(name)


@pytest.fixture(scope="module")
def told(api: Api, operator: Operator) -> Mapping[str, Seen]:
    """What was said of each row's job."""
    api.create(claim("shared"))
    for row in ROWS:
        if row.setup:
            SETUP[row.setup](api, row.name)
    eventually("the lost claim", lambda: _claim_phase(api, "claim-lost") == "Lost")
    created = {}
    for row in ROWS:
        api.create(job_of(row))
        created[row.name] = time.monotonic()
    return seen(api, created, "False")


@pytest.fixture(scope="module")
def mended(api: Api, told: Mapping[str, Seen]) -> Mapping[str, Seen]:
    """What came of each row's job once its mistake was mended, from outside or by an edit."""
    begun = {}
    for row in ROWS:
        if row.mended_by:
            MENDED_BY[row.mended_by](api, row.name)
        else:
            api.patch("FineTuneJob", row.name, {"spec": _edit(job_of(row)["spec"], good_job(row.name)["spec"])})
        begun[row.name] = time.monotonic()
    return seen(api, begun, "True")


def good_job(name: str, **spec: Any) -> Manifest:
    return finetune_job(name, **{"nodes": 1, **spec})


def job_of(row: BadInput) -> Manifest:
    return good_job(row.name, **row.spec)


def seen(api: Api, since: Mapping[str, float], wanted: str) -> Mapping[str, Seen]:
    """Each job when it first has the condition, however long that takes within reason."""
    found: dict[str, Seen] = {}

    def look() -> bool:
        for body in api.list("FineTuneJob"):
            name = body["metadata"]["name"]
            if name in since and name not in found and _validated(body).get("status") == wanted:
                found[name] = Seen(time.monotonic() - since[name], body)
        return len(found) == len(since)

    eventually(f"Validated={wanted}", look, 30, show=lambda: sorted(since.keys() - found.keys()))
    return found


def _validated(body: Manifest) -> Manifest:
    conditions = (body.get("status") or {}).get("conditions") or []
    return next((one for one in conditions if one["type"] == "Validated"), {})


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
def test_it_is_said_within_two_seconds(row: BadInput, told: Mapping[str, Seen]) -> None:
    found = told[row.name]

    assert found.validated["reason"] == row.reason
    assert row.message in found.validated["message"]
    assert found.seconds < BOUND_SECONDS + SLACK_SECONDS
    assert found.status["phase"] == ("Failed" if row in TEMPLATES else "Pending")
    assert found.status.get("attempt") is None, "nothing runs"


def test_each_is_told_in_an_event_too(api: Api, told: Mapping[str, Seen]) -> None:
    def untold() -> list[str]:
        events = {(event["involvedObject"]["name"], event["reason"]) for event in api.list("Event")}
        return [row.name for row in ROWS if (row.name, told[row.name].validated["reason"]) not in events]

    eventually("events", lambda: not untold(), show=untold)
    assert len(told) == len(ROWS)


def test_a_good_job_beside_them_succeeds(api: Api, told: Mapping[str, Seen]) -> None:
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
def test_it_goes_on_once_it_is_mended(row: BadInput, mended: Mapping[str, Seen], api: Api) -> None:
    assert mended[row.name].seconds < MENDED_SECONDS
    assert wait_for_phase(api, "Starting", row.name)["attempt"] == 1
