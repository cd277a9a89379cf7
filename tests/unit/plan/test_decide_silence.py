"""Nodes that do not answer the control plane: when their pods train on, and when they are lost."""

from __future__ import annotations

import pytest

from finetune_operator.plan.types import Suspend
from finetune_trainer.contract.records import Outcome
from tests.support.simulated import HUB_SPEC, World, begun
from tests.support.simulated_cluster import UNREACHABLE

PATIENCE = World().settings.lost_node_seconds
MACHINES = ("machine-0", "machine-1")


def trains_on(world: World, seconds: int, *, steps: bool = True) -> None:
    """Let the job train on, as the operator sees it, second by second."""
    assert world.progress is not None
    for _ in range(seconds):
        step = (world.progress.step or 0) + steps
        if steps:
            world.tell(1, step=step, total_steps=10_000)
        world.after(1)


def untouched(world: World) -> bool:
    return world.status["attempt"] == 1 and not any(isinstance(action, Suspend) for action in world.actions)


def lost_after(world: World, seconds: float) -> bool:
    """Return whether the next attempt comes when the operator itself looks again, and not before this time."""
    since = world.now
    while world.status["attempt"] == 1 and (world.now - since).total_seconds() < 10 * seconds:
        world.after(world.decision.requeue_after_seconds or 10 * seconds)
    return world.status["attempt"] == 2 and seconds <= (world.now - since).total_seconds() < seconds + 2


@pytest.mark.parametrize("counted", [True, False], ids=["one by one", "the control plane was cut off"])
def test_all_nodes_fall_silent_while_steps_are_made(*, counted: bool) -> None:
    world = begun()
    for machine in MACHINES:
        world.lose_machine(machine, counted=counted)
    trains_on(world, 14)
    running = world.condition("Running")
    assert (running["status"], running["reason"]) == ("True", "NodeSilent")
    assert "machine-0, machine-1 do not answer the control plane; training goes on" in running["message"]
    trains_on(world, 5 * PATIENCE)
    for machine in MACHINES:
        world.find_machine(machine)
    trains_on(world, 3)
    assert untouched(world)
    assert (world.phase, world.condition("Running")["reason"]) == ("Running", "Training")
    assert world.reasons().count("NodeSilent") == 1


def test_a_node_is_lost_when_its_time_is_over_and_no_step_is_made() -> None:
    world = begun()
    world.after(10)
    world.lose_machine("machine-1")
    world.wake()
    assert lost_after(world, PATIENCE)
    world.end(world.pod(1, 0), world.record(1, 0, outcome=Outcome.STOPPED), exit_code=143)
    world.after(1)
    assert (world.status["failure"]["reason"], world.status["failure"]["node"]) == ("NodeLost", 1)


def test_the_time_of_a_silent_node_begins_with_the_last_step() -> None:
    world = begun()
    world.lose_machine("machine-1")
    trains_on(world, 30)
    assert lost_after(world, PATIENCE - 1), "the last step was a second ago"


def test_too_many_silent_nodes_delete_nothing() -> None:
    """The cluster takes its own taints away then, and evicts nothing."""
    world = begun()
    for machine in MACHINES:
        world.lose_machine(machine, counted=False)
    trains_on(world, 3 * PATIENCE, steps=False)
    assert untouched(world)
    assert world.condition("Running")["reason"] == "NodeSilent"


@pytest.mark.parametrize("given_up", ["node deleted", "out of service", "pod evicted"])
def test_what_the_cluster_gives_up_is_lost_at_once(given_up: str) -> None:
    world = begun()
    world.lose_machine("machine-1")
    trains_on(world, 3)
    match given_up:
        case "node deleted":
            world.remove_machine("machine-1")
        case "out of service":
            world.lose_machine("machine-1", taint="node.kubernetes.io/out-of-service")
        case "pod evicted":
            world.disrupt(world.pod(1, 1), "DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint")
    world.after(1)
    assert (world.status["attempt"], world.phase) == (2, "Restarting")


def test_a_lost_node_without_steps_costs_nothing_of_the_budget() -> None:
    world = begun()
    world.lose_machine("machine-1")
    for _ in range(4 * PATIENCE):
        world.after(1)
    assert {cause: count for cause, count in world.status["restarts"].items() if count} == {"node": 1}


def test_a_prepare_pod_on_a_silent_node_is_waited_for_and_then_made_again() -> None:
    world = World(spec=HUB_SPEC)
    world.wake()
    world.run(1, "prepare")
    world.after(5)
    world.lose_machine("machine-0", taint=UNREACHABLE)
    world.after(1)
    prepared = world.condition("Prepared")
    assert (prepared["status"], prepared["reason"]) == ("False", "NodeSilent")
    assert world.names("Job") == ["reviews-prepare-1"]
    since = world.now
    while "reviews-prepare-2" not in world.names("Job") and (world.now - since).total_seconds() < 10 * PATIENCE:
        world.after(world.decision.requeue_after_seconds or 10 * PATIENCE)
    assert PATIENCE - 2 <= (world.now - since).total_seconds() < PATIENCE + 20
