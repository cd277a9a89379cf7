"""Gangs that fall: what is done at once, what waits for evidence, and who pays."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from finetune_operator.api.status import Restarts
from finetune_operator.plan.decide import decide
from finetune_operator.plan.types import Create, Delete, Suspend
from finetune_trainer.contract.records import Cause, Outcome, PodPhase, Reason
from tests.support.simulated import SPEC, World, begun
from tests.support.simulated_cluster import checkpoint


def restarts(world: World) -> dict[str, int]:
    """Return the counts of restarts that are not 0."""
    return {cause: count for cause, count in world.status["restarts"].items() if count}


def suspended(world: World, attempt: int) -> bool:
    job = world.find("Job", f"reviews-train-{attempt}")
    assert job is not None
    return bool(job["spec"].get("suspend"))


def trained(world: World, attempt: int, step: int) -> None:
    """Let the next gang start, begin, and get to a step."""
    world.run(attempt)
    world.after(1)
    world.tell(attempt, step=step, total_steps=100)
    world.after(1)


def ended(world: World, attempt: int, node: int) -> None:
    world.end(world.pod(attempt, node), world.record(attempt, node, outcome=Outcome.STOPPED))


@pytest.mark.parametrize("fall", ["failed", "deleted", "gone", "machine deleted", "job stopped", "job deleted"])
def test_any_pod_that_falls_ends_the_gang_and_the_next_is_made_at_once(fall: str) -> None:
    world = begun()
    world.now += timedelta(seconds=10)
    pod = world.pod(1, 1)
    match fall:
        case "failed":
            world.end(pod, world.record(1, 1, reason=Reason.RANK_FAILED))
        case "deleted":
            world.ask_to_end(pod)
        case "gone":
            world.vanish(pod)
        case "machine deleted":
            world.remove_machine("machine-1")
        case "job stopped":
            world.suspend("reviews-train-1")
        case "job deleted":
            world.delete("Job", "reviews-train-1")
    world.wake()
    assert (world.phase, world.status["attempt"]) == ("Restarting", 2)
    assert "reviews-train-2" in world.names("Job")
    assert fall == "job deleted" or suspended(world, 1)
    assert len(world.pods_of("reviews-train-2")) == 2
    assert world.names("ConfigMap") == [a.manifest["metadata"]["name"] for a in created(world, "ConfigMap")]


def created(world: World, kind: str) -> list[Create]:
    return [action for action in world.actions if isinstance(action, Create) and action.manifest["kind"] == kind]


def test_a_pod_that_has_succeeded_may_go() -> None:
    world = begun()
    world.end(world.pod(1, 1), world.record(1, 1), exit_code=0)
    world.ask_to_end(world.pod(1, 1))
    world.vanish(world.pod(1, 1))
    world.after(1)
    assert (world.phase, world.status["attempt"]) == ("Running", 1)


def test_a_machine_that_is_well_again_ends_nothing() -> None:
    world = begun()
    pod = world.pod(1, 1)
    pod["status"]["conditions"][0]["status"] = "False"  # a readiness probe of a sidecar
    world.after(1)
    assert (world.phase, world.status["attempt"]) == ("Running", 1)
    assert world.asked_nodes == {"machine-1"}


def test_a_new_attempt_is_made_only_after_the_children_were_listed() -> None:
    world = begun()
    world.ask_to_end(world.pod(1, 1))
    unsure = decide(world.observed())
    assert (unsure.wants_list, unsure.actions, unsure.status) == (True, (), world.status)
    sure = decide(world.observed(listed=True))
    assert [type(action) for action in sure.actions] == [Create, Suspend]


def test_the_attempt_before_keeps_its_pods_older_ones_are_removed() -> None:
    world = begun()
    for attempt in (1, 2, 3):
        world.after(5)
        world.disrupt(world.pod(attempt, 0), "EvictionByEvictionAPI")
        world.after(0)
        for node in (0, 1):
            ended(world, attempt, node)
        world.after(1)
        trained(world, attempt + 1, 10 * (attempt + 1))
    assert world.names("Job") == ["reviews-train-3", "reviews-train-4"]
    assert suspended(world, 3)
    assert [a.ref.name for a in world.actions if isinstance(a, Delete)] == ["reviews-train-1", "reviews-train-2"]
    assert restarts(world) == {"preemption": 3}


def test_the_cause_is_settled_when_the_evidence_of_the_whole_gang_is_in() -> None:
    """A lost node shows first as an error of the other node's rank."""
    world = begun()
    world.after(10)
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.RANK_FAILED, step=50))
    world.after(3)
    assert (world.status["attempt"], restarts(world)) == (2, {})
    world.lose_machine("machine-1")
    world.after(15)
    assert restarts(world) == {}, "it may come back and tell of its own end"
    world.after(world.settings.lost_node_seconds - 15)
    assert restarts(world) == {"node": 1}
    assert world.status["failure"]["reason"] == "NodeLost"


def test_missing_evidence_is_guessed_in_the_end() -> None:
    """The cause is guessed when the time for evidence is over."""
    world = begun()
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST, step=50))
    world.nodes = None
    world.after(1)
    trained(world, 2, 60)
    pause = world.decision.requeue_after_seconds
    assert restarts(world) == {}
    assert pause is not None
    world.after(60 + world.settings.lost_node_seconds + world.settings.grace_period_seconds)
    assert restarts(world) == {"error": 1}
    assert world.status["failure"]["reason"] == "PeerLost"


def test_the_next_attempt_tells_how_the_one_before_ended() -> None:
    """An operator that was away has no memory of the pods, and the pods are gone."""
    world = begun()
    world.disrupt(world.pod(1, 1), "EvictionByEvictionAPI")
    world.after(0)
    for node in (0, 1):
        world.vanish(world.pod(1, node))
    world.delete("Job", "reviews-train-1")
    world.restart()
    world.after(1)
    assert restarts(world) == {}
    records = (
        world.record(1, 0, reason=Reason.PEER_LOST),
        world.record(1, 1, reason=Reason.OUT_OF_MEMORY, step=50),
    )
    world.run(2)
    world.after(1)
    world.tell(2, begun=False, earlier=records)
    world.after(1)
    assert restarts(world) == {}
    world.tell(2, step=60, total_steps=100, earlier=records)
    world.after(1)
    assert restarts(world) == {"error": 1}
    assert world.status["failure"]["reason"] == "OutOfMemory"


def test_a_second_fall_settles_the_first() -> None:
    world = begun()
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST, step=50))
    world.after(1)
    trained(world, 2, 60)
    world.crash(2, step=60)
    world.after(1)
    assert world.status["attempt"] == 3
    assert restarts(world) == {"error": 2}


def test_a_users_error_fails_at_once() -> None:
    world = begun()
    world.crash(1, reason=Reason.ARGUMENTS_INVALID, cause=Cause.USER)
    world.after(1)
    assert (world.phase, world.names("Job")) == ("Failed", ["reviews-train-1"])
    failure = world.status["failure"]
    assert (failure["reason"], failure["attempt"], failure["node"]) == ("ArgumentsInvalid", 1, 0)
    assert world.condition("Failed")["reason"] == "ArgumentsInvalid"
    assert failure["resolution"] in world.condition("Failed")["message"]
    assert world.reasons()[-1] == "ArgumentsInvalid"


def test_a_users_error_that_shows_late_stops_the_next_attempt() -> None:
    world = begun()
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST))
    world.after(1)
    assert world.status["attempt"] == 2
    world.end(world.pod(1, 1), world.record(1, 1, reason=Reason.DATA_INVALID, cause=Cause.USER))
    world.after(1)
    assert (world.phase, suspended(world, 2)) == ("Failed", True)
    assert world.status["failure"]["attempt"] == 1


def test_success_of_the_attempt_before_ends_the_next() -> None:
    """Node 1 was deleted while node 0 sealed the model."""
    world = begun()
    world.ask_to_end(world.pod(1, 1))
    world.after(0)
    assert world.status["attempt"] == 2
    world.end(world.pod(1, 0), world.record(1, 0, model_path="/output/m", step=100), exit_code=0)
    world.after(1)
    assert (world.phase, suspended(world, 2), world.status["model"]["path"]) == ("Succeeded", True, "m")


def test_a_success_record_beats_whatever_falls_at_the_same_time() -> None:
    world = begun()
    world.end(world.pod(1, 0), world.record(1, 0, model_path="/output/m", step=100), exit_code=0)
    world.lose_machine("machine-1")
    world.end(world.pod(1, 1), world.record(1, 1, reason=Reason.PEER_LOST))
    world.after(1)
    assert (world.phase, world.names("Job")) == ("Succeeded", ["reviews-train-1"])


def test_progress_of_the_attempt_before_stays_until_there_is_news() -> None:
    world = begun(step=50)
    world.tell(1, step=55, total_steps=100, checkpoint=checkpoint(50))
    world.after(1)
    world.disrupt(world.pod(1, 0), "EvictionByEvictionAPI")
    world.after(1)
    assert (world.phase, world.status["summary"]["steps"]) == ("Restarting", "55/100")
    assert world.status["summary"]["nodes"] == "0/2"
    world.run(2)
    world.tell(2, step=51, total_steps=100, resumed_from=checkpoint(50))
    world.after(1)
    assert (world.phase, world.status["summary"]["steps"]) == ("Running", "51/100")
    assert world.status["resumedFrom"]["step"] == 50


# --- budgets ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_backoff_limit_is_the_number_of_crashes_that_are_tried_again(limit: int) -> None:
    world = begun(World(spec={**SPEC, "backoffLimit": limit}), step=1)
    for attempt in range(1, limit + 1):
        world.crash(attempt, step=attempt)
        world.after(1)
        assert world.status["attempt"] == attempt + 1
        trained(world, attempt + 1, attempt + 1)
    world.crash(limit + 1, step=limit + 1)
    world.after(1)
    assert (world.phase, world.status["attempt"]) == ("Failed", limit + 1)
    assert world.condition("Failed")["reason"] == "BackoffLimitExceeded"
    assert world.status["failure"]["reason"] == "RankFailed"
    assert restarts(world) == ({"error": limit} if limit else {})
    assert world.status["completionTime"]


def crashes_at(world: World, attempt: int, step: int, *, saved: bool) -> None:
    """Let an attempt train to a step, seal a checkpoint there or not, and crash."""
    world.run(attempt)
    world.after(1)
    had = world.status.get("checkpoint")
    origin = checkpoint(had["step"], attempt - 1) if had else None
    newest = checkpoint(step, attempt) if saved else None
    world.tell(attempt, step=step, total_steps=100, resumed_from=origin, checkpoint=newest)
    world.after(1)
    world.crash(attempt, step=step)
    world.after(1)
    while world.phase == "Restarting" and f"reviews-train-{attempt + 1}" not in world.names("Job"):
        world.after(world.decision.requeue_after_seconds or 0)


def test_crashes_of_attempts_that_sealed_a_new_checkpoint_end_nothing() -> None:
    world = World(spec={**SPEC, "backoffLimit": 1})
    world.wake()
    for attempt in range(1, 8):
        crashes_at(world, attempt, attempt * 10, saved=True)
    assert (world.phase, world.status["attempt"], restarts(world)) == ("Restarting", 8, {"error": 7})


def test_a_new_checkpoint_gives_the_whole_budget_back() -> None:
    world = World(spec={**SPEC, "backoffLimit": 2})
    world.wake()
    for attempt, step, saved in [(1, 5, False), (2, 5, False), (3, 20, True), (4, 25, False), (5, 25, False)]:
        crashes_at(world, attempt, step, saved=saved)
        assert world.phase == "Restarting", attempt
    crashes_at(world, 6, 25, saved=False)
    assert (world.phase, restarts(world)) == ("Failed", {"error": 5})
    assert world.condition("Failed")["reason"] == "BackoffLimitExceeded"


def test_checkpoint_made_up_for_restores_no_budget() -> None:
    """A job whose volume forgets would otherwise crash for ever."""
    world = World(spec={**SPEC, "backoffLimit": 1})
    world.wake()
    crashes_at(world, 1, 20, saved=True)
    del world.status["checkpoint"]
    crashes_at(world, 2, 10, saved=True)
    crashes_at(world, 3, 20, saved=True)
    assert (world.phase, restarts(world)) == ("Failed", {"error": 2})


def test_with_no_crash_allowed_a_new_checkpoint_allows_none() -> None:
    world = World(spec={**SPEC, "backoffLimit": 0})
    world.wake()
    crashes_at(world, 1, 10, saved=True)
    assert world.phase == "Failed"


def test_a_record_alone_tells_of_a_new_checkpoint() -> None:
    """The checkpoint was sealed between the last look and the crash. One that the attempt only went on from is no new one."""
    sealed = checkpoint(20, 1)
    world = begun(World(spec={**SPEC, "backoffLimit": 1}), step=15)
    world.crash(1, step=21, checkpoint=sealed.model_copy(update={"time": world.now}))
    world.after(1)
    budget = world.status["budget"]
    assert (budget["checkpointStep"], budget["checkpointAttempt"], budget["errorsBefore"]) == (20, 1, 1)
    world.run(2)
    world.now += timedelta(seconds=5)
    world.crash(2, step=21, checkpoint=sealed)
    world.after(1)
    assert world.status["budget"]["checkpointAttempt"] == 1
    assert world.phase == "Restarting"


# --- checkpoints that are gone ------------------------------------------------------------------------------------


def second_attempt(had: int, on_volume: int | None) -> World:
    """Make a world in which attempt 1 has told of a checkpoint, and the volume that attempt 2 sees has another one, or none."""
    world = begun(step=had)
    world.tell(1, step=had, total_steps=100, checkpoint=checkpoint(had, 1))
    world.after(1)
    world.crash(1, step=had)
    world.after(1)
    world.run(2)
    origin = checkpoint(on_volume, 1) if on_volume is not None else None
    world.tell(2, phase=PodPhase.STARTING, resumed_from=origin)
    world.after(1)
    return world


@pytest.mark.parametrize(("on_volume", "start"), [(None, "begins anew"), (10, "goes on from step 10")])
def test_lost_checkpoint_is_told_before_ranks_start(on_volume: int | None, start: str) -> None:
    """A checkpoint that is not on the volume is told before a rank starts."""
    world = second_attempt(20, on_volume)
    lost = world.condition("CheckpointLost")
    assert (lost["status"], lost["reason"]) == ("True", "NotOnVolume")
    for part in ("step 20", "checkpoint-20", start, "attempt 2", "What to do: ", "resumeFrom: required"):
        assert part in lost["message"]
    (event,) = [note for note in world.notes if note.reason == "CheckpointLost"]
    assert (event.type, event.message) == ("Warning", lost["message"][: len(event.message)])
    shown = world.status.get("checkpoint")
    assert (shown["step"] if shown else None) == on_volume
    world.after(1)
    assert world.condition("CheckpointLost") == lost
    world.tell(2, step=12, total_steps=100, checkpoint=checkpoint(12, 2))
    world.after(1)
    assert world.condition("CheckpointLost")["status"] == "False"
    assert world.reasons().count("CheckpointLost") == 1


@pytest.mark.parametrize("on_volume", [20, 25])
def test_a_checkpoint_that_is_there_is_no_matter(on_volume: int) -> None:
    """A later one may have been sealed after the last look."""
    world = second_attempt(20, on_volume)
    assert "CheckpointLost" not in [condition["type"] for condition in world.status["conditions"]]
    assert "CheckpointLost" not in world.reasons()


def test_the_pods_are_told_which_checkpoint_they_should_find() -> None:
    world = begun(step=20)
    world.tell(1, step=20, total_steps=100, checkpoint=checkpoint(20, 1))
    world.after(1)
    world.crash(1, step=25, checkpoint=checkpoint(25, 1))
    world.after(1)

    def expected_steps(attempt: int) -> list[str]:
        job = world.find("Job", f"reviews-train-{attempt}")
        assert job is not None
        (trainer,) = job["spec"]["template"]["spec"]["containers"]
        return [variable["value"] for variable in trainer["env"] if variable["name"] == "FINETUNE_CHECKPOINT_STEP"]

    assert (expected_steps(1), expected_steps(2)) == ([], ["25"])


def test_preemption_and_lost_nodes_are_free() -> None:
    world = begun(World(spec={**SPEC, "backoffLimit": 0}), step=1)
    for attempt in (1, 2, 3):
        world.disrupt(world.pod(attempt, 0), "EvictionByEvictionAPI" if attempt % 2 else "DeletionByTaintManager")
        world.after(0)
        for node in (0, 1):
            ended(world, attempt, node)
        world.after(1)
        trained(world, attempt + 1, attempt + 1)
    assert (world.phase, restarts(world)) == ("Running", {"preemption": 2, "node": 1})


def test_without_a_crash_left_the_next_attempt_waits_for_the_cause() -> None:
    """The next attempt would have to be stopped at once."""
    world = begun(World(spec={**SPEC, "backoffLimit": 0}))
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.RANK_FAILED, step=50))
    world.after(1)
    assert (world.phase, world.names("Job"), suspended(world, 1)) == ("Restarting", ["reviews-train-1"], True)
    world.lose_machine("machine-1")
    world.after(1)
    assert (world.status["attempt"], world.names("Job")) == (2, ["reviews-train-1", "reviews-train-2"])


def test_fruitless_restarts_wait_longer() -> None:
    """The first restart comes at once, and fruitless ones later and later."""
    world = World(spec={**SPEC, "backoffLimit": 6})
    world.wake()
    pauses = []
    for attempt in range(1, 6):
        world.run(attempt)
        world.after(1)
        world.crash(attempt)
        fell = world.now
        world.wake()
        while f"reviews-train-{attempt + 1}" not in world.names("Job"):
            world.after(world.decision.requeue_after_seconds or 0)
        pauses.append((world.now - fell).total_seconds())
    assert pauses == [0.0, 10.0, 20.0, 40.0, 80.0]


def test_an_attempt_that_gets_farther_ends_the_waiting() -> None:
    world = World(spec={**SPEC, "backoffLimit": 6})
    world.wake()
    for attempt in (1, 2):
        world.run(attempt)
        world.crash(attempt)
        world.after(1)
        world.after(10)
    assert world.status["budget"]["fruitless"] == 2
    trained(world, 3, 10)
    world.crash(3, step=10)
    world.after(1)
    assert (world.status["attempt"], world.status["budget"]["fruitless"]) == (4, 0)


def test_crashing_again_at_the_same_step_is_fruitless() -> None:
    world = begun(step=10)
    world.crash(1, step=10)
    world.after(1)
    trained(world, 2, 10)
    world.crash(2, step=10)
    world.after(1)
    assert world.status["budget"]["fruitless"] == 1


def test_retry_starts_again_what_failed_with_a_new_budget() -> None:
    world = begun(World(spec={**SPEC, "backoffLimit": 1}), step=1)
    for attempt in (1, 2):
        world.crash(attempt, step=attempt)
        world.after(1)
        if attempt == 1:
            trained(world, 2, 2)
    assert world.phase == "Failed"
    world.edit(retry=1)
    assert (world.phase, world.status["attempt"]) == ("Starting", 3)
    assert "failure" not in world.status
    assert world.condition("Failed")["status"] == "False"
    assert "Retried" in world.reasons()
    trained(world, 3, 3)
    world.crash(3, step=3)
    world.after(1)
    assert (world.phase, world.status["attempt"], restarts(world)) == ("Restarting", 4, {"error": 2})
    trained(world, 4, 4)
    world.crash(4, step=4)
    world.after(1)
    assert world.phase == "Failed"


def test_retry_raised_while_nothing_has_failed_asks_for_nothing() -> None:
    world = begun(World(spec={**SPEC, "backoffLimit": 0}))
    world.edit(retry=3)
    assert world.phase == "Running"
    world.crash(1, step=50)
    world.after(1)
    world.after(60)
    assert world.phase == "Failed"
    world.edit(retry=4)
    assert world.phase == "Starting"


def test_another_edit_of_a_job_that_failed_in_training_starts_nothing() -> None:
    world = begun(World(spec={**SPEC, "backoffLimit": 0}))
    world.crash(1, step=50)
    world.after(1)
    world.edit(activeDeadlineSeconds=99999)
    assert (world.phase, world.names("Job"), world.status["observedGeneration"]) == ("Failed", ["reviews-train-1"], 2)


def test_a_finished_job_stays_as_it_is() -> None:
    world = begun()
    world.succeed(1)
    world.after(1)
    before, writes = world.status, world.writes
    world.edit(retry=1)
    world.delete("Job", "reviews-train-1")
    world.after(3600)
    assert (world.phase, world.writes) == ("Succeeded", writes + 1)
    assert world.status["model"] == before["model"]
    assert world.names("Job") == []


# --- deadlines ----------------------------------------------------------------------------------------------------


def test_gang_not_begun_in_time_is_retried_uncounted() -> None:
    """A gang that has not begun in time gives everything back and is tried again, uncounted."""
    world = World(spec={**SPEC, "startDeadlineSeconds": 100})
    world.wake()
    world.start(world.pod(1, 0))
    world.tell(1, begun=False)
    world.after(99)
    assert (world.phase, suspended(world, 1)) == ("Starting", False)
    world.after(1)
    assert (world.phase, suspended(world, 1), world.names("Job")) == ("Starting", True, ["reviews-train-1"])
    assert world.condition("Running")["reason"] == "StartDeadlineExceeded"
    assert "StartDeadlineExceeded" in world.reasons()
    world.after(9)
    assert world.status["attempt"] == 1
    world.after(1)
    assert (world.status["attempt"], world.names("Job")) == (2, ["reviews-train-1", "reviews-train-2"])
    world.after(100)
    world.after(19)
    assert world.status["attempt"] == 2
    world.after(1)
    assert (world.status["attempt"], restarts(world), world.phase) == (3, {}, "Starting")


def test_a_gang_that_has_begun_is_not_under_the_start_deadline() -> None:
    world = begun(World(spec={**SPEC, "startDeadlineSeconds": 100}))
    world.after(500)
    assert (world.phase, suspended(world, 1)) == ("Running", False)


def test_a_gang_that_runs_and_cannot_be_asked_is_not_given_up() -> None:
    """The gang may have begun long ago: a network policy between the operator and node 0 must not end it."""
    world = World(spec={**SPEC, "startDeadlineSeconds": 100})
    world.wake()
    world.run(1)
    world.after(500)
    assert suspended(world, 1) is False


def test_a_crash_before_the_beginning_counts() -> None:
    world = World()
    world.wake()
    world.run(1)
    world.after(1)
    world.crash(1)
    world.after(1)
    assert (world.phase, restarts(world)) == ("Restarting", {"error": 1})


@pytest.mark.parametrize("stage", ["starting", "running", "restarting"])
def test_active_deadline_ends_whatever_the_job_does(stage: str) -> None:
    world = World(spec={**SPEC, "activeDeadlineSeconds": 50})
    world.wake()
    if stage != "starting":
        world.run(1)
        world.tell(1, step=1, total_steps=100)
        world.after(1)
    if stage == "restarting":
        world.disrupt(world.pod(1, 0), "EvictionByEvictionAPI")
        world.after(1)
    pause = world.decision.requeue_after_seconds
    assert pause is not None
    assert pause <= 50
    world.now = world.now.replace(minute=0, second=50)
    world.wake()
    assert (world.phase, world.status["failure"]["reason"]) == ("Failed", "DeadlineExceeded")
    assert all(suspended(world, int(name.rsplit("-", 1)[1])) for name in world.names("Job"))


def test_success_in_the_last_second_is_success() -> None:
    world = begun(World(spec={**SPEC, "activeDeadlineSeconds": 50}))
    world.succeed(1)
    world.after(100)
    assert world.phase == "Succeeded"


def test_raising_the_deadline_and_retry_goes_on() -> None:
    world = begun(World(spec={**SPEC, "activeDeadlineSeconds": 50}))
    world.after(50)
    assert world.phase == "Failed"
    world.after(10_000)
    world.edit(activeDeadlineSeconds=60, retry=1)
    assert (world.phase, world.status["attempt"]) == ("Starting", 2)
    world.after(59)
    assert world.phase == "Starting"


# --- stale views --------------------------------------------------------------------------------------------------


def test_a_job_that_was_just_made_and_does_not_show_yet_is_not_missed() -> None:
    world = World()
    world.wake()
    kept = dict(world.objects)
    for uid in [uid for uid, item in kept.items() if item["kind"] in ("Job", "Pod")]:
        del world.objects[uid]
    soon = decide(world.observed())
    assert (soon.actions, soon.wants_list, soon.status) == ((), False, world.status)
    world.now += timedelta(seconds=5)
    assert decide(world.observed()).wants_list is True


def test_an_attempt_that_the_status_does_not_know_of_is_taken_over() -> None:
    world = begun()
    older: dict[str, Any] = dict(world.status)
    world.disrupt(world.pod(1, 0), "EvictionByEvictionAPI")
    world.wake()
    world.status = older
    world.wake()
    assert (world.phase, world.status["attempt"], len(created(world, "Job"))) == ("Restarting", 2, 2)


def test_pods_of_a_former_job_of_the_same_name_are_not_ours() -> None:
    world = begun()
    stranger = dict(world.pod(1, 1))
    stranger["metadata"] = {**stranger["metadata"], "uid": "stranger", "deletionTimestamp": "2026-03-01T12:00:00Z"}
    stranger["metadata"]["ownerReferences"] = [
        {"kind": "Job", "name": "reviews-train-1", "uid": "former", "controller": True}
    ]
    world.objects["stranger"] = stranger
    world.after(1)
    assert (world.phase, world.status["attempt"]) == ("Running", 1)


def test_a_container_that_ended_badly_is_enough() -> None:
    """The pod's phase follows a second later, or with its sidecars."""
    world = begun()
    world.end(world.pod(1, 1), world.record(1, 1, reason=Reason.RANK_FAILED))
    world.pod(1, 1)["status"]["phase"] = "Running"
    world.after(0)
    assert (world.phase, world.status["attempt"]) == ("Restarting", 2)


def test_operator_long_away_asks_before_it_guesses() -> None:
    """The next attempt is asked before anything is guessed, when the operator was away for long."""
    world = begun()
    world.end(world.pod(1, 0), world.record(1, 0, reason=Reason.PEER_LOST, step=50))
    del world.objects[world.pod(1, 1)["metadata"]["uid"]]
    world.restart()
    world.after(3600)
    assert (world.status["attempt"], restarts(world)) == (2, {})
    world.run(2)
    world.after(1)
    evicted = world.record(1, 1, outcome=Outcome.STOPPED)
    world.tell(2, step=60, total_steps=100, earlier=(evicted,))
    world.after(1)
    assert restarts(world) == {"preemption": 1}


def test_restarts_are_counted_by_every_cause_that_is_tried_again() -> None:
    assert set(Restarts.model_fields) == {cause.value for cause in Cause} - {Cause.USER.value}


@pytest.mark.parametrize("reason", [Reason.VOLUME_FULL, Reason.VOLUME_NOT_WRITABLE, Reason.VOLUME_FAILED])
def test_volume_trouble_is_retried_until_deadline(reason: Reason) -> None:
    """An attempt that trouble of the volume ended is tried again at growing distances, until the deadline."""
    world = begun(World(spec={**SPEC, "backoffLimit": 0, "activeDeadlineSeconds": 3600}))
    world.crash(1, reason=reason, cause=Cause.VOLUME, step=50)
    world.after(1)
    for attempt, pause in ((2, 0), (3, 0), (4, 10), (5, 20), (6, 40), (7, 80), (8, 160)):
        if pause:
            assert world.status["attempt"] == attempt - 1, "it holds nothing meanwhile"
            assert world.condition("Running")["reason"] == reason
            world.after(pause)
        assert (world.status["attempt"], world.phase) == (attempt, "Restarting")
        world.run(attempt)
        world.after(1)
        world.crash(attempt, reason=reason, cause=Cause.VOLUME)
        world.after(0)
    assert restarts(world) == {"volume": 8}
    world.after(3600)
    assert (world.phase, world.condition("Failed")["reason"]) == ("Failed", "DeadlineExceeded")
