"""A cache of what the watch has shown of each job and its children, and of what was looked up for it. Does no input or output.

Pods and Jobs of ours that were deleted stay as they were last seen, because decisions need to know how they ended. An object
is kept only with what decisions read, and not at all where it can't matter: anybody may put our label on an object.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NamedTuple

from finetune_operator.api.resource import KIND, LABEL_JOB
from finetune_operator.api.status import Phase
from finetune_operator.controller.accelerator_usage import Account
from finetune_operator.controller.event_throttle import Allowance
from finetune_operator.controller.trimming import DELETION, trimmed, trimmed_child
from finetune_operator.plan import untrusted
from finetune_operator.plan.observed import owners
from finetune_operator.plan.observed.owners import Work
from finetune_operator.plan.types import UNANSWERED, Decision, Manifest, PodEvent, Ref, Refusal, ResultCache
from finetune_trainer.contract.records import Progress

KEPT_ATTEMPTS = 2
"""Attempts (of each role) whose deleted pods and Jobs are remembered."""
WAITING_MAX = 2048
"""Pods, of all jobs together, that wait until the watch shows their Job: it may show the pods of a gang first."""


class Key(NamedTuple):
    """Namespace and name of a FineTuneJob."""

    namespace: str
    name: str


@dataclass(frozen=True)
class RefusedCreate:
    """A create that the API server refused and that will be tried again."""

    refusal: Refusal
    times: int
    retry_at: float
    """Time of the next try, on the monotonic clock."""


@dataclass
class JobEntry:
    """Everything that is known about one key."""

    key: Key
    body: Manifest | None = None
    """The FineTuneJob; None before the watch has shown it and after it was deleted."""
    objects: dict[str, Manifest] = field(default_factory=dict)
    """Children, and other objects at their names, by uid; deleted pods and Jobs are among them."""
    gone: set[str] = field(default_factory=set)
    """uids of pods and Jobs in `objects` that no longer exist."""
    deletions: dict[str, int] = field(default_factory=dict)
    """Order of deletions by uid, for `Observed.deletions`."""
    incomplete: bool = False
    """Whether pods of the job were dropped from `objects`: its objects are listed before the next decision."""
    references: dict[Ref, Manifest | None] = field(default_factory=dict)
    events: dict[str, tuple[PodEvent, ...]] = field(default_factory=dict)
    progress: Progress | None = None
    bad_readings: int = 0
    """Bad answers in a row of the pod that reports progress."""
    refused: dict[Ref, RefusedCreate] = field(default_factory=dict)
    unanswered: set[Ref] = field(default_factory=set)
    """Objects whose creation was requested and is not answered yet."""
    looked_up: dict[object, float] = field(default_factory=dict)
    """Time of the last look-up by its subject (a reference, a uid, `progress`), on the monotonic clock."""
    decision: Decision | None = None
    """The last decision."""
    results: ResultCache = field(default_factory=ResultCache)
    """Results for `Observed.cache`, kept while the job's spec and metadata stay, and until its attempt has begun."""
    allowance: Allowance = field(default_factory=Allowance)
    account: Account | None = None
    """Account of the use of the job's accelerators."""
    written: tuple[str, Manifest] | None = None
    """resourceVersion after our last write of the status, and the status as we wrote it."""

    @property
    def generation(self) -> int | None:
        """Generation of the FineTuneJob as the watch last showed it."""
        return _generation(self.body) if self.body is not None else None

    def refusals(self) -> tuple[Refusal, ...]:
        """List the creates that wait for an answer, or were refused and may not be tried again yet.

        An object that exists was not refused: the answer to its creation was lost.
        """
        now = time.monotonic()
        refused = [create.refusal for create in self.refused.values() if create.retry_at > now]
        waiting = [Refusal(ref, 0, UNANSWERED, "") for ref in sorted(self.unanswered)]
        return tuple(refusal for refusal in (*waiting, *refused) if self.find(*refusal.ref) is None)

    def is_refused(self, ref: Ref) -> bool:
        """Return whether the object is among `refusals`."""
        return any(ref == refusal.ref for refusal in self.refusals())

    def refuse(self, refusal: Refusal, generation: int, delay_seconds: Callable[[int], float]) -> None:
        """Remember why the API server refused an object of this generation, unless the job was edited since.

        `delay_seconds` gives the pause after so many refusals in a row.
        """
        if generation != self.generation:
            return
        before = self.refused.get(refusal.ref)
        times = before.times + 1 if before is not None else 1
        self.refused[refusal.ref] = RefusedCreate(refusal, times, time.monotonic() + delay_seconds(times))

    def forget_generation(self) -> None:
        """Forget what was learnt for an earlier spec, because the job was edited."""
        self.refused.clear()
        self.references.clear()
        self.looked_up.clear()
        self.events.clear()
        self.results = ResultCache()

    def find(self, kind: str, name: str) -> Manifest | None:
        """Return the existing object of this name."""
        for uid, item in self.objects.items():
            if item["kind"] == kind and item["metadata"]["name"] == name and uid not in self.gone:
                return item
        return None

    def put(self, item: Manifest) -> bool:
        """Store an object as the API server showed it; return False where this state of it, or a later one, is known."""
        item = trimmed_child(item)
        uid: str = item["metadata"]["uid"]
        known = self.objects.get(uid)
        if known is not None and (uid in self.gone or not _later(item, known)):
            return False
        if _is_deleted_now(item, known):
            self.deletions[uid] = self._next_order()
        self.objects[uid] = as_first_deleted(item, known)
        if known is None and item["kind"] == "Job":
            self._forget_old_tombstones()
        return True

    def remove(self, item: Manifest) -> bool:
        """Note that the object no longer exists; return False where that is known or does not matter."""
        item = trimmed_child(item)
        uid: str = item["metadata"]["uid"]
        if uid in self.gone:
            return False
        known, jobs = self.objects.get(uid), self.jobs()
        if self._is_evidence(item, jobs):
            if known is not None and item["kind"] == "Pod":
                self.deletions.setdefault(uid, self._next_order())
            self.objects[uid] = as_first_deleted(item, known)
            self.gone.add(uid)
            return True
        self.deletions.pop(uid, None)
        return self.objects.pop(uid, None) is not None

    def replace(self, items: Iterable[Manifest], known_before: frozenset[str]) -> None:
        """Replace the known objects by a list: one that was known before the list began and is not listed no longer exists."""
        listed = {item["metadata"]["uid"]: item for item in items}
        order, before = self._next_order(), frozenset(self.deletions)
        jobs_first = sorted(listed.values(), key=lambda item: item["kind"] != "Job")
        for item in jobs_first:
            if self.may_count(item) and not self.waits(item):
                self.put(item)
        for uid in known_before - listed.keys() - self.gone:
            if uid in self.objects and LABEL_JOB in self.objects[uid]["metadata"].get("labels", {}):
                self.remove(self.objects[uid])
        self.deletions |= dict.fromkeys(self.deletions.keys() - before, order)

    def _next_order(self) -> int:
        return max(self.deletions.values(), default=0) + 1

    def may_count(self, item: Manifest) -> bool:
        """Return whether a labelled object may be a child, or prevent the creation of one. An object at another
        name that prevents one is found when the POST of the child fails.
        """
        if item["metadata"]["uid"] in self.objects:
            return True
        match item["kind"]:
            case "Pod":
                owner = owners.controller(item)
                return owner is not None and owner.kind == "Job"
            case "Job":
                owner = owners.controller(item)
                ours = owner is not None and (owner.kind, owner.name) == (KIND, self.key.name)
                return ours and owners.work(item["metadata"]["name"], self.key.name) is not None
            case "ConfigMap":
                owner = owners.controller(item)
                return owner is not None and self.body is not None and owner.uid == self.body["metadata"]["uid"]
        return bool(item["metadata"]["name"] == self.key.name)

    def waits(self, item: Manifest) -> bool:
        """Return whether the object is a pod whose Job was not seen yet."""
        if item["kind"] != "Pod":
            return False
        owner = owners.controller(item)
        return owner is None or owner.uid not in self.objects

    def jobs(self) -> dict[str, tuple[Manifest, Work]]:
        """Return the Jobs of the present FineTuneJob, by uid."""
        if self.body is None:
            return {}
        return owners.jobs(self.objects.values(), self.gone, self.key.name, self.body["metadata"]["uid"])

    def pods_accepted(self) -> dict[int, list[datetime]]:
        """Return when nodes accepted the pods of each training attempt."""
        jobs = self.jobs()
        moments: dict[int, list[datetime]] = {}
        for item in self.objects.values():
            work = owners.pod_work(item, jobs) if item["kind"] == "Pod" else None
            moment = untrusted.moment(item["status"].get("startTime"))
            if work is not None and work.role == "train" and moment is not None:
                moments.setdefault(work.number, []).append(moment)
        return moments

    def _is_evidence(self, item: Manifest, jobs: Mapping[str, tuple[Manifest, Work]]) -> bool:
        """Return whether decisions need the end of this object: it is a Job or a pod of one of the newest attempts."""
        work = jobs[item["metadata"]["uid"]][1] if item["metadata"]["uid"] in jobs else owners.pod_work(item, jobs)
        if work is None:
            return False
        numbers = sorted({other.number for _, other in jobs.values() if other.role == work.role})
        return work.number in numbers[-KEPT_ATTEMPTS:]

    def _forget_old_tombstones(self) -> None:
        jobs = self.jobs()
        for uid in [uid for uid in self.gone if not self._is_evidence(self.objects[uid], jobs)]:
            del self.objects[uid]
            self.gone.discard(uid)
            self.deletions.pop(uid, None)


class JobCache:
    """The entries of all keys."""

    def __init__(self) -> None:
        self._entries: dict[Key, JobEntry] = {}
        self._running: set[Key] = set()
        self._waiting: dict[str, Key] = {}
        """uids of pods that were seen before their Job, the oldest first."""

    @property
    def running(self) -> int:
        """Number of jobs in the phase Running."""
        return len(self._running)

    def __iter__(self) -> Iterator[JobEntry]:
        return iter(list(self._entries.values()))

    def get(self, key: Key) -> JobEntry | None:
        return self._entries.get(key)

    def observe(self, item: Manifest, *, deleted: bool) -> Key | None:
        """Store what the watch shows; return the key to wake, or None where nothing is new."""
        metadata = item["metadata"]
        is_job = item["kind"] == KIND
        name = metadata["name"] if is_job else untrusted.mapping(metadata.get("labels")).get(LABEL_JOB)
        if not name or not isinstance(name, str):
            return None
        key = Key(metadata["namespace"], name)
        entry = self._entries.setdefault(key, JobEntry(key))
        if is_job:
            is_new = self._observe_job(entry, item, deleted=deleted)
        elif deleted:
            is_new = entry.remove(item)
        else:
            is_new = entry.may_count(item) and entry.put(item)
            if entry.waits(item) and item["metadata"]["uid"] in entry.objects:
                self._wait(key, item["metadata"]["uid"])
        self.forget_if_empty(key)
        return key if is_new else None

    def _wait(self, key: Key, uid: str) -> None:
        """Remember a pod whose Job may still come. Where too many wait, drop the oldest: its job is listed before the next decision."""
        self._waiting[uid] = key
        while len(self._waiting) > WAITING_MAX:
            oldest = next(iter(self._waiting))
            entry = self._entries.get(key := self._waiting.pop(oldest))
            if entry is not None and oldest in entry.objects and entry.waits(entry.objects[oldest]):
                del entry.objects[oldest]
                entry.incomplete = True
                self.forget_if_empty(key)

    def forget_if_empty(self, key: Key) -> None:
        """Drop the entry of a job that is gone with all its children."""
        entry = self._entries.get(key)
        if entry is not None and entry.body is None and entry.objects.keys() <= entry.gone:
            del self._entries[key]

    def _observe_job(self, entry: JobEntry, item: Manifest, *, deleted: bool) -> bool:
        body = trimmed(item)
        known = entry.body
        same = known is not None and known["metadata"]["uid"] == body["metadata"]["uid"]
        if deleted:
            if known is not None and not same:
                return False
            self._replace_entry(entry)
            self._running.discard(entry.key)
            return True
        if same and known is not None and not _later(body, known):
            return False
        if known is not None and not same:
            entry = self._replace_entry(entry)
        if known is not None and entry.generation != _generation(body):
            entry.forget_generation()
        if known is None or _identity(known) != _identity(body) or (body.get("status") or {}).get("attemptBegun"):
            entry.results = ResultCache()
        entry.body = body
        is_running = (body.get("status") or {}).get("phase") == Phase.RUNNING
        (self._running.add if is_running else self._running.discard)(entry.key)
        return True

    def _replace_entry(self, entry: JobEntry) -> JobEntry:
        """Begin a new entry because the FineTuneJob is gone, or another one has its name.

        Existing objects go over to the new entry, but only where the watch will show their end: others would stay for ever.
        """
        alive = {uid: item for uid, item in entry.objects.items() if uid not in entry.gone and is_watched(item)}
        fresh = self._entries[entry.key] = JobEntry(entry.key, objects=alive)
        return fresh


def _generation(body: Manifest) -> int:
    """Return the number that the API server raises with each change of the spec."""
    number: int = body["metadata"].get("generation", 1)
    return number


def _identity(body: Manifest) -> Manifest:
    """Return everything that children are made from."""
    metadata = {key: value for key, value in body["metadata"].items() if key != "resourceVersion"}
    return {"metadata": metadata, "spec": body.get("spec")}


def _is_deleted_now(item: Manifest, known: Manifest | None) -> bool:
    """Return whether the deletion of a pod is seen here for the first time."""
    was_well = known is not None and "deletionTimestamp" not in known["metadata"]
    return item["kind"] == "Pod" and was_well and "deletionTimestamp" in item["metadata"]


def as_first_deleted(item: Manifest, known: Manifest | None) -> Manifest:
    """Return the object with the time of its first deletion: kubelet sets another one when it gives the pod's name free."""
    if known is None or "deletionTimestamp" not in known["metadata"]:
        return item
    first = {name: known["metadata"][name] for name in DELETION if name in known["metadata"]}
    return {**item, "metadata": {**item["metadata"], **first}}


def is_watched(item: Manifest) -> bool:
    """Return whether the watch will show the end of an object."""
    return item["kind"] in ("Pod", "Job") and LABEL_JOB in item["metadata"].get("labels", {})


def _later(item: Manifest, known: Manifest) -> bool:
    """Return whether `item` is a later state than `known`."""
    return is_later(str(item["metadata"].get("resourceVersion", "")), str(known["metadata"].get("resourceVersion", "")))


def is_later(new: str, old: str) -> bool:
    """Return whether one resourceVersion is later than another of the same object. Other versions are later where they differ."""
    if new.isascii() and new.isdigit() and old.isascii() and old.isdigit():
        return int(new) > int(old)
    return new != old
