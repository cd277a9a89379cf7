"""What the watch has shown of each job and its children, and what was looked up for it. Does no input or output.

Pods that were deleted stay as they were last seen, since their end is the evidence that decisions are made from. Of
pods and Jobs only what decisions read is kept: a pod template is 10 KiB, and there may be thousands.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from finetune_operator.api.resource import KIND, LABEL_ATTEMPT, LABEL_JOB, LABEL_ROLE
from finetune_operator.api.status import Phase
from finetune_operator.plan.types import Decision, Manifest, PodEvent, Ref, Refusal
from finetune_operator.usage import Account
from finetune_trainer.config import Progress

KEPT_ATTEMPTS = 2
"""Deleted pods of so many attempts (of each role) are remembered."""


class Key(NamedTuple):
    """A FineTuneJob."""

    namespace: str
    name: str


@dataclass(frozen=True)
class RefusedCreate:
    """A create that the API server refused, to be tried again."""

    refusal: Refusal
    times: int
    retry_at: float
    """On the monotonic clock."""


@dataclass
class JobState:
    """All that is known about one key."""

    key: Key
    body: Manifest | None = None
    """The FineTuneJob; None before the watch has shown it and after it was deleted."""
    objects: dict[str, Manifest] = field(default_factory=dict)
    """Children, and what lies at their names, by uid; tombstones of pods among them."""
    gone: set[str] = field(default_factory=set)
    """uids of pods in `objects` that exist no longer."""
    deletions: dict[str, int] = field(default_factory=dict)
    """For `Observed.deletions`."""
    settled: bool = False
    """`objects` is complete: it was listed since the operator started, or the job is new."""
    references: dict[Ref, Manifest | None] = field(default_factory=dict)
    events: dict[str, tuple[PodEvent, ...]] = field(default_factory=dict)
    progress: Progress | None = None
    refused: dict[Ref, RefusedCreate] = field(default_factory=dict)
    looked_up: dict[object, float] = field(default_factory=dict)
    """When something was looked up last, on the monotonic clock."""
    decision: Decision | None = None
    """The last one."""
    memo: dict[Hashable, Any] = field(default_factory=dict)
    """For `Observed.memo`: kept while the job's spec and metadata stay, and until its attempt has begun."""
    account: Account | None = None
    """Of what its accelerators are used for."""
    written: tuple[str, Manifest] | None = None
    """resourceVersion that our last status write led to, and the status as we meant it."""

    @property
    def generation(self) -> int | None:
        """Of the FineTuneJob as the watch last showed it."""
        return _generation(self.body) if self.body is not None else None

    def refusals(self) -> tuple[Refusal, ...]:
        """Creates that were refused and are not to be tried again yet. What is there by now was not refused after all."""
        now = time.monotonic()
        waiting = (one for one in self.refused.values() if one.retry_at > now)
        return tuple(one.refusal for one in waiting if self.find(*one.refusal.ref) is None)

    def refuse(self, refusal: Refusal, generation: int, delay_seconds: Callable[[int], float]) -> None:
        """Remember what the API server said of an object of this generation, unless the job was edited since.

        `delay_seconds` follows from how many times in a row it was refused.
        """
        if generation != self.generation:
            return
        before = self.refused.get(refusal.ref)
        times = before.times + 1 if before is not None else 1
        self.refused[refusal.ref] = RefusedCreate(refusal, times, time.monotonic() + delay_seconds(times))

    def forget_generation(self) -> None:
        """The job was edited: what was learnt for the spec as it was ends with it."""
        self.refused.clear()
        self.references.clear()
        self.looked_up.clear()
        self.events.clear()
        self.memo = {}

    def find(self, kind: str, name: str) -> Manifest | None:
        """The living object of this name."""
        for uid, item in self.objects.items():
            if item["kind"] == kind and item["metadata"]["name"] == name and uid not in self.gone:
                return item
        return None

    def put(self, item: Manifest) -> bool:
        """Take over an object as the API server showed it; False where we know this state of it, or a later one."""
        item = trimmed(item)
        uid: str = item["metadata"]["uid"]
        known = self.objects.get(uid)
        if known is not None and (uid in self.gone or not _later(item, known)):
            return False
        if _is_first_deleted(item, known):
            self.deletions[uid] = self._next_place()
        self.objects[uid] = as_first_deleted(item, known)
        return True

    def remove(self, item: Manifest) -> bool:
        """The object exists no longer."""
        item = trimmed(item)
        uid: str = item["metadata"]["uid"]
        if uid in self.gone:
            return False
        if item["kind"] == "Pod":
            known = self.objects.get(uid)
            if known is not None:
                self.deletions.setdefault(uid, self._next_place())
            self.objects[uid] = as_first_deleted(item, known)
            self.gone.add(uid)
            self._forget_old_tombstones()
            return True
        return self.objects.pop(uid, None) is not None

    def replace(self, items: Iterable[Manifest], known_before: frozenset[str]) -> None:
        """`items` were listed: what was known before the list began and is not in it exists no longer."""
        listed = {item["metadata"]["uid"]: item for item in items}
        place, before = self._next_place(), frozenset(self.deletions)
        for item in listed.values():
            self.put(item)
        for uid in known_before - listed.keys() - self.gone:
            if uid in self.objects and LABEL_JOB in self.objects[uid]["metadata"].get("labels", {}):
                self.remove(self.objects[uid])
        self.deletions |= dict.fromkeys(self.deletions.keys() - before, place)

    def _next_place(self) -> int:
        return max(self.deletions.values(), default=0) + 1

    def _forget_old_tombstones(self) -> None:
        attempts: dict[str, set[int]] = {}
        for item in self.objects.values():
            if item["kind"] == "Pod":
                attempts.setdefault(_role(item), set()).add(_attempt(item))
        kept = {role: sorted(numbers)[-KEPT_ATTEMPTS:] for role, numbers in attempts.items()}
        for uid in [uid for uid in self.gone if _attempt(self.objects[uid]) not in kept[_role(self.objects[uid])]]:
            del self.objects[uid]
            self.gone.discard(uid)
            self.deletions.pop(uid, None)


class Store:
    """The states of all keys."""

    def __init__(self) -> None:
        self._states: dict[Key, JobState] = {}
        self._running: set[Key] = set()

    @property
    def running(self) -> int:
        """How many jobs are in the phase Running."""
        return len(self._running)

    def __iter__(self) -> Iterator[JobState]:
        return iter(list(self._states.values()))

    def get(self, key: Key) -> JobState | None:
        return self._states.get(key)

    def observe(self, item: Manifest, *, deleted: bool) -> Key | None:
        """Take over what the watch shows. Returns the key to wake, None where nothing is new."""
        metadata = item["metadata"]
        is_job = item["kind"] == KIND
        name = metadata["name"] if is_job else metadata.get("labels", {}).get(LABEL_JOB)
        if name is None:
            return None
        key = Key(metadata["namespace"], name)
        state = self._states.setdefault(key, JobState(key))
        if is_job:
            news = self._observe_job(state, item, deleted=deleted)
        elif deleted:
            news = state.remove(item)
        else:
            news = state.put(item)
        self.forget_if_empty(key)
        return key if news else None

    def forget_if_empty(self, key: Key) -> None:
        """Drop the state of a job that is gone with all its children."""
        state = self._states.get(key)
        if state is not None and state.body is None and state.objects.keys() <= state.gone:
            del self._states[key]

    def _observe_job(self, state: JobState, item: Manifest, *, deleted: bool) -> bool:
        body = trimmed(item)
        known = state.body
        same = known is not None and known["metadata"]["uid"] == body["metadata"]["uid"]
        if deleted:
            if known is not None and not same:
                return False
            self._begin_anew(state)
            self._running.discard(state.key)
            return True
        if same and known is not None and not _later(body, known):
            return False
        if known is not None and not same:
            state = self._begin_anew(state)
        if known is not None and state.generation != _generation(body):
            state.forget_generation()
        if known is None or _identity(known) != _identity(body) or (body.get("status") or {}).get("attemptBegun"):
            state.memo = {}
        state.body = body
        (self._running.add if _is_running(body) else self._running.discard)(state.key)
        return True

    def _begin_anew(self, state: JobState) -> JobState:
        """The FineTuneJob is gone, or another one has its name.

        What is alive is of interest to the next; but only what the watch tells the end of, or it would stay for ever.
        """
        alive = {uid: item for uid, item in state.objects.items() if uid not in state.gone and _is_watched(item)}
        fresh = self._states[state.key] = JobState(state.key, objects=alive)
        return fresh


def _generation(body: Manifest) -> int:
    """A number that the API server raises with each change of the spec."""
    number: int = body["metadata"].get("generation", 1)
    return number


def _is_running(body: Manifest) -> bool:
    return (body.get("status") or {}).get("phase") == Phase.RUNNING


def _identity(body: Manifest) -> Manifest:
    """All that children are made from."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "resourceVersion"}
    return {"metadata": metadata, "spec": body.get("spec")}


DELETION = ("deletionTimestamp", "deletionGracePeriodSeconds")


def _is_first_deleted(item: Manifest, known: Manifest | None) -> bool:
    """Whether a pod that was well when it was last seen is to be deleted now."""
    was_well = known is not None and "deletionTimestamp" not in known["metadata"]
    return item["kind"] == "Pod" and was_well and "deletionTimestamp" in item["metadata"]


def as_first_deleted(item: Manifest, known: Manifest | None) -> Manifest:
    """When kubelet takes a pod's name away its deletion gets another time: what is evidence is when it was asked for."""
    if known is None or "deletionTimestamp" not in known["metadata"]:
        return item
    first = {name: known["metadata"][name] for name in DELETION if name in known["metadata"]}
    return {**item, "metadata": {**item["metadata"], **first}}


def trimmed(item: Manifest) -> Manifest:
    """The object without what no decision reads. ConfigMaps keep their keys, not their values."""
    metadata = {key: value for key, value in item["metadata"].items() if key != "managedFields"}
    item = {**item, "metadata": metadata}
    if item["kind"] == "Pod":
        item["spec"] = _trimmed_pod_spec(item.get("spec") or {})
    elif item["kind"] == "Job":
        item["spec"] = {
            key: value for key, value in (item.get("spec") or {}).items() if key not in ("template", "selector")
        }
    elif item["kind"] == "ConfigMap":
        for part in ("data", "binaryData"):
            if item.get(part):
                item[part] = dict.fromkeys(item[part], "")
    return item


def _trimmed_pod_spec(spec: Manifest) -> Manifest:
    plain: dict[str, Any] = {key: value for key, value in spec.items() if isinstance(value, str | int | bool)}
    containers = [
        {key: one[key] for key in ("name", "image", "resources") if key in one} for one in spec.get("containers", ())
    ]
    return {**plain, "containers": containers}


def _is_watched(item: Manifest) -> bool:
    return item["kind"] in ("Pod", "Job") and LABEL_JOB in item["metadata"].get("labels", {})


def _later(item: Manifest, known: Manifest) -> bool:
    """Whether `item` is a later state than `known`. Where versions are no numbers, any other one counts as later."""
    new, old = item["metadata"].get("resourceVersion", ""), known["metadata"].get("resourceVersion", "")
    if new.isdigit() and old.isdigit():
        return int(new) > int(old)
    return bool(new != old)


def _role(pod: Manifest) -> str:
    return str(pod["metadata"].get("labels", {}).get(LABEL_ROLE, ""))


def _attempt(pod: Manifest) -> int:
    number = str(pod["metadata"].get("labels", {}).get(LABEL_ATTEMPT, "0"))
    return int(number) if number.isdigit() else 0
