"""The prepare Job: tried again where that may help, and made anew where the spec was edited."""

from __future__ import annotations

from datetime import timedelta

import pytest

from finetune_operator.plan.types import PlanSettings, PodEvent
from finetune_trainer.contract.records import Cause, Outcome, Reason
from tests.support.simulated import HUB_SPEC, World


def preparing(**spec: object) -> World:
    world = World(spec={**HUB_SPEC, **spec})
    world.wake()
    world.run(1, "prepare")
    world.after(1)
    return world


def end(world: World, number: int, **fields: object) -> None:
    record = world.record(number, role="prepare", **fields)  # type: ignore[arg-type]
    world.end(world.pod(number, 0, "prepare"), record, exit_code=0 if record.outcome is Outcome.SUCCEEDED else 1)
    world.after(1)


@pytest.mark.parametrize(
    ("spec", "needs"),
    [
        ({"model": {"name": "google-bert/bert-base-cased"}}, True),
        ({"dataset": {"name": "yelp_review_full"}}, True),
        ({"hub": {"tokenSecretRef": {"name": "hf", "key": "token"}}}, True),
        ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, True),
        ({}, False),
    ],
)
def test_prepare_job_for_accelerators_or_hub(spec: dict[str, object], *, needs: bool) -> None:
    """Preparing is a Job of its own where accelerators would wait or the Hub is read."""
    world = World()
    world.spec = {**world.spec, **spec}
    world.wake()
    assert world.names("Job") == ["reviews-prepare-1" if needs else "reviews-train-1"]
    assert world.phase == ("Preparing" if needs else "Starting")


@pytest.mark.parametrize("reason", [Reason.COLUMN_NOT_FOUND, Reason.ACCESS_DENIED, Reason.VOLUME_NOT_WRITABLE])
def test_a_users_error_fails_at_once_before_a_rank_starts(reason: Reason) -> None:
    world = preparing()
    end(world, 1, reason=reason, cause=Cause.USER)
    assert (world.phase, world.names("Job")) == ("Failed", ["reviews-prepare-1"])
    assert world.status["failure"]["reason"] == reason
    assert world.condition("Prepared")["reason"] == reason
    assert world.status["failure"]["resolution"] in world.condition("Failed")["message"]


def test_what_may_pass_is_tried_again_with_backoff_and_within_the_limit() -> None:
    world = preparing(backoffLimit=2)
    for number, pause in ((1, 10), (2, 20)):
        end(world, number, reason=Reason.OUT_OF_MEMORY)
        assert world.names("Job")[-1] == f"reviews-prepare-{number}"
        assert world.condition("Prepared")["reason"] == "OutOfMemory"
        world.after(pause - 2)
        assert world.names("Job")[-1] == f"reviews-prepare-{number}"
        world.after(1)
        assert world.names("Job")[-1] == f"reviews-prepare-{number + 1}"
        world.run(number + 1, "prepare")
    end(world, 3, reason=Reason.OUT_OF_MEMORY)
    assert (world.phase, world.condition("Failed")["reason"]) == ("Failed", "BackoffLimitExceeded")
    assert world.status["failure"]["reason"] == "OutOfMemory"
    assert world.status["restarts"]["error"] == 0


def test_a_hub_that_is_down_is_waited_for_and_costs_nothing_of_the_limit() -> None:
    world = preparing(backoffLimit=0)
    for number, pause in ((1, 10), (2, 20), (3, 40), (4, 80), (5, 160), (6, 300), (7, 300)):
        end(world, number, reason=Reason.HUB_UNAVAILABLE)
        assert (world.phase, world.condition("Prepared")["reason"]) == ("Preparing", "HubUnavailable")
        world.after(pause)
        assert world.names("Job")[-1] == f"reviews-prepare-{number + 1}"
        world.run(number + 1, "prepare")


def test_an_evicted_prepare_pod_is_replaced_at_once_and_free() -> None:
    world = preparing(backoffLimit=0)
    world.disrupt(world.pod(1, 0, "prepare"), "EvictionByEvictionAPI")
    world.end(world.pod(1, 0, "prepare"), world.record(1, role="prepare", outcome=Outcome.STOPPED), exit_code=143)
    world.after(0)
    assert (world.phase, world.names("Job")) == ("Preparing", ["reviews-prepare-1", "reviews-prepare-2"])
    assert "PreparingAgain" in world.reasons()


def test_an_edit_while_preparing_begins_anew() -> None:
    world = preparing()
    world.edit(dataset={"name": "imdb"})
    assert world.names("Job") == ["reviews-prepare-1", "reviews-prepare-2"]
    old = world.find("Job", "reviews-prepare-1")
    assert old is not None
    assert old["spec"]["suspend"] is True
    assert world.status["prepareAttempt"] == 2
    world.run(2, "prepare")
    end(world, 2)
    assert world.phase == "Starting"


def test_an_edit_that_changes_nothing_of_it_lets_it_go_on() -> None:
    world = preparing()
    world.edit(activeDeadlineSeconds=9999)
    assert world.names("Job") == ["reviews-prepare-1"]


def test_an_edit_starts_again_what_failed_before_training() -> None:
    world = preparing()
    end(world, 1, reason=Reason.COLUMN_NOT_FOUND, cause=Cause.USER)
    world.edit(dataset={**HUB_SPEC["dataset"], "columns": {"text": "review"}})
    assert (world.phase, world.names("Job")) == ("Preparing", ["reviews-prepare-1", "reviews-prepare-2"])
    assert "failure" not in world.status
    world.run(2, "prepare")
    end(world, 2)
    assert (world.phase, world.condition("Prepared")["status"]) == ("Starting", "True")


def test_an_edit_back_or_of_something_else_prepares_again_too() -> None:
    """The file was mended on the volume: any new generation asks for another try."""
    world = preparing()
    end(world, 1, reason=Reason.FILE_NOT_FOUND, cause=Cause.USER)
    world.edit(retry=1)
    assert (world.phase, world.names("Job")) == ("Preparing", ["reviews-prepare-1", "reviews-prepare-2"])
    end_of_second = world.pod(2, 0, "prepare")
    world.start(end_of_second)
    end(world, 2, reason=Reason.FILE_NOT_FOUND, cause=Cause.USER)
    assert world.phase == "Failed"


def test_retry_of_what_failed_in_training_prepares_again() -> None:
    """The data may have been mended; what is as it was is found prepared."""
    world = preparing(backoffLimit=0)
    end(world, 1)
    world.run(1)
    world.after(1)
    world.crash(1)
    world.after(1)
    assert world.phase == "Failed"
    world.edit(retry=1)
    assert (world.phase, world.names("Job")) == (
        "Preparing",
        ["reviews-prepare-1", "reviews-prepare-2", "reviews-train-1"],
    )
    world.run(2, "prepare")
    end(world, 2)
    assert (world.phase, world.status["attempt"], world.condition("Prepared")["status"]) == ("Starting", 2, "True")
    assert environment(world, 2)["FINETUNE_FIRST_ATTEMPT"] == "2"
    world.run(2)
    world.after(1)
    world.disrupt(world.pod(2, 0), "EvictionByEvictionAPI")
    world.after(1)
    assert world.status["attempt"] == 3
    assert environment(world, 3)["FINETUNE_FIRST_ATTEMPT"] == "2", "within a round data stays what it is"


def environment(world: World, attempt: int) -> dict[str, str]:
    job = world.find("Job", f"reviews-train-{attempt}")
    assert job is not None
    (container,) = job["spec"]["template"]["spec"]["containers"]
    return {variable["name"]: variable["value"] for variable in container["env"]}


def test_what_was_prepared_is_not_prepared_again_after_training_has_begun() -> None:
    world = preparing()
    end(world, 1)
    world.run(1)
    world.delete("Job", "reviews-prepare-1")
    world.tell(1, step=1, total_steps=100)
    world.after(1)
    world.disrupt(world.pod(1, 0), "EvictionByEvictionAPI")
    world.after(1)
    assert world.names("Job") == ["reviews-train-1", "reviews-train-2"]
    assert world.condition("Prepared")["status"] == "True"


def test_a_prepare_job_that_was_deleted_is_made_again() -> None:
    world = preparing()
    world.delete("Job", "reviews-prepare-1")
    world.after(1)
    assert world.names("Job") == ["reviews-prepare-2"]


def test_a_missing_secret_shows_in_the_condition() -> None:
    world = World(spec=HUB_SPEC)
    world.wake()
    pod = world.pod(1, 0, "prepare")
    pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "True"}]
    text = 'MountVolume.SetUp failed for volume "finetune-hub" : secret "hf" not found'
    world.events[pod["metadata"]["uid"]] = (PodEvent("FailedMount", text, 3),)
    world.after(3)
    prepared = world.condition("Prepared")
    assert (world.phase, prepared["reason"]) == ("Preparing", "SecretNotFound")
    assert "there is no Secret 'hf'" in prepared["message"]
    assert "SecretNotFound" in world.reasons()


def test_inline_preparing_shows_in_the_condition_too() -> None:
    world = World()
    world.wake()
    world.run(1)
    assert world.condition("Prepared")["reason"] == "Inline"
    world.tell(1, phase="preparing")  # type: ignore[arg-type]
    world.after(1)
    assert (world.condition("Prepared")["status"], world.condition("Running")["reason"]) == ("False", "PreparingData")
    world.tell(1, phase="starting")  # type: ignore[arg-type]
    world.after(1)
    assert (world.condition("Prepared")["status"], world.condition("Running")["reason"]) == ("True", "LoadingModel")


# --- what makes a prepare Job outdated, and how often it is made again ---------------------------------------------------


def test_other_settings_make_nothing_outdated() -> None:
    """Two operators that took turns replaced each other's prepare Jobs for ever."""
    world = preparing()
    world.settings = PlanSettings(
        trainer_image="registry.example/finetune/trainer:2",
        grace_period_seconds=77,
        pod_template={"spec": {"nodeSelector": {"pool": "other"}}},
    )
    for _ in range(3):
        world.restart()
        world.after(1)
    assert world.names("Job") == ["reviews-prepare-1"]


def test_a_job_of_an_operator_that_noted_nothing_is_not_outdated() -> None:
    world = preparing()
    made = world.find("Job", "reviews-prepare-1")
    assert made is not None
    made["metadata"]["annotations"] = {"finetune.dev/plan": "0123456789abcdef"}
    world.restart()
    world.after(1)
    assert world.names("Job") == ["reviews-prepare-1"]


@pytest.mark.parametrize(
    "edit",
    [
        {"retry": 1},
        {"backoffLimit": 7},
        {"activeDeadlineSeconds": 9999},
        {"startDeadlineSeconds": 60},
        {"storage": {"claimName": "shared", "retain": False}},
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_an_edit_of_what_is_nothing_to_preparing_makes_nothing_outdated(edit: dict[str, object]) -> None:
    world = preparing()
    world.edit(**edit)
    assert world.names("Job") == ["reviews-prepare-1"]


@pytest.mark.parametrize(
    "edit",
    [
        {"preprocessing": {"maxLength": 64}},
        {"image": "registry.example/mine:1"},
        {"env": [{"name": "A", "value": "b"}]},
        {"template": {"spec": {"priorityClassName": "high"}}},
        {"trainingArguments": {"learning_rate": 0.1}},
        {"resources": {"requests": {"memory": "1Gi"}}},
    ],
    ids=lambda edit: next(iter(edit)),
)
def test_an_edit_of_what_a_prepare_job_is_made_from_makes_it_outdated(edit: dict[str, object]) -> None:
    world = preparing()
    world.edit(**edit)
    assert world.names("Job") == ["reviews-prepare-1", "reviews-prepare-2"]


def prepare_jobs_made(world: World) -> int:
    return int(world.names("Job")[-1].rsplit("-", 1)[1])


def test_edits_that_follow_one_another_quickly_wait_longer_and_longer() -> None:
    world = preparing()
    for second in range(1, 301):
        world.now += timedelta(seconds=1)
        world.edit(preprocessing={"maxLength": 8 + second})
    assert prepare_jobs_made(world) == 6, "the first one, and at 1, 11, 31, 71 and 151 s"
    assert "edited again" in world.condition("Prepared")["message"]
    writes = world.writes
    world.wake()
    assert world.writes == writes
    world.after(310)
    newest = world.status["prepareAttempt"]
    world.after(310)
    world.edit(preprocessing={"maxLength": 512})
    assert world.status["prepareAttempt"] == newest + 1, "an edit after a quiet time is followed at once"


def test_prepare_job_deleted_repeatedly_is_made_with_growing_pause() -> None:
    """A prepare job that somebody deletes again and again is made with a growing pause."""
    world = preparing()
    for _ in range(120):
        for name in world.names("Job"):
            world.delete("Job", name)
        world.after(1)
    assert world.status["prepareAttempt"] <= 5, "at 0, 1, 11, 31 and 71 s"
    assert world.phase == "Preparing"
    assert "Deleted" in world.condition("Prepared")["reason"]


@pytest.mark.parametrize("backoff_limit", [0, 3])
def test_damaged_data_is_prepared_again_and_training_goes_on_at_no_cost(backoff_limit: int) -> None:
    world = preparing(backoffLimit=backoff_limit)
    end(world, 1)
    for attempt in (1, 2):
        world.run(attempt)
        world.after(1)
        world.crash(attempt, 1, Reason.PREPARED_DAMAGED, cause=Cause.VOLUME)
        world.after(1 if attempt == 1 else 10)  # what falls again and again is tried at growing distances
        assert (world.phase, world.status["attempt"]) == ("Preparing", attempt)
        assert world.names("Job")[-1] == f"reviews-train-{attempt}"
        world.after(20)
        assert f"reviews-prepare-{attempt + 1}" in world.names("Job")
        world.run(attempt + 1, "prepare")
        end(world, attempt + 1)
        assert (world.phase, world.status["attempt"]) == ("Starting", attempt + 1)
        assert world.status["restarts"] == {"preemption": 0, "node": 0, "error": 0, "volume": attempt}
    world.succeed(3)
    world.after(1)
    assert world.phase == "Succeeded"


def test_damaged_data_that_node_0_prepares_itself_needs_no_job() -> None:
    world = World()
    world.wake()
    world.run(1)
    world.after(1)
    world.crash(1, 1, Reason.PREPARED_DAMAGED, cause=Cause.VOLUME)
    world.after(1)
    assert world.names("Job") == ["reviews-train-1", "reviews-train-2"]
    assert world.status["restarts"]["volume"] == 1
