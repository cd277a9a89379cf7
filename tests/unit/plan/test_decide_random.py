"""Whatever happens, in whatever order, and whenever the operator dies: what must always hold."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from finetune_operator.plan.decide import decide
from finetune_operator.plan.types import Manifest
from finetune_trainer.contract.records import Cause, Outcome, Reason
from tests.support.simulated import HUB_SPEC, PUBLISH_SPEC, SPEC, Killed, World, trained
from tests.support.simulated_cluster import checkpoint

STEPS = 60
REASONS = [Reason.RANK_FAILED, Reason.RANK_KILLED, Reason.PEER_LOST, Reason.OUT_OF_MEMORY, Reason.INTERNAL]


def running(world: World) -> list[Manifest]:
    pods = (item for uid, item in world.objects.items() if item["kind"] == "Pod" and uid not in world.gone)
    return [pod for pod in pods if pod["status"]["phase"] == "Running"]


def pending(world: World) -> list[Manifest]:
    pods = (item for uid, item in world.objects.items() if item["kind"] == "Pod" and uid not in world.gone)
    return [pod for pod in pods if pod["status"]["phase"] == "Pending" and "deletionTimestamp" not in pod["metadata"]]


def _record(world: World, pod: Manifest, **fields: Any) -> Any:
    labels = pod["metadata"]["labels"]
    node = int(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"])
    return world.record(int(labels["finetune.dev/attempt"]), node, role=labels["finetune.dev/role"], **fields)


def start(world: World, dice: random.Random) -> None:
    for pod in pending(world):
        if dice.random() < 0.8:
            world.start(pod)


def tell(world: World, dice: random.Random) -> None:
    attempt = world.status.get("attempt")
    if attempt:
        step = dice.randrange(1, 100)
        sealed = checkpoint(step, attempt) if dice.random() < 0.5 else None
        world.tell(attempt, step=step, total_steps=100, checkpoint=sealed, begun=dice.random() < 0.9)


def crash(world: World, dice: random.Random) -> None:
    if pods := running(world):
        pod = dice.choice(pods)
        world.end(pod, _record(world, pod, reason=dice.choice(REASONS), step=dice.randrange(100)))


def end_silently(world: World, dice: random.Random) -> None:
    if pods := running(world):
        world.end(dice.choice(pods), exit_code=dice.choice([0, 1, 137]), reason=dice.choice(["Error", "OOMKilled"]))


def stop_told(world: World, dice: random.Random) -> None:
    """End the pods that were told to end, and remove them."""
    for pod in running(world):
        if "deletionTimestamp" in pod["metadata"] and dice.random() < 0.7:
            world.end(pod, _record(world, pod, outcome=Outcome.STOPPED), exit_code=143)
            world.vanish(pod)


def delete(world: World, dice: random.Random) -> None:
    if pods := running(world) + pending(world):
        world.ask_to_end(dice.choice(pods))


def evict(world: World, dice: random.Random) -> None:
    if pods := running(world):
        world.disrupt(dice.choice(pods), dice.choice(["EvictionByEvictionAPI", "DeletionByTaintManager"]))


def lose_machine(world: World, dice: random.Random) -> None:
    world.lose_machine(f"machine-{dice.randrange(2)}")


def return_machines(world: World, dice: random.Random) -> None:
    assert world.nodes is not None
    world.nodes.clear()


def prepare_well(world: World, dice: random.Random) -> None:
    for pod in running(world):
        if pod["metadata"]["labels"]["finetune.dev/role"] == "prepare":
            world.end(pod, _record(world, pod), exit_code=0)


def users_error(world: World, dice: random.Random) -> None:
    if dice.random() < 0.2 and (pods := running(world)):
        pod = dice.choice(pods)
        world.end(pod, _record(world, pod, reason=Reason.DATA_INVALID, cause=Cause.USER))


def succeed(world: World, dice: random.Random) -> None:
    attempt = world.status.get("attempt")
    if dice.random() < 0.15 and attempt and world.pods_of(f"reviews-train-{attempt}"):
        world.succeed(attempt)


def publish(world: World, dice: random.Random) -> None:
    number = world.status.get("publishAttempt")
    running_now = [pod for pod in running(world) if pod["metadata"]["labels"]["finetune.dev/role"] == "publish"]
    if dice.random() < 0.3 and number and running_now:
        if dice.random() < 0.2:
            world.end(running_now[0], exit_code=0)  # the record is lost
        else:
            world.publish(number)


def delete_job(world: World, dice: random.Random) -> None:
    if dice.random() < 0.3 and (names := world.names("Job")):
        world.delete("Job", dice.choice(names))


def notice_lost_pods(world: World, dice: random.Random) -> None:
    """Play the Job controller, which fails a Job whose pod is gone."""
    for name in world.names("Job"):
        if not world.pods_of(name) and not _over(world.find("Job", name) or {}):
            world.finish_job(name, "Failed")


def retry(world: World, dice: random.Random) -> None:
    if dice.random() < 0.3:
        world.spec = {**world.spec, "retry": world.spec.get("retry", 0) + 1}
        world.generation += 1


def operator_restarts(world: World, dice: random.Random) -> None:
    world.restart()


def operator_will_die(world: World, dice: random.Random) -> None:
    world.kill_after = world.effects + dice.randrange(6)


def time_passes(world: World, dice: random.Random) -> None:
    world.now += timedelta(seconds=dice.choice([1, 5, 30, 120, 2000]))


HAPPENINGS: list[Callable[[World, random.Random], None]] = [
    start,
    start,
    start,
    tell,
    tell,
    crash,
    end_silently,
    stop_told,
    stop_told,
    delete,
    evict,
    lose_machine,
    return_machines,
    prepare_well,
    prepare_well,
    users_error,
    succeed,
    publish,
    delete_job,
    notice_lost_pods,
    retry,
    operator_restarts,
    operator_will_die,
    time_passes,
    time_passes,
]


def wake(world: World) -> None:
    try:
        world.wake()
    except Killed:
        world.restart()
        world.wake()


def check(world: World, before: Manifest) -> None:
    status = world.status
    attempt, budget = status.get("attempt") or 0, status["budget"]
    check_publishing(world, before)
    train = [world.find("Job", name) or {} for name in world.names("Job") if "-train-" in name]
    active = [job for job in train if not job["spec"].get("suspend") and not _over(job)]
    assert len(active) <= 1, "two gangs at a time"
    assert attempt >= (before.get("attempt") or 0), "an attempt's number was taken back"
    assert len(train) <= 3, "Jobs pile up"
    restarts = status["restarts"]
    assert sum(restarts.values()) <= max(attempt, 1), "more restarts than attempts"
    assert restarts["error"] - budget["errorsBefore"] <= world.spec.get("backoffLimit", 3)
    assert budget["settledAttempt"] <= attempt
    if status["phase"] in ("Succeeded", "Failed"):
        assert status["completionTime"]
        assert status["phase"] == "Succeeded" or not active
        assert (status["phase"] == "Failed") == ("failure" in status)
    published = before.get("model", {}).get("hub") or "publish" not in world.spec
    if before.get("phase") == "Succeeded" and published:
        assert status["phase"] == "Succeeded", "a success was taken back"
    again = decide(world.observed())
    assert (again.actions, again.events) == ((), ()), "deciding again acts again"


def check_publishing(world: World, before: Manifest) -> None:
    """Check that training's success is kept, and that one Job at a time publishes, when nobody trains."""
    status, jobs = world.status, [world.find("Job", name) or {} for name in world.names("Job") if "-publish-" in name]
    active = [job for job in jobs if not job["spec"].get("suspend") and not _over(job)]
    assert len(active) <= 1, "published by two"
    assert len(jobs) <= 3, "publish Jobs pile up"
    assert (status.get("publishAttempt") or 0) >= (before.get("publishAttempt") or 0), "a number was taken back"
    if "model" in before:
        assert status["model"]["path"] == before["model"]["path"], "a model was taken back"
        assert status["attempt"] == before["attempt"], "trained again"
        assert status["phase"] in ("Publishing", "Succeeded", "Failed")
        assert before["model"].get("hub") in (None, status["model"].get("hub")), "unpublished"
    if "publish" in world.spec and status["phase"] == "Succeeded":
        assert (
            next(condition["status"] for condition in status["conditions"] if condition["type"] == "Published")
            == "True"
        )
    if active and not before.get("publishAttempt"):
        training = [pod for pod in running(world) if pod["metadata"]["labels"]["finetune.dev/role"] == "train"]
        lost = set(world.nodes or ())
        assert all(pod["spec"]["nodeName"] in lost for pod in training), "accelerators were still held"
    moments = {_deadline(job) for job in jobs if _number(job) >= status["budget"]["firstPublish"]}
    assert len(moments) <= 1, "a round has one deadline"


def _deadline(job: Manifest) -> str:
    (trainer,) = job["spec"]["template"]["spec"]["containers"]
    return next(str(variable["value"]) for variable in trainer["env"] if variable["name"] == "FINETUNE_DEADLINE")


def _number(job: Manifest) -> int:
    return int(job["metadata"]["labels"]["finetune.dev/attempt"])


def _over(job: Manifest) -> bool:
    return any(condition["type"] in ("Complete", "Failed") for condition in job.get("status", {}).get("conditions", ()))


@pytest.mark.parametrize("seed", range(30))
def test_what_must_hold_holds(seed: int) -> None:
    dice = random.Random(seed)
    spec = dice.choice([SPEC, HUB_SPEC, PUBLISH_SPEC])
    limits = {"backoffLimit": dice.choice([0, 1, 6]), "startDeadlineSeconds": dice.choice([60, 1800])}
    world = World(spec={**spec, **limits})
    wake(world)
    for _ in range(STEPS):
        before = world.status
        happening = dice.choice(HAPPENINGS)
        happening(world, dice)
        wake(world)
        check(world, before)


@pytest.mark.parametrize("seed", range(20))
def test_what_must_hold_holds_while_it_is_published(seed: int) -> None:
    dice = random.Random(2000 + seed)
    world = trained(publish={"repoId": "me/reviews", "deadlineSeconds": dice.choice([60, 3600, 86400])})
    check(world, world.status)
    for _ in range(STEPS):
        before = world.status
        happening = dice.choice(HAPPENINGS)
        happening(world, dice)
        wake(world)
        check(world, before)


@pytest.mark.parametrize("seed", range(20))
def test_every_job_comes_to_an_end_when_its_pods_do_well_at_last(seed: int) -> None:
    dice = random.Random(1000 + seed)
    world = World(spec={**dice.choice([SPEC, HUB_SPEC, PUBLISH_SPEC]), "backoffLimit": 1000})
    wake(world)
    for _ in range(STEPS // 2):
        happening = dice.choice(
            [candidate for candidate in HAPPENINGS if candidate not in (users_error, succeed, retry)]
        )
        happening(world, dice)
        wake(world)
    world.restart()
    return_machines(world, dice)
    for _ in range(60):
        world.now += timedelta(seconds=300)
        for pod in pending(world):
            world.start(pod)
        notice_lost_pods(world, dice)
        wake(world)
        prepare_well(world, dice)
        attempt = world.status.get("attempt")
        living = [pod for pod in world.pods_of(f"reviews-train-{attempt}") if pod["status"]["phase"] != "Failed"]
        if len([pod for pod in living if "deletionTimestamp" not in pod["metadata"]]) == 2:
            world.succeed(attempt or 0)
        for pod in running(world):
            if pod["metadata"]["labels"]["finetune.dev/role"] == "publish":
                world.publish(world.status["publishAttempt"])
        wake(world)
        if world.phase == "Succeeded":
            break
    assert world.phase == "Succeeded", world.status
    assert datetime.fromisoformat(world.status["completionTime"])
