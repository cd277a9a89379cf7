"""The operator in memory, one FineTuneJob and a simulated cluster: an engine that can die before any of its effects.

It drives `decide` through histories that are long or rare, as the real engine would.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.plan.decide import decide
from finetune_operator.plan.desired.manifests import is_controlled_by
from finetune_operator.plan.types import (
    Action,
    Create,
    Decision,
    Delete,
    EventNote,
    Manifest,
    Observed,
    PlanSettings,
    PodEvent,
    Ref,
    Refusal,
    Suspend,
)
from tests.support.simulated_cluster import NAMESPACE, START, UID, SimulatedCluster, claim, stamp, well_machine

SETTINGS = PlanSettings(trainer_image="registry.example/finetune/trainer:1")
ROUNDS = 12
"""Decisions that one wake-up may take until it must come to rest."""

SPEC: Manifest = {
    "task": "text-classification",
    "model": {"name": "/data/model"},
    "dataset": {"files": {"train": ["/data/train.csv"]}},
    "nodes": 2,
    "storage": {"claimName": "shared"},
}
HUB_SPEC: Manifest = {**SPEC, "model": {"name": "google-bert/bert-base-cased"}}
"""Spec that needs a prepare Job."""
PUBLISH_SPEC: Manifest = {
    **HUB_SPEC,
    "hub": {"tokenSecretRef": {"name": "hf", "key": "token"}},
    "publish": {"repoId": "me/reviews"},
}
"""Spec that needs a prepare Job and a publish Job."""


class Killed(Exception):
    """The end of an operator that was killed."""


@dataclass
class World(SimulatedCluster):
    """A FineTuneJob with its children."""

    spec: Manifest = field(default_factory=lambda: copy.deepcopy(SPEC))
    settings: PlanSettings = SETTINGS
    status: Manifest = field(default_factory=dict)
    generation: int = 1
    cluster: dict[Ref, Manifest] = field(
        default_factory=lambda: {Ref("PersistentVolumeClaim", "shared"): claim("shared")}
    )
    """Objects that the spec may name."""
    events: dict[str, tuple[PodEvent, ...]] = field(default_factory=dict)
    """Warning events by uid, as the API server holds them."""
    refusals: tuple[Refusal, ...] = ()
    actions: list[Action] = field(default_factory=list)
    """Actions that were carried out."""
    notes: list[EventNote] = field(default_factory=list)
    """Events that were posted."""
    phases: list[str] = field(default_factory=list)
    """Phases as they were written, without repetitions."""
    writes: int = 0
    lists: int = 0
    asked_events: int = 0
    kill_after: int | None = None
    """Number of effects after which the operator dies."""
    effects: int = 0
    decision: Decision = field(default_factory=Decision)
    known: dict[Ref, Manifest | None] = field(default_factory=dict)
    asked_nodes: set[str] = field(default_factory=set)
    read_events: dict[str, tuple[PodEvent, ...]] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    """uids of somebody else's objects that no watch shows; they are found when a child needs their name."""
    conflict: bool = False
    _posted: set[tuple[int, EventNote]] = field(default_factory=set)
    """Events by the state that was decided on, from which their names follow: an event that is posted again is the same one."""

    # --- the operator ---------------------------------------------------------------------------------------------

    def job(self) -> FineTuneJob:
        metadata = {
            "name": self.name,
            "namespace": NAMESPACE,
            "uid": UID,
            "generation": self.generation,
            "creationTimestamp": stamp(START),
        }
        return FineTuneJob.parse({"metadata": metadata, "spec": self.spec, "status": copy.deepcopy(self.status)})

    def observed(self, *, listed: bool = False) -> Observed:
        return Observed(
            job=self.job(),
            now=self.now,
            settings=self.settings,
            objects=tuple(copy.deepcopy(item) for uid, item in self.objects.items() if uid not in self.hidden),
            gone=frozenset(self.gone),
            deletions=dict(self.deletions),
            references=dict(self.known),
            nodes=None
            if self.nodes is None
            else {name: self.nodes.get(name, well_machine(name)) for name in self.asked_nodes},
            events=dict(self.read_events),
            progress=self.progress,
            listed=listed,
            refusals=self.refusals,
        )

    def wake(self) -> Decision:
        """Decide and act, as the engine does, until nothing is left to do now. Raise Killed where told to."""
        listed = False
        wanted = self.decision.wants_references
        self.asked_nodes &= {ref.name for ref in wanted if ref.kind == "Node"}
        self.known |= {ref: self.cluster.get(ref) for ref in wanted if ref.kind != "Node"}
        for _ in range(ROUNDS):
            decision = decide(self.observed(listed=listed))
            self.decision = decision
            machines = {ref.name for ref in decision.wants_references if ref.kind == "Node"}
            unknown = [ref for ref in decision.wants_references if ref.kind != "Node" and ref not in self.known]
            unknown += [Ref("Node", name) for name in machines - self.asked_nodes]
            self.asked_nodes |= machines
            self.known |= {ref: self.cluster.get(ref) for ref in decision.wants_references if ref.kind != "Node"}
            self.read_events = {uid: self.events.get(uid, ()) for uid in decision.wants_events}
            self.asked_events += len(decision.wants_events)
            listed = decision.wants_list
            self.lists += decision.wants_list
            if unknown or listed:
                continue
            if self._carry_out(decision) or decision.wants_events:
                continue
            return decision
        raise AssertionError(f"no rest after {ROUNDS} decisions: {decision}")

    def restart(self) -> None:
        """Start another operator process: the memory of the old one is lost."""
        self.kill_after, self.effects = None, 0
        for uid in self.gone:
            del self.objects[uid]
        self.gone.clear()
        self.deletions.clear()
        self.known.clear()
        self.asked_nodes = set()
        self.read_events = {}

    def after(self, seconds: float) -> Decision:
        self.now += timedelta(seconds=seconds)
        return self.wake()

    def edit(self, **spec: Any) -> Decision:
        self.spec = {**self.spec, **spec}
        self.generation += 1
        return self.wake()

    def _carry_out(self, decision: Decision) -> bool:
        """Carry out actions, events and status; return whether anything was done."""
        done = False
        for action in decision.actions:
            self._effect()
            self._act(action)
            self.actions.append(action)
            done = True
        if self.conflict:
            self.conflict = False
            return True
        if decision.status != self.status:
            for note in decision.events:
                self._effect()
                if (self.writes, note) not in self._posted:
                    self._posted.add((self.writes, note))
                    self.notes.append(note)
            self._effect()
            self.status = json.loads(json.dumps(decision.status))
            self.writes += 1
            if self.phases[-1:] != [self.status["phase"]]:
                self.phases.append(self.status["phase"])
            done = True
        return done

    def _effect(self) -> None:
        if self.kill_after is not None and self.effects >= self.kill_after:
            raise Killed
        self.effects += 1

    def _act(self, action: Action) -> None:
        if isinstance(action, Create):
            stored = self.create(action.manifest)
            if not is_controlled_by(stored, self.job()):
                self.hidden.discard(stored["metadata"]["uid"])
                self.conflict = True
        elif isinstance(action, Suspend):
            self.suspend(action.name)
        elif isinstance(action, Delete):
            self.delete(action.ref.kind, action.ref.name)

    # --- what tests ask -------------------------------------------------------------------------------------------

    @property
    def phase(self) -> str:
        return str(self.status.get("phase"))

    def condition(self, kind: str) -> Mapping[str, Any]:
        return next(item for item in self.status["conditions"] if item["type"] == kind)

    def reasons(self) -> list[str]:
        return [note.reason for note in self.notes]


def trained(**spec: Any) -> World:
    """Return a world with `publish` whose training has succeeded, and whose pods have ended."""
    world = World(spec={**PUBLISH_SPEC, **spec})
    world.wake()
    world.run(1, "prepare")
    world.end(world.pod(1, 0, "prepare"), world.record(1, role="prepare"), exit_code=0)
    begun(world)
    world.succeed(1)
    world.after(1)
    return world


def begun(world: World | None = None, *, attempt: int = 1, step: int = 10) -> World:
    """Return a world whose attempt trains."""
    world = world or World()
    world.wake()
    world.run(attempt)
    world.tell(attempt, step=step, total_steps=100)
    world.wake()
    return world
