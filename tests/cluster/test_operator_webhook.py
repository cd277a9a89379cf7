"""An admission webhook that is slow, broken, or refuses what the operator must do: it is said, and others go on."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.admission import Admission, webhook_on_jobs
from tests.support.api import Api, Manifest
from tests.support.audit import code, is_request, requests
from tests.support.cluster.control_plane import ControlPlane
from tests.support.jobs import condition, eventually, finetune_job, status, wait_for_phase
from tests.support.kubelet import PlayedKubelet
from tests.support.operator import Operator

SLOW_JOBS = 40
"""Number of jobs whose creation is slow: more than are worked on at the same time."""


@pytest.fixture
def neighbour(audited: ControlPlane) -> Iterator[Api]:
    """The API in another tenant's namespace, which has a claim."""
    name = f"neighbour-{uuid.uuid4().hex[:8]}"
    audited.create_namespace(name)
    neighbour = Api(audited.kubeconfig, name)
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}, "storageClassName": ""}
    neighbour.create(
        {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "shared"}, "spec": spec}
    )
    yield neighbour
    audited.delete_namespace(name)


@pytest.fixture
def admission(audited: ControlPlane, api: Api) -> Iterator[Admission]:
    with webhook_on_jobs(audited, api) as admission:
        yield admission


def test_a_tenants_slow_webhook_holds_up_nobody_else(
    audited: ControlPlane, api: Api, neighbour: Api, claim: str, operator: Operator, admission: Admission
) -> None:
    admission.open.clear()
    for number in range(SLOW_JOBS):
        api.create(finetune_job(f"slow-{number}"))
    held_job = eventually("it is told", lambda: _told(api, "CreateUnanswered"))
    neighbour.create(finetune_job())
    with PlayedKubelet(neighbour, "yelp") as kubelet:
        eventually("two pods", lambda: len(kubelet.pods(1)) == 2)
        kubelet.report(1, step=1)
        kubelet.run(1)
        wait_for_phase(neighbour, "Running")
        kubelet.succeed(1, step=100)
        wait_for_phase(neighbour, "Succeeded")
    answered = [
        request
        for request in requests(audited, api.namespace)
        if is_request(request, "create", "jobs") and code(request) == 201
    ]
    assert not answered, "all that came before the slow one's first answer"
    assert f"the creation of Job '{held_job}-train-1'" in condition(api, "Validated", held_job)["message"]

    admission.open.set()
    eventually("all have their gangs", lambda: len(api.list("Job")) == SLOW_JOBS, show=lambda: len(api.list("Job")))
    assert wait_for_phase(api, "Starting", held_job)["attempt"] == 1


def test_a_broken_webhook_is_told_after_the_first_try_and_made_up_for(
    audited: ControlPlane, api: Api, claim: str, operator: Operator, admission: Admission
) -> None:
    admission.broken = True
    api.create(finetune_job())
    eventually("it is told", lambda: _told(api, "CreateUnavailable"))
    message = condition(api, "Validated")["message"]
    assert "Job 'yelp-train-1'" in message
    assert "failed calling webhook" in message
    assert condition(api, "Reconciling")["message"] == message

    done = requests(audited, api.namespace)
    first = next(number for number, request in enumerate(done) if is_request(request, "update", "finetunejobs"))
    tried = [code(request) for request in done[:first] if is_request(request, "create", "jobs")]
    assert tried.count(500) == 1, "it is told before it is tried again"

    admission.broken = False
    assert wait_for_phase(api, "Starting")["attempt"] == 1


def test_a_suspension_that_is_refused_is_told_once_and_tried_again(
    audited: ControlPlane, api: Api, claim: str, operator: Operator, admission: Admission
) -> None:
    """The job is to fail, and can't give back what its Job holds."""
    api.create(finetune_job())
    wait_for_phase(api, "Starting")
    admission.refused = frozenset({"UPDATE"})
    api.patch("FineTuneJob", "yelp", {"spec": {"activeDeadlineSeconds": 1}})
    reconciling = eventually("it is told", lambda: _retrying(api), show=lambda: status(api))
    assert "not on a Sunday" in reconciling["message"]
    assert "PATCH" in reconciling["message"]
    assert "jobs/yelp-train-1" in reconciling["message"]
    eventually("three tries", lambda: _patches_since_told(audited, api) >= 2)
    # On a busy machine there is more to tell, and that it is over: another answer than the refusal, or none within two seconds.
    requests_since = _since_told(audited, api)
    answers = [(request["verb"], request["objectRef"].get("resource"), code(request)) for request in requests_since]
    others = [answer for answer in answers if answer[2] >= 400 and answer != ("patch", "jobs", 403)]
    late = operator.log.read_text().count("no answer yet")
    updates = answers.count(("update", "finetunejobs", 200))
    assert updates <= 2 * (len(others) + late), f"{updates} updates, {late} late answers; {answers}"

    admission.refused = frozenset()
    failed = wait_for_phase(api, "Failed")
    assert failed["failure"]["reason"] == "DeadlineExceeded"
    assert condition(api, "Reconciling")["status"] == "False"


def _told(api: Api, reason: str) -> str | None:
    """Return the name of a job that has this reason."""
    for job in api.list("FineTuneJob"):
        if ((job.get("status") or {}).get("summary") or {}).get("reason") == reason:
            name: str = job["metadata"]["name"]
            return name
    return None


def _retrying(api: Api) -> Manifest | None:
    reconciling = condition(api, "Reconciling")
    return reconciling if reconciling.get("reason") == "Retrying" else None


def _patches_since_told(cluster: ControlPlane, api: Api) -> int:
    return sum(is_request(request, "patch", "jobs") for request in _since_told(cluster, api))


def _since_told(cluster: ControlPlane, api: Api) -> list[dict[str, Any]]:
    """The operator's requests after the status that followed on the first refusal."""
    done = requests(cluster, api.namespace)
    refused = next(
        number for number, request in enumerate(done) if is_request(request, "patch", "jobs") and code(request) == 403
    )
    status_number = next(
        number
        for number, request in enumerate(done)
        if number > refused and is_request(request, "update", "finetunejobs")
    )
    return done[status_number + 1 :]
