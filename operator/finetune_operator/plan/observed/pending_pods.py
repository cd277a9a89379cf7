"""The reason for which pods have not started, from their own state, else from events: a condition that says what to do.

A missing Secret shows in events alone. Events cost a request each, so they are asked for at growing distances.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import takewhile

from finetune_operator.plan.conditions import Fact
from finetune_operator.plan.observed import pod_blockers
from finetune_operator.plan.observed.gang import Gang
from finetune_operator.plan.observed.pod_blockers import ADVICE, Obstacle
from finetune_operator.plan.types import PodEvent

__all__ = ["ADVICE", "Waiting", "out_of_sight", "why_waiting"]

LOOK_FACTOR = 2
LOOK_MAX_SECONDS = 60.0
LOOK_WINDOW_SECONDS = 0.9
"""Seconds after a moment of `_looks` in which a decision asks for events; later decisions leave that to the next moment."""


HARMLESS = frozenset({"AlreadyMountedVolume", "DNSConfigForming", "FailedToRetrieveImagePullSecret"})
"""Warnings that keep no pod from starting."""


@dataclass(frozen=True)
class Waiting:
    """Reason for which pods wait, and when to look again."""

    fact: Fact | None
    """Obstacle that keeps the pods; None where none is known."""
    ask: tuple[str, ...] = ()
    """uids of the objects whose events are to be read now."""
    look_again_seconds: float | None = None
    known: bool = True
    """Whether events were looked at; if not, the present condition still stands."""


def out_of_sight(gang: Gang, *, trains: bool) -> Fact | None:
    """Name the machines that do not answer the control plane and are not known to be lost; None where there are none."""
    names = sorted({pod.node for pod in gang.silent_pods if pod.node is not None})
    if not names:
        return None
    who = f"node {names[0]} does" if len(names) == 1 else f"the nodes {', '.join(names)} do"
    meanwhile = "training goes on" if trains else "what runs there is waited for"
    silent = pod_blockers.fact(Obstacle.NODE_SILENT, f"{who} not answer the control plane; {meanwhile}")
    return replace(silent, holds=trains)


def why_waiting(
    gang: Gang, events: Mapping[str, tuple[PodEvent, ...]], started: datetime, now: datetime, patience: float
) -> Waiting:
    """Find out why pods wait. `started`: when the gang was created. `patience`: seconds in which pods usually start."""
    idle = [pod for pod in gang.living if not (pod.running or pod.ended)]
    missing = gang.nodes - len({pod.index for pod in gang.pods})
    if not idle and missing <= 0:
        return Waiting(None)
    age = (now - started).total_seconds()
    look_again = next(moment for moment in _looks(patience) if moment > age) - age
    if age < patience:
        return Waiting(None, look_again_seconds=look_again)
    evident = next((fact for pod in idle for fact in pod_blockers.from_status(pod)), None)
    if evident is not None:
        return Waiting(evident, look_again_seconds=look_again)
    uids = tuple(pod.uid for pod in idle) if idle else ((gang.job.uid,) if gang.job else ())
    uids = uids[:1]  # the first tells for all: each costs a request
    if all(uid in events for uid in uids):
        return Waiting(_from_events(gang, uids, events), look_again_seconds=look_again)
    latest = max(takewhile(lambda moment: moment <= age, _looks(patience)))
    if age - latest < LOOK_WINDOW_SECONDS:
        return Waiting(None, ask=uids, look_again_seconds=0.0, known=False)
    return Waiting(None, look_again_seconds=look_again, known=False)


def _looks(patience: float) -> Iterator[float]:
    """Yield the seconds after the start at which to look: patience x 1, 2, 4, ... and at last every minute."""
    moment = max(patience, 0.1)
    while True:
        yield moment
        moment += min(moment * (LOOK_FACTOR - 1), LOOK_MAX_SECONDS)


def _from_events(gang: Gang, uids: tuple[str, ...], events: Mapping[str, tuple[PodEvent, ...]]) -> Fact | None:
    """Make the fact of the newest event that is known to keep pods from starting, else of the newest event."""
    pods = {pod.uid: pod for pod in gang.pods}
    for uid in uids:
        newest_first = tuple(event for event in reversed(events[uid]) if event.reason not in HARMLESS)
        chosen = next(
            (event for event in newest_first if event.reason in ADVICE), newest_first[0] if newest_first else None
        )
        if chosen is not None and uid in pods:
            return pod_blockers.from_event(pods[uid], chosen)
        if chosen is not None:
            missing = gang.nodes - len({pod.index for pod in gang.pods})
            return pod_blockers.fact(
                chosen.reason, f"{missing} of {gang.nodes} pods can't be created: {chosen.message}"
            )
    return None
