"""Bad input that shows in the pods alone: on real nodes, each mistake is said within seconds, with the way out.

All bad jobs are applied side by side; every row has tests of its own over what came of it. A good job beside them
succeeds at the end. `UPDATE_GOLDEN=1` keeps what the cluster showed as cases for the unit tests.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import pytest

from tests.support import e2e, failures
from tests.support.api import Api, Manifest
from tests.support.bad_input.pods import ROWS
from tests.support.bad_input.row import BadInput
from tests.support.broken_claims import BrokenClaims
from tests.support.cluster.nodes import NodeCluster
from tests.support.commands import wait_for
from tests.support.installed import InstalledOperator
from tests.support.patience import PATIENCE_SECONDS
from tests.support.recorder import Recorder, restricted_namespace, sayings, says

CLAIM = "models"
"""The claim that all jobs write to but those whose claim is what is wrong."""
MENDED = [row for row in ROWS if row.mended_by]


@dataclass
class Told:
    """A row's job when it first said what is wrong, and what the cluster showed then."""

    job: Manifest | None = None
    """The FineTuneJob when it first said so."""
    case: failures.Case | None = None
    """What the cluster showed then."""


@dataclass
class Scene:
    """The bad jobs, side by side in one namespace."""

    cluster: NodeCluster
    api: Api
    recorder: Recorder
    snapshots: dict[str, Told] = field(default_factory=dict)
    ran: dict[str, bool] = field(default_factory=dict)
    """Mended row -> whether its pods ran then."""


@pytest.fixture(scope="module")
def scene(cluster: NodeCluster, operator: InstalledOperator) -> Iterator[Scene]:
    """Apply every bad job, and follow each until it has said what is wrong."""
    with restricted_namespace(cluster, "bad") as namespace:
        api = Api(cluster.kubeconfig, namespace)
        e2e.make_data(cluster, namespace)
        cluster.apply(e2e.claim_manifest(CLAIM), namespace=namespace)
        claims = BrokenClaims(cluster, namespace)
        with Recorder(api) as recorder:
            scene = Scene(cluster, api, recorder, {row.name: Told() for row in ROWS})
            for setup in sorted({row.setup for row in ROWS if row.setup}):
                SETUPS[setup](api, claims)
            for row in ROWS:
                api.create(manifest(row))
            _follow(scene)
            yield scene
    claims.remove()
    cluster.recycle_volumes()


def _follow(scene: Scene) -> None:
    """Keep what the cluster shows at the moment in which a job says what is wrong."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and (waiting := [row for row in ROWS if scene.snapshots[row.name].job is None]):
        for row in waiting:
            body = scene.recorder.first(row.name, partial(says, row.reason, row.message))
            if body is not None:
                case = failures.record(row.name, scene.recorder, row.name, recorded=failures.HERE)
                scene.snapshots[row.name] = Told(body, case)
        time.sleep(0.1)


def manifest(row: BadInput) -> Manifest:
    """The good job with what is wrong."""
    job = good_job(row.name)
    for path, value in row.spec.items():
        *parents, name = path.split(".")
        place = job["spec"]
        for parent in parents:
            place = place.setdefault(parent, {})
        if name == "volumes":
            value = [*place["volumes"], *value]
        place[name] = copy.deepcopy(value)
    return job


def good_job(name: str) -> Manifest:
    job = e2e.job_manifest(name, nodes=1, arguments={"max_steps": 2, "save_steps": 2, "eval_steps": 2})
    return {**job, "spec": {**job["spec"], "backoffLimit": 0, "storage": {"claimName": CLAIM}}}


# --- what rows need, and what mends them -----------------------------------------------------------------------------


def _secret(api: Api, name: str, **values: str) -> None:
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": values}
    if api.get("Secret", name) is None:
        api.create(secret)
    else:
        api.patch("Secret", name, {"stringData": values})


SETUPS: dict[str, Callable[[Api, BrokenClaims], None]] = {
    "half_a_secret": lambda api, claims: _secret(api, "half-a-secret", other="value"),
    "read_only_claim": lambda api, claims: claims.read_only("read-only"),
    "claim_of_root": lambda api, claims: claims.of_root("of-root"),
    "full_claim": lambda api, claims: claims.full("full"),
}
MENDINGS: dict[str, Callable[[Api], None]] = {
    "make_secret": lambda api: _secret(api, "no-such-secret", key="value"),
    "complete_secret": lambda api: _secret(api, "half-a-secret", key="value"),
    "make_token": lambda api: _secret(api, "no-such-token", token="hf_token_of_the_test"),
}


# --- tests -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_it_is_said_with_the_way_out(scene: Scene, row: BadInput) -> None:
    snapshot = scene.snapshots[row.name]
    assert snapshot.job is not None, f"not said: {json.dumps(scene.recorder.newest(row.name).get('status'), indent=1)}"

    events = scene.recorder.events_about(snapshot.job["metadata"]["uid"])
    posted = [event for event in events if event["type"] == "Warning" and row.message[:200] in event["message"]]
    assert posted, [event["message"] for event in events]
    status = snapshot.job["status"]
    assert status["summary"]["reason"] == row.reason
    if status["phase"] == "Failed":
        assert status["failure"]["resolution"]
    else:
        (message,) = {message for reason, message in sayings(snapshot.job) if reason == row.reason}
        assert "What to do: " in message
    assert snapshot.case is not None
    assert row.reason in json.dumps(snapshot.case.said())


@pytest.fixture(scope="module")
def mended(scene: Scene) -> Scene:
    """Make all that is missing, at once; delete a job as soon as its pods run."""
    for mending in sorted({row.mended_by for row in MENDED}):
        MENDINGS[mending](scene.api)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and (left := [row.name for row in MENDED if row.name not in scene.ran]):
        for name in left:
            if any(
                pod["status"].get("phase") in ("Running", "Succeeded", "Failed") for pod in scene.recorder.pods(name)
            ):
                scene.ran[name] = True
                scene.api.delete("FineTuneJob", name)
        time.sleep(0.1)
    return scene


@pytest.mark.parametrize("row", MENDED, ids=lambda row: row.name)
def test_it_goes_on_by_itself_once_what_is_missing_is_there(mended: Scene, row: BadInput) -> None:
    assert mended.ran.get(row.name), mended.recorder.newest(row.name).get("status")
    waited = mended.recorder.first(row.name, partial(says, row.reason, row.message))
    assert waited is not None
    assert waited["status"]["phase"] in ("Preparing", "Starting")


def test_a_good_job_beside_the_bad_ones_succeeds(mended: Scene) -> None:
    mended.api.create(good_job("good"))

    def over() -> bool:
        phase = mended.recorder.versions.get("good", [{}])[-1].get("status", {}).get("phase")
        assert phase != "Failed", mended.recorder.newest("good")
        return bool(phase == "Succeeded")

    wait_for("the good job", over)
    beside = {name for name in mended.recorder.versions if mended.api.get("FineTuneJob", name) is not None}
    assert len(beside) > len(ROWS) - len(MENDED)
