"""The values that a decision is made from, and the values that it consists of."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, NamedTuple, TypeVar

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.plan.template_policy import DEFAULT_ALLOWED, Capability
from finetune_trainer.contract.records import Progress

T = TypeVar("T")
Manifest = dict[str, Any]
"""A Kubernetes object as a plain dict, as the API server speaks it."""


class Ref(NamedTuple):
    """Name of an object in the job's namespace (StorageClass, Node: in the cluster)."""

    kind: str
    name: str

    @classmethod
    def of(cls, manifest: Manifest) -> Ref:
        """Return the name of an object."""
        return cls(manifest["kind"], manifest["metadata"]["name"])


PROGRESS_WRITES_PER_SECOND = 20
"""Writes of progress per second of all jobs together, at most: each is a write to etcd, and wakes everybody who watches."""


@dataclass(frozen=True)
class PlanSettings:
    """Settings of an administrator that decisions depend on."""

    trainer_image: str
    accelerator_resources: tuple[str, ...] = (
        "nvidia.com/gpu*",
        "nvidia.com/mig-*",
        "amd.com/gpu*",
        "amd.com/*_nps*",
    )
    """Extended resources that are accelerators, or parts or amounts of one; `*` matches anything."""
    accelerator_memory_bytes: Mapping[str, int] = field(default_factory=dict)
    """Memory of each device, at most, by accelerator (a pattern as above)."""
    grace_period_seconds: int = 30
    """`terminationGracePeriodSeconds` of training pods."""
    lost_node_seconds: int = 60
    """Seconds after which a node that does not answer the control plane is lost, and its pods leave it."""
    progress_interval_seconds: float = 5.0
    """Seconds between two readings of a running job's progress, at least: `in_crowd` makes it longer."""
    pod_diagnosis_seconds: float = 3.0
    """Age at which a pod that has not started is diagnosed from its events."""
    pod_template: Mapping[str, Any] = field(default_factory=dict)
    """Partial pod template under that of every job."""
    template_allows: tuple[Capability, ...] = DEFAULT_ALLOWED
    """Rights beyond their own pods that jobs may ask for in `spec.template`."""
    operator: str = ""
    """Mark of this operator on the jobs that it serves: `namespace/name` of its lease; empty where it has none."""

    def of_job(self, job: FineTuneJob) -> PlanSettings:
        """Return the settings for one job, with what its spec says in the place of a setting."""
        own = job.spec.termination_grace_period_seconds
        return self if own is None else replace(self, grace_period_seconds=own)

    def in_crowd(self, running: int) -> PlanSettings:
        """Return the settings for so many running jobs: all write progress at most `PROGRESS_WRITES_PER_SECOND` times a second."""
        least_seconds = running / PROGRESS_WRITES_PER_SECOND
        if least_seconds <= self.progress_interval_seconds:
            return self
        return replace(self, progress_interval_seconds=least_seconds)


@dataclass(frozen=True)
class PodEvent:
    """A Warning event about a pod or about a Job (FailedCreate)."""

    reason: str
    message: str
    count: int = 1


UNANSWERED = "Unanswered"
"""`Refusal.reason` where a creation was asked for and there is no answer yet."""


@dataclass(frozen=True)
class Refusal:
    """Answer of an API server that created no object: it refused the object (admission, quota, RBAC, a wrong field), or did not answer."""

    ref: Ref
    status: int
    """HTTP status: 400, 403, 422, 429, 5xx, ...; 0 where there was no answer."""
    reason: str
    """`Forbidden`, `Invalid`, ..."""
    message: str
    """The API server's own words."""

    @property
    def passes(self) -> bool:
        """Whether the refusal may pass: it says nothing about the object, only that the API server or a webhook can't create it now."""
        return self.status in (0, 429) or self.status >= 500


class ResultCache:
    """Results of pure functions of a job's spec and metadata and of `settings`, kept as long as these stay the same.

    The manifests of an attempt are needed twice in each decision about a gang that has not begun, and take 0.3 ms to build.
    """

    def __init__(self) -> None:
        self._results: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self._results)

    def get(self, key: Hashable, compute: Callable[[], T]) -> T:
        """Return the result that is kept under a key, computed where there is none."""
        if key not in self._results:
            self._results[key] = compute()
        result: T = self._results[key]
        return result


@dataclass(frozen=True)
class Observed:
    """Everything that a decision may be made from."""

    job: FineTuneJob
    now: datetime
    settings: PlanSettings
    objects: tuple[Manifest, ...]
    """Every ConfigMap, Service, Job, Pod and PersistentVolumeClaim labelled `finetune.dev/job` = the job's name,
    ours or not, and objects without the label that have a planned name. Pods of the newest attempts stay here after their
    deletion, as the watch last showed them: `gone` names them."""
    gone: frozenset[str] = frozenset()
    """uids of pods in `objects` that exist no longer."""
    deletions: Mapping[str, int] = field(default_factory=dict)
    """Order of deletions, by uid of each pod whose deletion the watch has shown: the API's times have whole seconds only.
    Pods that a list showed at once share a number; one that was already being deleted when first seen has none."""
    references: Mapping[Ref, Manifest | None] = field(default_factory=dict)
    """Objects that the spec names: claims, ConfigMaps, storage classes. None: not there. No key: not looked up."""
    nodes: Mapping[str, Manifest] | None = None
    """Node objects by name that `wants_references` asked for as `Ref("Node", name)`; None where RBAC does not
    let us read them."""
    events: Mapping[str, tuple[PodEvent, ...]] = field(default_factory=dict)
    """Warning events by uid of pod or Job, for those that the last `Decision.wants_events` asked for, and no others."""
    progress: Progress | None = None
    """Last answer of node 0 of the newest attempt (check uid and attempt)."""
    listed: bool = False
    """Whether `objects` come from a LIST made for this decision, not only from the watch."""
    cache: ResultCache = field(default_factory=ResultCache, compare=False, repr=False)
    refusals: tuple[Refusal, ...] = ()
    """Creates that were refused or not answered, to be shown in a condition (`Validated=False` or `Running=False`).
    One stays here until its object may be tried again (backoff of 2 to 60 s, the controller's); then `Create` it again."""


@dataclass(frozen=True)
class Create:
    """Creation of an object by POST; on 409 the owner decides: where it is this job, the object is there, else its name is taken."""

    manifest: Manifest


@dataclass(frozen=True)
class Suspend:
    """Suspension of a Job by `spec.suspend`: active pods get SIGTERM and their grace period, finished ones keep their logs."""

    name: str


@dataclass(frozen=True)
class Delete:
    """Deletion of one object, with background propagation and its uid as a precondition."""

    ref: Ref
    uid: str
    grace_period_seconds: int | None = None


Action = Create | Suspend | Delete


@dataclass(frozen=True)
class EventNote:
    """A Kubernetes event to post about the FineTuneJob."""

    type: Literal["Normal", "Warning"]
    reason: str
    message: str
    once: bool = False
    """Whether the message names something that happens once in a job's life (an attempt): the same words are then always the same
    event, even if the operator is killed after posting it and decides on it again from another status."""
    minor: bool = False
    """Whether the event tells what pods say or wait for: there may be any number of such events, so some may be left out."""


@dataclass(frozen=True)
class Decision:
    """The next step. Actions of one step are carried out side by side, then events are posted, then the status is written.

    Events go first so that none is lost where the operator is killed between the two; their names follow from the state
    that was decided on, so that posting again changes nothing.
    """

    actions: tuple[Action, ...] = ()
    status: Manifest = field(default_factory=dict)
    """The whole new `.status`, camelCase, as JSON values. Written only where it differs from the present one."""
    events: tuple[EventNote, ...] = ()
    """Events to post once, with the status that shows their transition: only where `status` changes."""
    requeue_after_seconds: float | None = None
    """Seconds to the next look, if nothing wakes the job before."""
    wants_list: bool = False
    """Whether to decide again with `Observed.listed`, because the next step can't be undone."""
    wants_references: tuple[Ref, ...] = ()
    """Objects to look up (again) before the next decision, which comes at once where one of them was never looked up."""
    wants_events: tuple[str, ...] = ()
    """uids of pods and Jobs whose events to read before the next decision."""
    wants_progress: bool = False
    """Whether to read /progress of node 0 of the newest attempt before the next decision."""
