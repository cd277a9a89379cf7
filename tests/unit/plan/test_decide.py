"""The way of a job that nothing disturbs, and what every decision owes."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from finetune_operator.plan.decide import decide
from finetune_operator.plan.types import Create, PlanSettings
from finetune_trainer.contract.prepared import Resolved
from finetune_trainer.contract.records import CheckpointRef, PodPhase, Reason
from tests.support.simulated import HUB_SPEC, SETTINGS, World, begun
from tests.support.simulated_cluster import START, UID, checkpoint, condition


def test_a_job_goes_from_apply_to_model() -> None:
    world = World()
    world.wake()
    assert (world.phase, world.names("Job"), world.names("Service")) == ("Starting", ["reviews-train-1"], ["reviews"])
    world.run(1)
    world.after(1)
    world.tell(1, step=3, total_steps=100, loss=0.61, eta_seconds=41.2)
    world.after(1)
    world.succeed(1)
    world.after(5)
    assert world.phases == ["Starting", "Running", "Succeeded"]
    assert world.status["nodes"] == {"desired": 2, "ready": 2}
    assert world.status["model"] == {"claimName": "shared", "path": f"reviews/runs/{UID}/attempts/1/model"}
    assert world.status["evaluation"] == {"accuracy": 0.9}
    assert world.status["completionTime"] == "2026-03-01T12:00:07Z"
    assert world.reasons() == ["AttemptStarted", "Training", "Succeeded"]


def test_a_job_that_reads_the_hub_prepares_first() -> None:
    world = World(spec=HUB_SPEC)
    world.wake()
    assert (world.phase, world.names("Job")) == ("Preparing", ["reviews-prepare-1"])
    world.run(1, "prepare")
    world.after(5)
    record = world.record(1, role="prepare", resolved=Resolved(model_revision="abc"), messages=("2 rows were clamped",))
    world.end(world.pod(1, 0, "prepare"), record, exit_code=0)
    world.after(1)
    assert (world.phase, world.names("Job")) == ("Starting", ["reviews-prepare-1", "reviews-train-1"])
    assert world.condition("Prepared")["status"] == "True"
    assert world.status["resolved"]["modelRevision"] == "abc"
    assert world.reasons() == ["Prepared", "AttemptStarted", "Notice"]


def test_from_apply_to_running_few_requests_are_made() -> None:
    """The requests are the GET of the existing claim, the creates, the writes and the events; no LIST."""
    for spec, limit in ((World().spec, 10), (HUB_SPEC, 12)):
        world = World(spec=spec)
        world.wake()
        if spec is HUB_SPEC:
            world.run(1, "prepare")
            world.after(1)
            world.end(world.pod(1, 0, "prepare"), world.record(1, role="prepare"), exit_code=0)
            world.after(1)
        world.start(world.pod(1, 0))
        world.after(0.5)
        world.start(world.pod(1, 1))
        world.tell(1, begun=False, phase=PodPhase.WAITING)
        world.after(1)
        world.tell(1, phase=PodPhase.STARTING)
        world.after(1)
        assert world.phase == "Running"
        assert world.lists == 0
        assert len(world.known) + len(world.actions) + world.writes + len(world.notes) <= limit


def test_nodes_that_wait_for_one_that_does_not_come_name_it() -> None:
    world = World()
    world.wake()
    world.run(1)
    world.tell(1, begun=False, phase=PodPhase.WAITING)
    world.after(12)
    assert world.condition("Running")["reason"] == "WaitingForNodes"
    world.tell(1, begun=False, phase=PodPhase.WAITING, waiting_for="node 1")
    world.after(1)
    running = world.condition("Running")
    assert (running["reason"], "node 0 waits for node 1" in running["message"]) == ("WaitingForNodes", True)


@pytest.mark.parametrize("spec", [World().spec, HUB_SPEC])
def test_deciding_again_changes_nothing(spec: dict[str, object]) -> None:
    world = World(spec=spec)
    for _ in range(3):
        world.wake()
        again = decide(world.observed())
        assert (again.actions, again.events, again.status) == ((), (), world.status)


def test_one_node_needs_no_service() -> None:
    world = World(spec={**World().spec, "nodes": 1})
    world.wake()
    assert world.names("Service") == []
    assert world.names("Job") == ["reviews-train-1"]


def test_the_claim_is_made_before_anything_can_write_to_it() -> None:
    world = World(spec={**World().spec, "storage": {"size": "5Gi"}})
    world.known = {}
    first = decide(world.observed())
    assert [a.manifest["kind"] for a in first.actions if isinstance(a, Create)] == ["PersistentVolumeClaim"]
    world.wake()
    assert world.names("Job") == ["reviews-train-1"]
    assert world.status["claim"] == {"name": "reviews", "accessMode": "ReadWriteMany"}


def test_progress_is_asked_for_every_second_until_the_attempt_has_begun() -> None:
    world = World()
    assert not world.wake().wants_progress
    world.run(1)
    starting = world.after(1)
    assert (starting.wants_progress, starting.requeue_after_seconds) == (True, 1.0)
    world.tell(1, step=1, total_steps=9)
    running = world.after(1)
    assert (running.wants_progress, running.requeue_after_seconds) == (True, 5.0)


def test_progress_alone_is_written_no_more_often_than_its_interval() -> None:
    world = begun()
    writes = world.writes
    for second in range(1, 5):
        world.now = world.now.replace(second=world.now.second + 1)
        world.tell(1, step=10 + second, total_steps=100)
        world.wake()
    assert world.writes == writes
    world.tell(1, step=20, total_steps=100)
    world.after(1)
    world.tell(1, step=21, total_steps=100)
    world.wake()
    assert world.writes == writes + 1
    assert world.status["progress"]["step"] >= 14


def test_the_interval_of_progress_grows_with_the_crowd() -> None:
    """All jobs together write their progress 20 times a second at most, however many run."""
    usual = World().settings
    assert [usual.in_crowd(jobs).progress_interval_seconds for jobs in (1, 100, 1000)] == [5, 5, 50]

    world = begun(World(settings=usual.in_crowd(1000)))
    writes = world.writes
    for step, seconds, more in ((20, 20, 0), (30, 20, 0), (40, 20, 1)):
        world.tell(1, step=step, total_steps=100)
        looked = world.after(seconds)
        assert (looked.requeue_after_seconds, world.writes - writes) == (50, more)


def test_a_new_checkpoint_is_written_at_once() -> None:
    world = begun()
    world.tell(1, step=11, total_steps=100, checkpoint=checkpoint(10))
    world.after(0.5)
    assert world.status["checkpoint"]["step"] == 10
    assert world.status["progress"]["step"] == 11


def test_progress_of_another_run_or_attempt_is_not_believed() -> None:
    world = World()
    world.wake()
    world.run(1)
    world.tell(2, step=50, total_steps=100)
    world.after(1)
    assert world.phase == "Starting"
    world.tell(1, step=50, total_steps=100)
    assert world.progress is not None
    world.progress = world.progress.model_copy(update={"uid": "another"})
    world.after(1)
    assert world.phase == "Starting"


def test_values_that_json_cannot_carry_become_null() -> None:
    world = World()
    world.wake()
    world.run(1)
    values: dict[str, Any] = {
        "loss": float("nan"),
        "eta_seconds": float("inf"),
        "evaluation": {"accuracy": 0.5, "loss": float("nan")},
    }
    world.tell(1, step=1, total_steps=10, **values)
    world.after(1)
    assert "loss" not in world.status["progress"]
    assert "etaSeconds" not in world.status["progress"]
    assert world.status["evaluation"] == {"accuracy": 0.5}


def test_summary_holds_the_texts_of_the_columns() -> None:
    world = World()
    world.wake()
    world.run(1)
    world.tell(1, step=120, total_steps=375, loss=0.61321, eta_seconds=41.4)
    world.after(1)
    assert world.status["summary"] == {
        "nodes": "2/2",
        "steps": "120/375",
        "loss": "0.6132",
        "eta": "41s",
        "restarts": "0",
        "dataset": "train.csv",
    }
    assert world.status["progress"]["percent"] == 32


def test_conditions_speak_of_the_generation_and_keep_their_time() -> None:
    world = begun()
    validated = world.condition("Validated")
    world.after(60)
    world.edit(activeDeadlineSeconds=9000)
    assert world.condition("Validated") == {**validated, "observedGeneration": 2}
    assert world.condition("Running")["status"] == "True"
    assert world.status["observedGeneration"] == 2


def test_kstatus_sees_progress_rest_and_failure() -> None:
    world = World()
    world.wake()
    assert world.condition("Reconciling")["status"] == "True"
    world.run(1)
    world.tell(1, step=1, total_steps=9)
    world.after(1)
    assert [world.condition(kind)["status"] for kind in ("Reconciling", "Stalled")] == ["False", "False"]
    world.succeed(1)
    world.after(1)
    states = {kind: world.condition(kind)["status"] for kind in ("Complete", "Failed", "Running", "Reconciling")}
    assert states == {"Complete": "True", "Failed": "False", "Running": "False", "Reconciling": "False"}


def test_a_job_that_is_being_deleted_is_left_alone() -> None:
    world = begun()
    observed = world.observed()
    metadata = observed.job.metadata.model_copy(update={"deletion_timestamp": START})
    gone = decide(type(observed)(**{**vars(observed), "job": observed.job.model_copy(update={"metadata": metadata})}))
    assert (gone.actions, gone.status) == ((), world.status)


def test_success_is_node_0s_record_whatever_the_exit_code() -> None:
    world = begun()
    world.end(world.pod(1, 0), world.record(1, model_path="/output/x/model", step=100), exit_code=1)
    world.after(1)
    assert world.phase == "Succeeded"
    assert world.status["model"]["path"] == "x/model"


def test_exit_code_0_without_a_record_is_no_success() -> None:
    """A plain Python process that saved on SIGTERM exits with 0."""
    world = begun()
    world.end(world.pod(1, 0), exit_code=0)
    world.after(1)
    assert world.phase == "Running"


def test_a_complete_job_is_success_where_the_pods_are_gone() -> None:
    world = begun()
    world.succeed(1)
    for node in (0, 1):
        world.vanish(world.pod(1, node))
    world.restart()
    world.after(1)
    assert world.phase == "Succeeded"
    assert world.status["model"]["path"] == f"reviews/runs/{UID}/attempts/1/model"


def test_pods_outliving_success_are_ended() -> None:
    """Pods that outlive success are told to end after their grace period."""
    world = begun()
    world.end(world.pod(1, 0), world.record(1, step=100), exit_code=0)
    world.after(1)
    assert (world.phase, world.actions[-1].__class__.__name__) == ("Succeeded", "Create")
    world.after(31)
    job = world.find("Job", "reviews-train-1")
    assert job is not None
    assert job["spec"]["suspend"] is True


def test_resumed_training_says_from_where() -> None:
    world = World()
    world.wake()
    world.run(1)
    earlier = CheckpointRef(step=40, path="/output/reviews/runs/old/attempts/1/checkpoints/checkpoint-40", time=START)
    world.tell(1, step=41, total_steps=100, resumed_from=earlier)
    world.after(1)
    assert world.status["resumedFrom"]["step"] == 40
    assert "step 40" in next(note.message for note in world.notes if note.reason == "Resumed")


def test_each_message_of_the_trainer_is_told_once() -> None:
    world = begun()
    text = "checkpoint-10 was broken and moved aside"
    for step in (11, 30, 50):
        world.tell(1, step=step, total_steps=100, messages=(text,))
        world.after(6)
    assert world.status["messages"] == [text]
    assert [note.message for note in world.notes if note.reason == "Notice"] == [text]


def test_older_names_of_arguments_are_reported() -> None:
    world = World(spec={**World().spec, "trainingArguments": {"evaluation_strategy": "epoch"}})
    world.wake()
    note = next(note for note in world.notes if note.reason == "DeprecatedArgument")
    assert note.type == "Warning"
    assert "eval_strategy" in note.message


def test_the_last_report_is_written_also_where_none_follows() -> None:
    """The report came soon after the one before, and nothing else ever changes: the next look writes it."""
    world = begun(step=10)
    world.now += timedelta(seconds=2)
    world.tell(1, step=11, total_steps=100)
    world.wake()
    assert world.status["progress"]["step"] == 10
    world.after(4)
    assert world.status["progress"]["step"] == 11


def test_the_column_reason_is_empty_while_all_is_well() -> None:
    world = World(spec=HUB_SPEC)
    for happen in (
        world.wake,
        lambda: world.run(1, "prepare"),
        lambda: world.end(world.pod(1, 0, "prepare"), world.record(1, role="prepare"), exit_code=0),
        lambda: world.start(world.pod(1, 0)),
        lambda: world.start(world.pod(1, 1)),
        lambda: world.tell(1, phase=PodPhase.STARTING),
        lambda: world.tell(1, step=1, total_steps=100),
        lambda: world.succeed(1),
    ):
        happen()
        world.after(1)
        assert "reason" not in world.status["summary"], world.phase
    assert world.phase == "Succeeded"


def test_the_column_reason_says_why_a_job_waits_starts_again_or_failed() -> None:
    def reason(world: World) -> str | None:
        summary_reason: str | None = world.status["summary"].get("reason")
        return summary_reason

    waits = World()
    waits.cluster = {}
    waits.wake()
    assert (waits.phase, reason(waits)) == ("Pending", "ClaimNotFound")
    stuck = World()
    stuck.wake()
    pod = stuck.pod(1, 0)
    pod["status"] = {"phase": "Pending", "conditions": [condition("PodScheduled", START, "False", message="no GPU")]}
    stuck.after(3)
    assert (stuck.phase, reason(stuck)) == ("Starting", stuck.condition("Running")["reason"])
    crashed = begun()
    crashed.crash(1, reason=Reason.OUT_OF_MEMORY)
    crashed.after(1)
    assert (crashed.phase, reason(crashed)) == ("Restarting", "OutOfMemory")
    failed = begun(World(spec={**World().spec, "backoffLimit": 0}))
    failed.crash(1, reason=Reason.OUT_OF_MEMORY)
    failed.after(1)
    assert (failed.phase, failed.condition("Failed")["reason"]) == ("Failed", "BackoffLimitExceeded")
    assert reason(failed) == "OutOfMemory"


# --- whose job it is -------------------------------------------------------------------------------------------------


def marked(operator: str) -> PlanSettings:
    return replace(SETTINGS, operator=operator)


def test_the_first_status_carries_the_operators_mark() -> None:
    world = World(settings=marked("system/one"))
    world.wake()
    assert world.status["operator"] == "system/one"
    assert world.writes == 1


def test_an_operator_that_takes_a_job_over_marks_it_at_once_and_says_so() -> None:
    world = World(settings=marked("system/one"))
    world.wake()
    world.settings = marked("team/two")
    world.restart()
    world.wake()
    assert world.status["operator"] == "team/two"
    assert world.reasons().count("TakenOver") == 1
    world.after(1)
    assert world.reasons().count("TakenOver") == 1


def test_a_job_of_an_operator_without_marks_is_marked_without_a_word() -> None:
    world = World()
    world.wake()
    assert "operator" not in world.status
    world.settings = marked("system/one")
    world.restart()
    world.wake()
    assert (world.status["operator"], "TakenOver" in world.reasons()) == ("system/one", False)


def test_a_job_that_is_over_is_not_written_for_a_mark() -> None:
    world = World(settings=marked("system/one"))
    world.wake()
    world.run(1)
    world.succeed(1)
    world.after(1)
    world.after(60)
    assert world.phase == "Succeeded"
    writes = world.writes
    world.settings = marked("team/two")
    world.restart()
    world.after(60)
    assert (world.writes, world.status["operator"]) == (writes, "system/one")
