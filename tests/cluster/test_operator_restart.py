"""An operator that is killed at any moment: the next one carries on, with no child twice and no transition lost."""

from __future__ import annotations

import itertools
from pathlib import Path
from urllib.parse import unquote

from tests.cluster.conftest import ACCOUNT, SYSTEM_NAMESPACE, StartOperator
from tests.support.api import Api, Manifest
from tests.support.cluster.control_plane import ControlPlane
from tests.support.faults import Fault, FaultProxy
from tests.support.jobs import eventually, finetune_job, status, wait_for_phase
from tests.support.kubelet import PlayedKubelet
from tests.support.operator import Operator

USER = f"system:serviceaccount:{SYSTEM_NAMESPACE}:{ACCOUNT}"
DONE = 'finetune_operator_reconcile_total{result="done"}'


class Story:
    """A job from apply to success with a crash in its middle, told by pods alone; the same whoever operates."""

    def __init__(self, api: Api, kubelet: PlayedKubelet) -> None:
        self._api = api
        self._kubelet = kubelet
        self._crashed = False

    def go_on(self) -> bool:
        """Do what comes next, if it is time for it. Return True at the end."""
        seen = status(self._api)
        where = (seen.get("phase"), seen.get("attempt"))
        if where == ("Starting", 1):
            self._run(1)
        elif where == ("Running", 1) and not self._crashed:
            self._kubelet.crash(self._kubelet.pods(1)[1])
            self._crashed = True
        elif where == ("Restarting", 2):
            self._run(2)
        elif where == ("Running", 2):
            self._kubelet.succeed(2, step=100)
        return seen.get("phase") == "Succeeded"

    def _run(self, attempt: int) -> None:
        """Run the pods as kubelets do: only once their ConfigMap is there, and the Service by which nodes meet."""
        pods = self._kubelet.pods(attempt)
        needed = all(self._api.list(kind, labelSelector="finetune.dev/job=yelp") for kind in ("ConfigMap", "Service"))
        if needed and len(pods) == 2 and all(pod["status"]["phase"] == "Pending" for pod in pods):
            self._kubelet.report(attempt, step=3)
            self._kubelet.run(attempt)


def tell(api: Api, kubelet: PlayedKubelet, operate: StartOperator, proxy: FaultProxy, kubeconfig: Path) -> int:
    """Start operators, each as soon as the last was killed, until the story has ended. Return how many there were."""
    story = Story(api, kubelet)
    operators: list[Operator] = []

    def operator() -> Operator:
        if not operators or operators[-1].process.poll() is not None:
            operators.append(operate(kubeconfig, pod_diagnosis_seconds=600))
            proxy.cut = operators[-1].kill
        return operators[-1]

    def step() -> bool:
        operator()
        return story.go_on()

    eventually("the end", step, show=lambda: status(api))
    return len(operators)


def check_outcome(api: Api) -> None:
    end = status(api)
    assert (end["phase"], end["attempt"]) == ("Succeeded", 2)
    assert sum(end["restarts"].values()) == 1
    jobs = sorted(job["metadata"]["name"] for job in api.list("Job"))
    assert jobs == ["yelp-train-1", "yelp-train-2"]
    assert len(api.list("ConfigMap", labelSelector="finetune.dev/job=yelp")) == 1
    assert len(api.list("Pod", labelSelector="finetune.dev/attempt=2")) == 2
    reasons = [event["reason"] for event in api.list("Event") if event["involvedObject"]["kind"] == "FineTuneJob"]
    assert sorted(reasons) == ["AttemptStarted", "AttemptStarted", "Restarting", "Succeeded", "Training", "Training"]


def test_killed_at_every_change(
    api: Api,
    operator_kubeconfig: Path,
    claim: str,
    kubelet: PlayedKubelet,
    start_operator: StartOperator,
    tmp_path: Path,
) -> None:
    """Each change that is made for the first time kills an operator: so one dies between any two changes of the story."""
    with FaultProxy(Api(operator_kubeconfig, api.namespace)) as proxy:
        kubeconfig = proxy.kubeconfig(tmp_path)
        seen: set[tuple[str, ...]] = set()

        def at_first_sight(method: str, path: str, body: Manifest) -> Fault | None:
            status = body.get("status", {})
            change: tuple[str, ...] = (method, path, str(status.get("phase")), str(status.get("attempt")))
            if path.endswith("/events"):
                change = (method, str(body["reason"]), str(body["message"]))
            elif method == "POST":
                change = (method, path, body["metadata"]["name"])
            first = change not in seen
            seen.add(change)
            return Fault.CUT_AFTER if first else None

        proxy.fault = at_first_sight
        api.create(finetune_job())
        operators = tell(api, kubelet, start_operator, proxy, kubeconfig)
    assert operators >= 10
    check_outcome(api)


def test_answers_that_are_lost_and_a_server_that_is_busy(
    api: Api,
    operator_kubeconfig: Path,
    claim: str,
    kubelet: PlayedKubelet,
    start_operator: StartOperator,
    tmp_path: Path,
) -> None:
    with FaultProxy(Api(operator_kubeconfig, api.namespace)) as proxy:
        faults = itertools.cycle([Fault.LOSE_ANSWER, Fault.EXPIRED, None, Fault.UNAVAILABLE, Fault.UNAVAILABLE, None])
        proxy.fault = lambda method, path, body: next(faults)
        api.create(finetune_job())
        operators = tell(api, kubelet, start_operator, proxy, proxy.kubeconfig(tmp_path))
    assert operators == 1
    check_outcome(api)


def test_a_start_asks_for_everything_once_however_many_jobs_there_are(
    audited: ControlPlane, api: Api, claim: str, start_operator: StartOperator
) -> None:
    names = [f"yelp-{number}" for number in range(6)]
    operator = start_operator(pod_diagnosis_seconds=600)
    for name in names:
        api.create(finetune_job(name))
    for name in names:
        wait_for_phase(api, "Starting", name)
    operator.kill()
    before = len(audited.audit_events(USER))
    operator = start_operator(pod_diagnosis_seconds=600)
    eventually("all were decided about", lambda: operator.metrics()[DONE] >= len(names))
    api.create(finetune_job("last"))
    wait_for_phase(api, "Starting", "last")

    asked = [event for event in audited.audit_events(USER)[before:] if event["stage"] == "ResponseComplete"]
    lists = [unquote(event["requestURI"]) for event in asked if event["verb"] == "list"]
    assert [uri for uri in lists if "finetune.dev/job=" in uri] == [], "no job asks for its own"
    assert len(lists) <= 6 + 3 + 2 * 3, lists  # what there is, the watches, two comparisons
    made = [event for event in asked if event["verb"] == "create" and event["objectRef"]["resource"] != "events"]
    assert {event["objectRef"]["name"].startswith("last") for event in made} == {True}, "and none makes anything twice"


def test_what_is_deleted_while_no_operator_runs(
    api: Api, claim: str, kubelet: PlayedKubelet, start_operator: StartOperator
) -> None:
    operator = start_operator()
    api.create(finetune_job())
    api.create(finetune_job("other"))
    wait_for_phase(api, "Starting")
    wait_for_phase(api, "Starting", "other")
    kubelet.report(1)
    kubelet.run(1)
    wait_for_phase(api, "Running")
    operator.kill()
    api.delete("FineTuneJob", "other")
    api.delete("Job", "yelp-train-1")
    eventually("no Job", lambda: api.get("Job", "yelp-train-1") is None)
    start_operator()
    eventually("the next attempt", lambda: api.get("Job", "yelp-train-2"))
    eventually("its pods", lambda: len(kubelet.pods(2)) == 2)
    assert api.get("FineTuneJob", "other") is None
    eventually("nothing of the other", lambda: not api.list("Pod", labelSelector="finetune.dev/job=other"))


def test_what_is_deleted_while_the_watch_is_blind(
    api: Api,
    operator_kubeconfig: Path,
    claim: str,
    kubelet: PlayedKubelet,
    start_operator: StartOperator,
    tmp_path: Path,
) -> None:
    """kopf shows after a gap what is there, and nothing of what went."""
    with FaultProxy(Api(operator_kubeconfig, api.namespace)) as proxy:
        start_operator(proxy.kubeconfig(tmp_path))
        api.create(finetune_job())
        wait_for_phase(api, "Starting")
        eventually("two pods", lambda: len(kubelet.pods(1)) == 2)
        kubelet.report(1)
        kubelet.run(1)
        wait_for_phase(api, "Running")
        proxy.break_watches()
        api.delete("Job", "yelp-train-1")
        eventually("no pods", lambda: not kubelet.pods(1))
        proxy.restore_watches()
        eventually("the next attempt", lambda: api.get("Job", "yelp-train-2"))


def test_while_the_api_server_is_away(
    api: Api,
    operator_kubeconfig: Path,
    claim: str,
    kubelet: PlayedKubelet,
    start_operator: StartOperator,
    tmp_path: Path,
) -> None:
    """The operator waits for it, and learns what happened meanwhile."""
    with FaultProxy(Api(operator_kubeconfig, api.namespace)) as proxy:
        operator = start_operator(proxy.kubeconfig(tmp_path))
        api.create(finetune_job())
        wait_for_phase(api, "Starting")
        eventually("two pods", lambda: len(kubelet.pods(1)) == 2)
        kubelet.report(1)
        kubelet.run(1)
        wait_for_phase(api, "Running")
        proxy.leave()
        kubelet.crash(kubelet.pods(1)[0])
        lost = proxy.lost
        eventually("the operator has tried again and again", lambda: proxy.lost > lost + 3)
        assert operator.process.poll() is None
        assert api.get("Job", "yelp-train-2") is None
        proxy.away = False
        eventually("the next attempt", lambda: api.get("Job", "yelp-train-2"))
        eventually("it says so", lambda: status(api).get("attempt") == 2)
