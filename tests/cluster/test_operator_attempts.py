"""A gang that loses a pod is replaced as a whole, soon, and the count is in status."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from finetune_trainer.contract.records import Cause, Failure, Outcome, Reason
from tests.support.api import Api
from tests.support.jobs import condition, eventually, finetune_job, status, wait_for_phase
from tests.support.kubelet import PlayedKubelet
from tests.support.operator import Operator


def running(api: Api, kubelet: PlayedKubelet, **spec: Any) -> None:
    """The job `yelp` trains in its first attempt."""
    api.create(finetune_job(**spec))
    eventually("two pods", lambda: len(kubelet.pods(1)) == 2)
    kubelet.report(1, step=3)
    kubelet.run(1)
    wait_for_phase(api, "Running")


def replaced(api: Api, kubelet: PlayedKubelet, attempt: int) -> None:
    """The gang of this attempt is made, and trains."""
    eventually("the next gang", lambda: len(kubelet.pods(attempt)) == 2, show=lambda: status(api))
    kubelet.report(attempt)
    kubelet.run(attempt)
    eventually("it trains", lambda: (status(api)["attempt"], status(api)["phase"]) == (attempt, "Running"))


def restarts(api: Api) -> dict[str, int]:
    counts: dict[str, int] = status(api).get("restarts") or {}
    return {cause: count for cause, count in counts.items() if count}


def test_a_pod_that_crashes(api: Api, claim: str, kubelet: PlayedKubelet, operator: Operator) -> None:
    before = operator.metrics()
    running(api, kubelet)
    kubelet.crash(kubelet.pods(1)[1])
    eventually("a new gang", lambda: len(kubelet.pods(2)) == 2)
    eventually("the old one is told to end", lambda: (api.get("Job", "yelp-train-1") or {})["spec"].get("suspend"))
    eventually("Restarting", lambda: status(api).get("phase") == "Restarting")
    kubelet.report(2, step=5)
    kubelet.run(2)
    again = wait_for_phase(api, "Running")
    assert (again["attempt"], restarts(api)) == (2, {"error": 1})
    kubelet.succeed(2, step=100)
    wait_for_phase(api, "Succeeded")
    measured = operator.metrics()
    restarted = 'finetune_operator_job_restarts_total{reason="error"}'
    recovered = "finetune_operator_recovery_duration_seconds_count"
    assert measured[restarted] - before.get(restarted, 0) == 1
    assert measured[recovered] - before[recovered] == 1
    assert measured['finetune_operator_jobs{phase="Succeeded"}'] >= 1


def test_what_accelerators_were_used_for_is_counted(
    api: Api, claim: str, kubelet: PlayedKubelet, operator: Operator
) -> None:
    before = operator.metrics()
    api.create(finetune_job(resources={"limits": {"nvidia.com/gpu": 2}}))
    eventually("a pod that prepares", lambda: kubelet.pods(1, "prepare"))
    kubelet.succeed(1, "prepare")
    eventually("two pods", lambda: len(kubelet.pods(1)) == 2)
    started = [datetime.fromisoformat(pod["status"]["startTime"]) for pod in kubelet.run(1)]
    stepped = max(started) + timedelta(seconds=5)
    kubelet.report(1, step=3, updated=stepped)
    wait_for_phase(api, "Running")
    name = 'finetune_operator_accelerator_seconds_total{use="startup"}'
    seconds = eventually("they are counted", lambda: operator.metrics()[name] - before[name])
    held = [(stepped - start).total_seconds() for start in started]
    assert seconds == 2 * sum(held), "two accelerators each"


def test_a_pod_that_is_deleted_costs_no_budget(
    api: Api, claim: str, kubelet: PlayedKubelet, operator: Operator
) -> None:
    running(api, kubelet, backoffLimit=0)
    kubelet.remove(kubelet.pods(1)[0])
    eventually("a new gang", lambda: len(kubelet.pods(2)) == 2, show=lambda: status(api))
    kubelet.report(2)
    kubelet.run(2)
    wait_for_phase(api, "Running")
    eventually("it is counted", lambda: restarts(api), show=lambda: status(api))
    assert restarts(api) == {"preemption": 1}


def test_of_two_pods_deleted_in_one_second_the_first_is_told(
    api: Api, claim: str, kubelet: PlayedKubelet, operator: Operator
) -> None:
    """The Job deletes the second pod, because it is suspended for the first."""
    running(api, kubelet)
    kubelet.remove(kubelet.pods(1)[1])
    eventually("the gang falls", lambda: len(kubelet.pods(2)) == 2, show=lambda: status(api))
    for pod in kubelet.pods(1):
        kubelet.remove(pod)
    failure = eventually("the cause", lambda: status(api).get("failure"), show=lambda: status(api))
    assert (failure["reason"], failure["node"]) == ("PodDeleted", 1)
    assert "node 1" in failure["message"]


def test_each_crash_costs_and_at_last_it_is_failed(
    api: Api, claim: str, kubelet: PlayedKubelet, operator: Operator
) -> None:
    running(api, kubelet, backoffLimit=1)
    for pod in kubelet.pods(1):
        kubelet.crash(pod)
    eventually("the second gang", lambda: len(kubelet.pods(2)) == 2, show=lambda: status(api))
    kubelet.report(2)
    kubelet.run(2)
    wait_for_phase(api, "Running")
    for pod in kubelet.pods(2):
        kubelet.crash(pod, 137)
    failed = wait_for_phase(api, "Failed")
    assert failed["failure"]["attempt"] == 2
    assert condition(api, "Failed")["status"] == "True"
    assert api.get("Job", "yelp-train-3") is None


def test_a_users_mistake_fails_at_once(api: Api, claim: str, kubelet: PlayedKubelet, operator: Operator) -> None:
    running(api, kubelet)
    failure = Failure(reason=Reason.COLUMN_NOT_FOUND, cause=Cause.USER, message="there is no column 'text'")
    kubelet.end(kubelet.pods(1)[0], kubelet.record(1, "train", 0, Outcome.FAILED, failure=failure))
    failed = wait_for_phase(api, "Failed")
    assert "no column 'text'" in failed["failure"]["message"]
    assert restarts(api) == {}
    eventually(
        "the gang gives back what it holds", lambda: (api.get("Job", "yelp-train-1") or {})["spec"].get("suspend")
    )


def test_raising_retry_starts_a_failed_job_again(
    api: Api, claim: str, kubelet: PlayedKubelet, operator: Operator
) -> None:
    running(api, kubelet, backoffLimit=0)
    kubelet.crash(kubelet.pods(1)[0])
    wait_for_phase(api, "Failed")
    api.patch("FineTuneJob", "yelp", {"spec": {"retry": 1}})
    eventually("the second gang", lambda: len(kubelet.pods(2)) == 2, show=lambda: status(api))
    seen = wait_for_phase(api, "Starting")
    assert (seen["attempt"], condition(api, "Failed")["status"]) == (2, "False")


def test_older_attempts_are_removed_and_the_last_two_keep_their_logs(
    api: Api, claim: str, kubelet: PlayedKubelet, operator: Operator
) -> None:
    running(api, kubelet)
    for attempt in (1, 2):
        kubelet.remove(kubelet.pods(attempt)[1])
        replaced(api, kubelet, attempt + 1)
        for pod in kubelet.pods(attempt):
            kubelet.remove(pod)
    eventually("the first is removed", lambda: api.get("Job", "yelp-train-1") is None, show=lambda: status(api))
    assert sorted(job["metadata"]["name"] for job in api.list("Job")) == ["yelp-train-2", "yelp-train-3"]
