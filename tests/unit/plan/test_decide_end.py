"""Every way in which a job ends, and that no condition says then that something is still under way."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Any

import pytest

from finetune_operator.plan.conditions import UNDER_WAY
from finetune_operator.plan.types import PodEvent, Ref, Refusal
from finetune_trainer.contract.records import Cause, PodPhase, Reason
from tests.support.simulated import HUB_SPEC, PUBLISH_SPEC, SPEC, World, begun, trained

UNFINISHED = re.compile(
    r"is tried again|Tried again|goes on|being prepared|prepares model|goes to|is waited for|not there yet|started$"
)
LIMIT = 600


def preparing(**spec: Any) -> World:
    world = World(spec=copy.deepcopy({**HUB_SPEC, "activeDeadlineSeconds": LIMIT, **spec}))
    world.wake()
    world.run(1, "prepare")
    world.after(1)
    return world


def prepare_ends(world: World, number: int = 1, **fields: Any) -> None:
    world.end(world.pod(number, 0, "prepare"), world.record(number, role="prepare", **fields))
    world.after(1)


def out_of_time(world: World) -> World:
    world.after(LIMIT)
    return world


def spec_invalid() -> World:
    world = World(spec={**copy.deepcopy(SPEC), "nodes": 2, "storage": {"size": "1Gi", "accessMode": "ReadWriteOnce"}})
    world.wake()
    return world


def prepare_refused_by_data() -> World:
    world = preparing()
    prepare_ends(world, reason=Reason.COLUMN_NOT_FOUND, cause=Cause.USER)
    return world


def prepare_crashes_too_often() -> World:
    world = preparing(backoffLimit=0)
    prepare_ends(world, reason=Reason.INTERNAL)
    return world


def out_of_time_while_preparing() -> World:
    return out_of_time(preparing())


def out_of_time_before_preparing_is_tried_again() -> World:
    world = preparing()
    prepare_ends(world, reason=Reason.HUB_UNAVAILABLE)
    world.after(world.decision.requeue_after_seconds or 0)
    number = int(world.status["prepareAttempt"])
    if world.phase == "Preparing" and number > 1:
        prepare_ends(world, number, reason=Reason.HUB_UNAVAILABLE)
    return out_of_time(world)


def out_of_time_without_a_place_to_prepare() -> World:
    world = World(spec=copy.deepcopy({**HUB_SPEC, "activeDeadlineSeconds": LIMIT}))
    world.wake()
    pod = world.pod(1, 0, "prepare")
    world.events[pod["metadata"]["uid"]] = (PodEvent("FailedScheduling", "0/2 nodes are available: 2 cordoned"),)
    for _ in range(20):
        world.after(1)
    assert world.condition("Prepared")["reason"] == "FailedScheduling"
    return out_of_time(world)


def out_of_time_while_a_creation_is_refused() -> World:
    world = preparing()
    world.refusals = (Refusal(Ref("Job", "reviews-train-1"), 403, "Forbidden", "exceeded quota: gpus"),)
    prepare_ends_well(world)
    assert "It is tried again" in world.condition("Validated")["message"]
    return out_of_time(world)


def prepare_ends_well(world: World) -> None:
    world.end(world.pod(1, 0, "prepare"), world.record(1, role="prepare"), exit_code=0)
    world.after(1)


def inline_preparing_refused() -> World:
    world = World()
    world.wake()
    world.run(1)
    world.tell(1, phase=PodPhase.PREPARING)
    world.after(1)
    assert world.condition("Prepared")["reason"] == "PreparingData"
    world.crash(1, reason=Reason.COLUMN_NOT_FOUND, cause=Cause.USER)
    world.after(1)
    return world


def inline_before_a_word_of_node_0() -> World:
    world = World()
    world.wake()
    world.run(1)
    world.after(1)
    world.crash(1, reason=Reason.FILE_NOT_FOUND, cause=Cause.USER)
    world.after(1)
    return world


def out_of_time_while_starting() -> World:
    world = World(spec=copy.deepcopy({**SPEC, "activeDeadlineSeconds": LIMIT}))
    world.wake()
    return out_of_time(world)


def training_crashes_too_often() -> World:
    publishing = {name: PUBLISH_SPEC[name] for name in ("hub", "publish")}
    world = preparing(**publishing, backoffLimit=0)
    prepare_ends_well(world)
    begun(world)
    world.crash(1)
    world.after(1)
    return world


def out_of_time_on_a_silent_node() -> World:
    world = begun(World(spec={**copy.deepcopy(SPEC), "activeDeadlineSeconds": LIMIT}))
    for machine in ("machine-0", "machine-1"):
        world.lose_machine(machine, counted=False)
    world.after(5)
    assert world.condition("Running")["reason"] == "NodeSilent"
    return out_of_time(world)


def trained_without_publishing() -> World:
    world = begun()
    world.succeed(1)
    world.after(1)
    return world


def published() -> World:
    world = trained()
    world.run(1, "publish")
    world.publish(1)
    world.after(1)
    return world


def publishing_refused() -> World:
    world = trained()
    world.run(1, "publish")
    world.end(
        world.pod(1, 0, "publish"), world.record(1, role="publish", reason=Reason.ACCESS_DENIED, cause=Cause.USER)
    )
    world.after(1)
    return world


def publishing_out_of_time() -> World:
    world = trained(publish={**PUBLISH_SPEC["publish"], "deadlineSeconds": LIMIT})
    for _ in range(LIMIT // 10):
        if world.phase == "Failed":
            break
        number = int(world.status.get("publishAttempt") or 0)
        if number:
            world.ask_to_end(world.pod(number, 0, "publish"))
            world.vanish(world.pod(number, 0, "publish"))
        world.after(max(world.decision.requeue_after_seconds or 0, 10))
    return world


WAYS = (
    spec_invalid,
    prepare_refused_by_data,
    prepare_crashes_too_often,
    out_of_time_while_preparing,
    out_of_time_before_preparing_is_tried_again,
    out_of_time_without_a_place_to_prepare,
    out_of_time_while_a_creation_is_refused,
    inline_preparing_refused,
    inline_before_a_word_of_node_0,
    out_of_time_while_starting,
    training_crashes_too_often,
    out_of_time_on_a_silent_node,
    trained_without_publishing,
    published,
    publishing_refused,
    publishing_out_of_time,
)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_no_condition_of_a_finished_job_says_that_something_is_under_way(way: Callable[[], World]) -> None:
    world = way()
    assert world.phase in ("Succeeded", "Failed"), world.status
    for condition in world.status["conditions"]:
        message = re.split("; last seen: | What to do: ", condition["message"])[0]
        assert condition["status"] in ("True", "False"), condition
        assert condition["reason"] not in UNDER_WAY, condition
        assert not UNFINISHED.search(message), condition
        assert "ried again" not in condition["message"], condition
    before = world.status
    world.after(3600)
    assert world.status == before, "what was said at the end stays"


def test_what_kept_a_job_that_ran_out_of_time_is_told() -> None:
    prepared = out_of_time_without_a_place_to_prepare().condition("Prepared")
    assert prepared["reason"] == "FailedScheduling"
    assert "2 nodes are available" in prepared["message"] or "cordoned" in prepared["message"]


def test_a_failed_job_that_starts_again_has_everything_ahead_of_it() -> None:
    world = training_crashes_too_often()
    assert world.condition("Published")["reason"] == "NotPublished"
    world.edit(retry=1)
    assert (world.condition("Published")["status"], world.condition("Published")["reason"]) == ("Unknown", "NotYet")
    assert world.condition("Prepared")["reason"] == "Preparing", "model and data may have been mended"
