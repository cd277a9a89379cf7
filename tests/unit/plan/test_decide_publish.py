"""Publishing: after the training pods, one Job at a time, until the model is on the Hub; training is never repeated."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from finetune_operator.plan.types import PodEvent, Ref, Refusal, Suspend
from finetune_trainer.contract.records import Cause, Outcome, Reason
from tests.support.simulated import PUBLISH_SPEC, World, begun, trained
from tests.support.simulated_cluster import HUB, START, stamp

PREPARED = ["reviews-prepare-1"]
TRAINED = [*PREPARED, "reviews-publish-1", "reviews-train-1"]


def publishing(**spec: object) -> World:
    """Make a world whose publish pod runs."""
    world = trained(**spec)
    world.run(1, "publish")
    world.after(1)
    return world


def end(world: World, number: int, **fields: object) -> None:
    record = world.record(number, role="publish", **fields)  # type: ignore[arg-type]
    world.end(world.pod(number, 0, "publish"), record, exit_code=0 if record.outcome is Outcome.SUCCEEDED else 1)
    world.after(1)


def again(world: World, number: int) -> None:
    world.run(number, "publish")
    world.after(1)


def deadline(world: World, number: int) -> str:
    job = world.find("Job", f"reviews-publish-{number}")
    assert job is not None
    (trainer,) = job["spec"]["template"]["spec"]["containers"]
    return next(str(variable["value"]) for variable in trainer["env"] if variable["name"] == "FINETUNE_DEADLINE")


def test_the_model_is_published_when_training_is_over() -> None:
    world = publishing()
    assert (world.phase, world.names("Job")) == ("Publishing", TRAINED)
    published = world.condition("Published")
    assert (published["status"], published["reason"]) == ("False", "Publishing")
    assert published["message"] == "Job reviews-publish-1 publishes the model to me/reviews"
    assert world.condition("Running")["message"] == "training is over"
    assert world.condition("Complete")["status"] == "False"
    assert world.condition("Reconciling")["message"] == published["message"]
    assert "completionTime" not in world.status
    assert "reason" not in world.status["summary"]
    world.publish(1)
    world.after(1)
    assert (world.phase, world.condition("Published")["status"]) == ("Succeeded", "True")
    assert world.status["model"]["hub"] == {"repoId": HUB["repo_id"], "url": HUB["url"], "commit": HUB["commit"]}
    assert world.status["completionTime"]
    assert "failure" not in world.status
    assert world.phases[-3:] == ["Running", "Publishing", "Succeeded"]
    messages = {note.reason: note.message for note in world.notes}
    assert messages["Published"] == f"the model is at {HUB['url']} (commit {HUB['commit']})"
    assert HUB["url"] in messages["Succeeded"]
    assert "goes to me/reviews" in messages["Publishing"]


def test_a_job_that_does_not_publish_has_no_condition_about_it() -> None:
    world = begun()
    assert "Published" not in [condition["type"] for condition in world.status["conditions"]]


def test_before_it_is_time_the_condition_is_unknown() -> None:
    world = World(spec=PUBLISH_SPEC)
    world.wake()
    assert (world.phase, world.condition("Published")["status"]) == ("Preparing", "Unknown")


def test_accelerators_are_given_back_first() -> None:
    world = World(spec=PUBLISH_SPEC)
    world.wake()
    world.run(1, "prepare")
    world.end(world.pod(1, 0, "prepare"), world.record(1, role="prepare"), exit_code=0)
    begun(world)
    record = world.record(1, 0, model_path=f"/output/reviews/runs/{world.job().metadata.uid}/attempts/1/model")
    world.end(world.pod(1, 0), record, exit_code=0)
    world.after(1)
    assert (world.phase, world.names("Job")) == ("Publishing", ["reviews-prepare-1", "reviews-train-1"])
    assert "when the training pods have ended" in world.condition("Published")["message"]
    world.after(30)  # the other node does not end by itself: it is told to
    assert Suspend("reviews-train-1") in world.actions
    assert "reviews-publish-1" not in world.names("Job")
    world.end(world.pod(1, 1), world.record(1, 1, outcome=Outcome.STOPPED), exit_code=143)
    world.after(1)
    assert "reviews-publish-1" in world.names("Job")


@pytest.mark.parametrize("noticed", [True, False])
def test_a_lost_node_does_not_keep_the_model_from_the_hub(*, noticed: bool) -> None:
    world = begun()
    world.spec = {**world.spec, "hub": PUBLISH_SPEC["hub"], "publish": PUBLISH_SPEC["publish"]}
    world.end(world.pod(1, 0), world.record(1, 0), exit_code=0)
    if noticed:
        world.lose_machine("machine-1")
    else:
        world.nodes = None
        world.ask_to_end(world.pod(1, 1))
    world.after(1)
    for _ in range(4):
        world.after(40)
    assert "reviews-publish-1" in world.names("Job")


@pytest.mark.parametrize("reason", [Reason.ACCESS_DENIED, Reason.REPO_INVALID, Reason.MODEL_DAMAGED])
def test_what_the_user_must_mend_fails_at_once_and_keeps_the_model(reason: Reason) -> None:
    world = publishing()
    end(world, 1, reason=reason, cause=Cause.USER)
    assert (world.phase, world.status["failure"]["reason"]) == ("Failed", reason)
    assert (world.condition("Published")["status"], world.condition("Published")["reason"]) == ("False", reason)
    advice = world.status["failure"]["resolution"]
    assert advice in world.condition("Failed")["message"]
    if reason is not Reason.MODEL_DAMAGED:
        assert advice.count("`spec.retry`") == 1
        assert "published without training again" in advice
    assert world.status["model"]["claimName"] == "shared"
    assert world.status["nodes"] == {"desired": 2, "ready": 2}
    assert world.status["summary"]["reason"] == reason
    warnings = [(note.reason, note.message) for note in world.notes if note.type == "Warning"]
    assert [reason for reason, _ in warnings] == ["PublishFailed", reason]
    assert "the model stays on claim shared" in warnings[0][1]


def test_what_may_pass_is_tried_again_with_backoff_until_the_deadline() -> None:
    world = publishing(publish={"repoId": "me/reviews", "deadlineSeconds": 60})
    until = deadline(world, 1)
    for number, pause in ((1, 10), (2, 20)):
        end(world, number, reason=Reason.HUB_UNAVAILABLE)
        assert world.names("Job")[-2] == f"reviews-publish-{number}"
        assert world.condition("Published")["reason"] == world.status["summary"]["reason"] == "HubUnavailable"
        assert "Tried again in" in world.condition("Published")["message"]
        world.after(pause)
        assert f"reviews-publish-{number + 1}" in world.names("Job")
        assert deadline(world, number + 1) == until
        world.run(number + 1, "publish")
    assert "reviews-publish-1" not in world.names("Job")
    world.after(24)
    end(world, 3, reason=Reason.HUB_UNAVAILABLE)
    assert (world.phase, world.status["failure"]["reason"]) == ("Failed", "HubUnavailable")
    assert "It was tried for 1m00s (publish.deadlineSeconds)" in world.status["failure"]["message"]
    assert world.reasons().count("PublishingAgain") == 2


def test_the_deadline_counts_from_the_end_of_training_whoever_operates() -> None:
    world = trained()
    ended = datetime.fromisoformat(world.status["budget"]["publishStarted"])
    assert deadline(world, 1) == stamp(ended + timedelta(days=1))
    world.run(1, "publish")
    world.after(3600)
    world.restart()
    world.disrupt(world.pod(1, 0, "publish"), "EvictionByEvictionAPI")
    world.end(world.pod(1, 0, "publish"), world.record(1, role="publish", outcome=Outcome.STOPPED), exit_code=143)
    world.after(0)
    assert "reviews-publish-2" in world.names("Job")
    assert deadline(world, 2) == deadline(world, 1)
    assert "training goes on" not in str(world.status)


@pytest.mark.parametrize("how", ["deleted", "evicted", "its Job deleted"])
def test_a_pod_that_is_lost_is_replaced_at_once(how: str) -> None:
    world = publishing()
    pod = world.pod(1, 0, "publish")
    if how == "its Job deleted":
        world.delete("Job", "reviews-publish-1")
    else:
        world.ask_to_end(pod) if how == "deleted" else world.disrupt(pod, "EvictionByEvictionAPI")
        world.end(pod, world.record(1, role="publish", outcome=Outcome.STOPPED), exit_code=143)
    world.after(1)
    assert (world.phase, world.status["publishAttempt"]) == ("Publishing", 2)
    again(world, 2)
    world.publish(2)
    world.after(1)
    assert (world.phase, world.names("Job")[0]) == ("Succeeded", "reviews-prepare-1")


def test_raising_retry_publishes_again_and_neither_prepares_nor_trains() -> None:
    world = publishing()
    end(world, 1, reason=Reason.ACCESS_DENIED, cause=Cause.USER)
    failed_at = world.now
    world.now += timedelta(days=3)
    world.edit(retry=1, publish={"repoId": "team/reviews"})
    assert (world.phase, world.status["publishAttempt"], world.status["attempt"]) == ("Publishing", 2, 1)
    assert world.status["prepareAttempt"] == 1
    assert "failure" not in world.status
    assert "completionTime" not in world.status
    assert world.condition("Published")["message"] == "Job reviews-publish-2 publishes the model to team/reviews"
    assert datetime.fromisoformat(world.status["budget"]["publishStarted"]) > failed_at
    assert len(world.names("ConfigMap")) == 2
    again(world, 2)
    world.publish(2)
    world.after(1)
    assert world.phase == "Succeeded"
    assert world.names("Job") == ["reviews-prepare-1", "reviews-publish-1", "reviews-publish-2", "reviews-train-1"]


def test_retry_while_it_is_published_begins_anew_with_what_the_edit_says() -> None:
    world = publishing()
    world.edit(retry=1, publish={"repoId": "team/reviews"})
    old = world.find("Job", "reviews-publish-1")
    assert old is not None
    assert old["spec"]["suspend"] is True
    assert world.status["publishAttempt"] == 2


def test_publishing_taken_out_of_a_failed_job_ends_it_well() -> None:
    world = publishing()
    end(world, 1, reason=Reason.ACCESS_DENIED, cause=Cause.USER)
    del world.spec["publish"]
    world.edit(retry=1)
    assert (world.phase, world.names("Job")) == ("Succeeded", TRAINED)
    assert "failure" not in world.status


def test_publishing_asked_for_later_publishes_a_model_that_is_there() -> None:
    world = begun()
    world.succeed(1)
    world.after(1)
    assert world.phase == "Succeeded"
    world.edit(retry=1, hub=PUBLISH_SPEC["hub"], publish=PUBLISH_SPEC["publish"])
    assert (world.phase, world.names("Job")) == ("Publishing", ["reviews-publish-1", "reviews-train-1"])
    again(world, 1)
    world.publish(1)
    world.after(1)
    assert world.phase == "Succeeded"
    world.edit(retry=2)
    assert (world.phase, world.status["publishAttempt"]) == ("Succeeded", 1)


def test_a_missing_secret_shows_and_is_waited_for() -> None:
    world = trained()
    pod = world.pod(1, 0, "publish")
    pod["status"]["conditions"] = [{"type": "PodScheduled", "status": "True"}]
    text = 'MountVolume.SetUp failed for volume "finetune-hub-token" : secret "hf" not found'
    world.events[pod["metadata"]["uid"]] = (PodEvent("FailedMount", text, 3),)
    world.after(3)
    published = world.condition("Published")
    assert (world.phase, published["status"]) == ("Publishing", "False")
    assert "hf" in published["message"]
    assert world.status["summary"]["reason"] == published["reason"] != "Publishing"
    assert published["reason"] in world.reasons()
    world.events.clear()
    world.run(1, "publish")
    world.after(1)
    assert world.condition("Published")["reason"] == "Publishing"


def test_a_pod_that_never_starts_has_until_the_deadline_too() -> None:
    world = trained(publish={"repoId": "me/reviews", "deadlineSeconds": 600})
    world.after(590)
    assert world.phase == "Publishing"
    world.after(10)
    assert (world.phase, world.status["failure"]["reason"]) == ("Failed", "PublishDeadlineExceeded")
    job = world.find("Job", "reviews-publish-1")
    assert job is not None
    assert job["spec"]["suspend"] is True


def test_the_jobs_own_deadline_ends_with_training() -> None:
    world = publishing(activeDeadlineSeconds=100)
    world.after(3600)
    assert world.phase == "Publishing"


def test_a_complete_job_whose_pod_told_nothing_is_asked_again() -> None:
    world = publishing()
    world.finish_job("reviews-publish-1")
    world.vanish(world.pod(1, 0, "publish"))
    world.after(1)
    assert world.status["publishAttempt"] == 2
    world.publish(2)
    world.after(1)
    assert (world.phase, world.status["model"]["hub"]["commit"]) == ("Succeeded", HUB["commit"])


def test_a_refused_job_is_told_by_the_condition_and_waited_for() -> None:
    world = World(spec=PUBLISH_SPEC)
    world.refusals = (Refusal(Ref("Job", "reviews-publish-1"), 403, "Forbidden", "exceeded quota: compute"),)
    world.wake()
    world.run(1, "prepare")
    world.end(world.pod(1, 0, "prepare"), world.record(1, role="prepare"), exit_code=0)
    begun(world)
    world.succeed(1)
    world.after(1)
    assert (world.phase, world.condition("Published")["reason"]) == ("Publishing", "CreateForbidden")
    assert "exceeded quota" in world.condition("Published")["message"]
    world.refusals = ()
    world.after(60)
    assert (world.condition("Published")["reason"], world.names("Job")) == ("Publishing", TRAINED)


def test_a_claim_that_was_deleted_is_not_replaced_by_an_empty_one() -> None:
    world = trained(storage={"size": "1Gi"})
    assert world.names("PersistentVolumeClaim") == ["reviews"]
    end(world, 1, reason=Reason.ACCESS_DENIED, cause=Cause.USER)
    world.delete("PersistentVolumeClaim", "reviews")
    world.edit(retry=1)
    assert world.names("PersistentVolumeClaim") == []
    assert world.status["publishAttempt"] == 2
    assert world.now > START


def test_a_pod_that_went_while_no_operator_looked_is_replaced_soon() -> None:
    world = publishing()
    world.delete("Pod", world.pod(1, 0, "publish")["metadata"]["name"])
    world.finish_job("reviews-publish-1", "Failed")
    world.restart()
    world.after(1)
    assert world.condition("Published")["reason"] == "Unknown"
    world.after(10)
    assert world.status["publishAttempt"] == 2


def test_publish_job_deleted_repeatedly_is_made_with_growing_pause() -> None:
    """A publish job that somebody deletes again and again is made with a growing pause."""
    world = publishing()
    for _ in range(120):
        for name in world.names("Job"):
            if "publish" in name:
                world.delete("Job", name)
        world.after(1)
    assert 2 <= world.status["publishAttempt"] <= 5, "at 0, 1, 11, 31 and 71 s"
    assert world.phase == "Publishing"
