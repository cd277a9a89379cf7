"""The operator is killed before each single effect of whole histories: what comes out must be the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from finetune_operator.plan.types import Create
from finetune_trainer.contract.records import Cause, Outcome, Reason
from tests.support.simulated import HUB_SPEC, SPEC, Killed, World
from tests.support.simulated_cluster import checkpoint

Event = Callable[[World], None]
SECOND = 1.0


def train(attempt: int, step: int, *, saves: bool = True) -> list[Event]:
    """Start the gang: it begins from the checkpoint that there is, and reaches a step."""

    def tell(world: World, **fields: Any) -> None:
        had = world.status.get("checkpoint")
        origin = checkpoint(had["step"], attempt - 1) if had and attempt > 1 else None
        world.tell(attempt, step=step, total_steps=100, resumed_from=origin, **fields)

    saved = checkpoint(step, attempt) if saves else None
    return [lambda world: world.run(attempt), tell, lambda world: tell(world, checkpoint=saved)]


def anew(attempt: int, step: int) -> list[Event]:
    """Let the gang find no checkpoint on the volume."""
    return [
        lambda world: world.run(attempt),
        lambda world: world.tell(attempt, step=0, total_steps=100),
        lambda world: world.tell(attempt, step=step, total_steps=100, checkpoint=checkpoint(step, attempt)),
    ]


def prepare(number: int, **fields: Any) -> list[Event]:
    code = 1 if fields else 0
    return [
        lambda world: world.run(number, "prepare"),
        lambda world: world.end(
            world.pod(number, 0, "prepare"), world.record(number, role="prepare", **fields), exit_code=code
        ),
    ]


def delete_pod(attempt: int, node: int) -> list[Event]:
    """Delete a pod, as a user does: it stops, its peer loses it, both leave their records."""

    def stopped(world: World) -> None:
        world.end(world.pod(attempt, node), world.record(attempt, node, outcome=Outcome.STOPPED))

    def lost(world: World) -> None:
        world.end(world.pod(attempt, 1 - node), world.record(attempt, 1 - node, reason=Reason.PEER_LOST))

    return [lambda world: world.ask_to_end(world.pod(attempt, node)), stopped, lost]


def evict(attempt: int, node: int) -> list[Event]:
    def ended(world: World) -> None:
        for index in (0, 1):
            world.end(world.pod(attempt, index), world.record(attempt, index, outcome=Outcome.STOPPED))

    return [lambda world: world.disrupt(world.pod(attempt, node), "EvictionByEvictionAPI"), ended]


def crash(attempt: int, reason: Reason = Reason.RANK_FAILED, **fields: Any) -> list[Event]:
    return [lambda world: world.crash(attempt, reason=reason, **fields)]


def wait(seconds: float) -> list[Event]:
    def pause(world: World) -> None:
        world.now = world.now + type(world.now - world.now)(seconds=seconds)

    return [pause]


def succeed(attempt: int) -> list[Event]:
    return [lambda world: world.succeed(attempt)]


def retry(world: World) -> None:
    world.spec = {**world.spec, "retry": 1}
    world.generation += 1


HISTORIES: dict[str, tuple[dict[str, Any], list[Event], str]] = {
    "undisturbed": (SPEC, [*train(1, 50), *succeed(1)], "Succeeded"),
    "prepared": (HUB_SPEC, [*prepare(1), *train(1, 50), *succeed(1)], "Succeeded"),
    "claim made": ({**SPEC, "storage": {"size": "5Gi"}}, [*train(1, 50), *succeed(1)], "Succeeded"),
    "prepared twice": (
        HUB_SPEC,
        [*prepare(1, reason=Reason.HUB_UNAVAILABLE), *wait(10), *prepare(2), *train(1, 50), *succeed(1)],
        "Succeeded",
    ),
    "user's error in preparing": (
        HUB_SPEC,
        prepare(1, reason=Reason.COLUMN_NOT_FOUND, cause=Cause.USER),
        "Failed",
    ),
    "a pod deleted": (SPEC, [*train(1, 50), *delete_pod(1, 1), *train(2, 60), *succeed(2)], "Succeeded"),
    "evicted twice": (
        SPEC,
        [*train(1, 50), *evict(1, 1), *train(2, 60), *evict(2, 0), *train(3, 70), *succeed(3)],
        "Succeeded",
    ),
    "crashes until the budget is spent": (
        {**SPEC, "backoffLimit": 2},
        [
            *train(1, 50, saves=False),
            *crash(1),
            *train(2, 60, saves=False),
            *crash(2),
            *train(3, 70, saves=False),
            *crash(3),
        ],
        "Failed",
    ),
    "crashes that each come farther": (
        {**SPEC, "backoffLimit": 1},
        [*train(1, 50), *crash(1), *train(2, 60), *crash(2), *train(3, 70), *crash(3), *train(4, 80), *succeed(4)],
        "Succeeded",
    ),
    "the volume is emptied": (
        SPEC,
        [*train(1, 50), *evict(1, 1), *anew(2, 10), *evict(2, 1), *train(3, 20), *succeed(3)],
        "Succeeded",
    ),
    "crashes that get nowhere": (
        {**SPEC, "backoffLimit": 3},
        [*crash(1), *crash(2), *wait(10), *crash(3), *wait(20), *crash(4)],
        "Failed",
    ),
    "user's error in training": (
        SPEC,
        [*train(1, 50), *crash(1, Reason.ARGUMENTS_INVALID, cause=Cause.USER)],
        "Failed",
    ),
    "prepared data that was damaged": (
        HUB_SPEC,
        [
            *prepare(1),
            *train(1, 50),
            *crash(1, Reason.PREPARED_DAMAGED, cause=Cause.VOLUME),
            *prepare(2),
            *train(2, 60),
            *succeed(2),
        ],
        "Succeeded",
    ),
    "started in vain": (
        {**SPEC, "startDeadlineSeconds": 60},
        [*wait(60), *wait(10), *train(2, 10), *succeed(2)],
        "Succeeded",
    ),
    "failed, and retried": (
        {**SPEC, "backoffLimit": 0},
        [*train(1, 50), *crash(1), retry, *train(2, 60), *succeed(2)],
        "Succeeded",
    ),
    "out of time": (
        {**SPEC, "activeDeadlineSeconds": 60},
        [*train(1, 50), *wait(60)],
        "Failed",
    ),
}


def live(world: World, events: list[Event]) -> None:
    """Wake the operator at each event and a second later; a killed operator starts again."""
    for event in (lambda _: None, *events):
        event(world)
        for seconds in (0.0, SECOND):
            world.now = world.now + type(world.now - world.now)(seconds=seconds)
            try:
                world.wake()
            except Killed:
                world.restart()
                world.wake()


def outcome(world: World) -> dict[str, Any]:
    """Return what must not depend on when the operator was killed. Times may."""
    created = [a.manifest["metadata"]["name"] for a in world.actions if isinstance(a, Create)]
    conditions = {
        condition["type"]: (condition["status"], condition["reason"], condition["message"])
        for condition in world.status["conditions"]
    }
    kept = (
        "phase",
        "attempt",
        "prepareAttempt",
        "restarts",
        "model",
        "evaluation",
        "checkpoint",
        "failure",
        "progress",
    )
    return {
        **{name: world.status.get(name) for name in kept},
        "budget": {name: value for name, value in world.status["budget"].items() if name != "started"},
        "conditions": conditions,
        "jobs": world.names("Job"),
        "suspended": sorted(n for n in world.names("Job") if (world.find("Job", n) or {})["spec"].get("suspend")),
        "created": sorted(set(created)),
        "phases": world.phases,
        "events": [(note.type, note.reason) for note in world.notes],
    }


def undisturbed(name: str) -> World:
    spec, events, _ = HISTORIES[name]
    world = World(spec=dict(spec))
    live(world, events)
    return world


@pytest.mark.parametrize("name", HISTORIES)
def test_a_history_ends_as_it_should(name: str) -> None:
    world = undisturbed(name)
    assert world.phase == HISTORIES[name][2], world.status


@pytest.mark.parametrize("name", HISTORIES)
def test_killed_before_any_effect_the_operator_carries_on(name: str) -> None:
    spec, events, _ = HISTORIES[name]
    whole = undisturbed(name)
    expected = outcome(whole)
    for moment in range(whole.effects):
        world = World(spec=dict(spec), kill_after=moment)
        live(world, events)
        assert outcome(world) == expected, f"killed before effect {moment}"


@pytest.mark.parametrize("name", HISTORIES)
def test_no_child_is_made_twice(name: str) -> None:
    """A create is repeated only where the first one was not carried out."""
    world = undisturbed(name)
    created = [a.manifest["metadata"]["name"] for a in world.actions if isinstance(a, Create)]
    named = [a.manifest["kind"] + a.manifest["metadata"]["name"] for a in world.actions if isinstance(a, Create)]
    assert len(named) == len(set(named)), created


def test_the_way_out_stands_in_the_event_however_long_the_message_is() -> None:
    from finetune_operator.plan.resolutions import RESOLUTIONS, with_way_out

    assert RESOLUTIONS[Reason.RANK_FAILED] in with_way_out("x" * 3000, RESOLUTIONS[Reason.RANK_FAILED], 1000)
    assert len(with_way_out("x" * 3000, RESOLUTIONS[Reason.RANK_FAILED], 1000)) <= 1000
    assert with_way_out("evicted", "Nothing: it goes on.") == "evicted"
