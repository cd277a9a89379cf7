"""Why pods have not started: from their own state, else from events, to a condition that says what to do.

A missing Secret shows in events alone. Events cost a request each, so they are asked for at growing distances.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from finetune_operator.plan.conditions import Fact
from finetune_operator.plan.gang import Gang
from finetune_operator.plan.types import PodEvent
from finetune_operator.plan.view import PodView

LOOK_FACTOR = 2
LOOK_MAX_SECONDS = 60.0
LOOK_WINDOW_SECONDS = 0.9
"""A decision so soon after a moment of `_looks` asks for events; later ones leave it to the next moment."""

ADVICE: Mapping[str, str] = {
    "FailedScheduling": "free or add the resources that are asked for, or change `spec.resources` or `spec.template`",
    "FailedMount": "create the Secret, ConfigMap or volume that is named, or correct the spec",
    "FailedAttachVolume": "check that the volume is not attached to another machine",
    "FailedCreate": "raise the namespace's quota, or change what its admission rules refuse",
    "ErrImagePull": "check `spec.image`, and `imagePullSecrets` in `spec.template`",
    "ImagePullBackOff": "check `spec.image`, and `imagePullSecrets` in `spec.template`",
    "InvalidImageName": "correct `spec.image`",
    "CreateContainerConfigError": "create the Secret or ConfigMap, or the key in it, that the message names",
    "CreateContainerError": "check the container's settings in `spec.template`",
    "RunContainerError": "check the container's settings in `spec.template`",
    "CrashLoopBackOff": "read the sidecar's log (`kubectl logs -c`)",
    "FailedCreatePodSandBox": "look at the machine's network and container runtime",
}
PULLING = ("ErrImagePull", "ImagePullBackOff")


@dataclass(frozen=True)
class Waiting:
    fact: Fact | None
    """What keeps the pods; None where nothing is known to."""
    ask: tuple[str, ...] = ()
    """uids of what to read the events of, now."""
    look_again_seconds: float | None = None
    known: bool = True
    """False: events were not looked at, so what the condition said before still stands."""


def why_waiting(
    gang: Gang, events: Mapping[str, tuple[PodEvent, ...]], started: datetime, now: datetime, patience: float
) -> Waiting:
    """`started`: when the gang was created. `patience`: seconds in which pods usually start."""
    idle = [pod for pod in gang.living if not (pod.running or pod.ended)]
    missing = gang.nodes - len({pod.index for pod in gang.pods})
    if not idle and missing <= 0:
        return Waiting(None)
    age = (now - started).total_seconds()
    following = next(moment for moment in _looks(patience) if moment > age)
    again = following - age
    if age < patience:
        return Waiting(None, look_again_seconds=again)
    evident = next((fact for pod in idle for fact in _from_status(pod)), None)
    if evident is not None:
        return Waiting(evident, look_again_seconds=again)
    uids = tuple(pod.uid for pod in idle) if idle else ((gang.job.uid,) if gang.job else ())
    uids = uids[:1]  # the first tells for all: each costs a request
    if all(uid in events for uid in uids):
        return Waiting(_from_events(gang, uids, events), look_again_seconds=again)
    latest = max(moment for moment in _until(age, patience))
    if age - latest < LOOK_WINDOW_SECONDS:
        return Waiting(None, ask=uids, look_again_seconds=0.0, known=False)
    return Waiting(None, look_again_seconds=again, known=False)


def _looks(patience: float) -> Iterator[float]:
    """Seconds after the start at which to look: patience x 1, 2, 4, ... and at last every minute."""
    moment = max(patience, 0.1)
    while True:
        yield moment
        moment += min(moment * (LOOK_FACTOR - 1), LOOK_MAX_SECONDS)


def _until(age: float, patience: float) -> Iterator[float]:
    for moment in _looks(patience):
        if moment > age:
            return
        yield moment


def _from_status(pod: PodView) -> Iterator[Fact]:
    if pod.unschedulable is not None:
        yield _fact("FailedScheduling", f"node {pod.index} finds no place: {pod.unschedulable}")
    for container in (*([pod.trainer] if pod.trainer else []), *pod.others):
        if container.waiting_reason in ADVICE:
            name = "image" if container.waiting_reason in PULLING else f"container {container.name}"
            yield _fact(str(container.waiting_reason), f"node {pod.index}, {name}: {container.waiting_message}")


def _from_events(gang: Gang, uids: tuple[str, ...], events: Mapping[str, tuple[PodEvent, ...]]) -> Fact | None:
    """The newest one that is known to keep pods from starting, else the newest."""
    indices = {pod.uid: pod.index for pod in gang.pods}
    for uid in uids:
        newest_first = tuple(reversed(events[uid]))
        chosen = next(
            (event for event in newest_first if event.reason in ADVICE), newest_first[0] if newest_first else None
        )
        if chosen is not None:
            who = (
                f"node {indices[uid]}"
                if uid in indices
                else f"{gang.nodes - len(indices)} of {gang.nodes} pods can't be created"
            )
            return _fact(chosen.reason, f"{who}: {chosen.message}")
    return None


def _fact(reason: str, message: str) -> Fact:
    advice = ADVICE.get(reason)
    text = message.rstrip(". ")
    return Fact(False, reason, f"{text}. What to do: {advice}." if advice else f"{text}.")
