"""Pods and Jobs as decisions see them: manifests parsed once into frozen values.

Knows the fields of Kubernetes objects and nothing of what follows from them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import ValidationError

from finetune_operator.api.resource import LABEL_ATTEMPT, LABEL_ROLE, FineTuneJob
from finetune_operator.plan.children import is_ours
from finetune_operator.plan.template import TRAINER
from finetune_operator.plan.types import Manifest, Observed
from finetune_trainer.config import Outcome, ResultRecord

INDEX_KEY = "batch.kubernetes.io/job-completion-index"
SPEC_DIGEST = "finetune.dev/spec"
"""Annotation on prepare and publish Jobs: the spec that they were made from, so that an edit is told from a repetition."""


@dataclass(frozen=True)
class ContainerView:
    """A container's status."""

    name: str
    running: bool
    waiting_reason: str | None = None
    waiting_message: str = ""
    exit_code: int | None = None
    """None while it has not ended."""
    ended_reason: str | None = None
    ended_message: str = ""
    ended_at: datetime | None = None
    running_since: datetime | None = None
    image_id: str | None = None
    image: str = ""
    restarts: int = 0
    last_exit_code: int | None = None
    """Of its run before this one, where it is restarted."""
    last_message: str = ""

    @property
    def trainer(self) -> bool:
        return self.name == TRAINER

    @property
    def ended(self) -> bool:
        return self.exit_code is not None


@dataclass(frozen=True)
class PodView:
    """A pod of one of our Jobs, as last seen."""

    job: FineTuneJob = field(repr=False)
    """Whose it is: what keeps a pod is told in the words of the spec."""
    uid: str
    name: str
    role: str
    number: int
    index: int
    created: datetime
    phase: str
    gone: bool
    deleted_at: datetime | None
    """When its deletion was asked for."""
    deletion_place: int | None
    """Of all deletions that the watch has shown: lower ones came first."""
    node: str | None
    ready: bool | None
    """The condition Ready; None where it is not set."""
    disruption: str | None
    """Reason of the condition DisruptionTarget."""
    disruption_message: str
    unschedulable: str | None
    """Why the scheduler found no node."""
    status_reason: str | None
    """Why kubelet ended or refused it: `Evicted`, `UnexpectedAdmissionError`, ..."""
    status_message: str
    trainer: ContainerView | None
    others: tuple[ContainerView, ...]
    """Init containers (sidecars among them) and further containers."""
    record: ResultRecord | None
    requests: Mapping[str, str] = field(default_factory=dict)
    """What the training container asks for: resource -> quantity."""
    memory_limit: str | None = None
    """Of the training container."""

    @property
    def who(self) -> str:
        """In messages: a node of the gang, or what the one pod of its Job does."""
        return f"node {self.index}" if self.role == "train" else f"the {self.role} pod"

    @property
    def pod(self) -> str:
        """The same, where the pod itself is meant."""
        return f"the pod of node {self.index}" if self.role == "train" else self.who

    @property
    def succeeded(self) -> bool:
        return self.phase == "Succeeded" or (self.record is not None and self.record.outcome is Outcome.SUCCEEDED)

    @property
    def running(self) -> bool:
        return not self.gone and self.phase == "Running" and self.trainer is not None and self.trainer.running

    @property
    def ended(self) -> bool:
        """Whether no more evidence is to come from it."""
        ended = self.trainer is not None and self.trainer.ended
        return self.gone or ended or self.phase in ("Failed", "Succeeded")

    @property
    def fallen(self) -> bool:
        """Whether its gang can't go on with it."""
        if self.succeeded:
            return False
        ended_badly = self.trainer is not None and bool(self.trainer.exit_code)  # the phase follows a second later
        return self.gone or self.deleted_at is not None or self.phase == "Failed" or ended_badly


@dataclass(frozen=True)
class JobView:
    """One of our Jobs."""

    uid: str
    name: str
    role: str
    number: int
    created: datetime
    suspended: bool
    """`spec.suspend`."""
    suspended_at: datetime | None
    """When the Job controller began to take its pods away."""
    failing_at: datetime | None
    """When the Job controller gave it up, and began to delete its pods."""
    complete: bool
    failed: bool
    deleting: bool
    spec_digest: str | None

    @property
    def active(self) -> bool:
        """Whether it may hold pods that nobody has told to end."""
        return not (self.suspended or self.complete or self.failed or self.deleting)


@dataclass(frozen=True)
class Family:
    """Our Jobs and their pods."""

    jobs: tuple[JobView, ...]
    pods: tuple[PodView, ...]

    def job(self, role: str, number: int) -> JobView | None:
        return next((job for job in self.jobs if (job.role, job.number) == (role, number)), None)

    def pods_of(self, role: str, number: int) -> tuple[PodView, ...]:
        return tuple(pod for pod in self.pods if (pod.role, pod.number) == (role, number))

    def highest(self, role: str) -> int:
        """Highest number of a Job of this role; 0 where there is none."""
        return max((job.number for job in self.jobs if job.role == role), default=0)


def family(observed: Observed) -> Family:
    """Only what is ours: Jobs by their owner, pods by the Job that owns them."""
    job = observed.job
    living = [
        item for item in observed.objects if item["kind"] == "Job" and item["metadata"].get("uid") not in observed.gone
    ]
    jobs = tuple(_job(item) for item in living if is_ours(item, job) and _number(item) is not None)
    owners = {item.name: item.uid for item in jobs}
    pods = (item for item in observed.objects if item["kind"] == "Pod" and _number(item) is not None)
    ours = (item for item in pods if _is_pod_of(item, owners, job))
    return Family(jobs, tuple(_pod(item, observed) for item in ours))


def parse_time(value: str | None) -> datetime | None:
    return datetime.fromisoformat(value) if value else None


def _is_pod_of(pod: Manifest, owners: dict[str, str], job: FineTuneJob) -> bool:
    """Pods outlive their Job in what was observed; then they are ours if they were made since our job was."""
    controller = _controller(pod)
    if controller is None:
        return False
    name, uid = controller
    if name in owners:
        return owners[name] == uid
    created = parse_time(pod["metadata"].get("creationTimestamp"))
    return (
        name.startswith(f"{job.metadata.name}-") and created is not None and created >= job.metadata.creation_timestamp
    )


def _controller(item: Manifest) -> tuple[str, str] | None:
    owners = item["metadata"].get("ownerReferences") or ()
    return next(((owner["name"], owner["uid"]) for owner in owners if owner.get("controller")), None)


def _number(item: Manifest) -> int | None:
    value = (item["metadata"].get("labels") or {}).get(LABEL_ATTEMPT, "")
    return int(value) if value.isdigit() else None


def _role(item: Manifest) -> str:
    return str((item["metadata"].get("labels") or {}).get(LABEL_ROLE, ""))


def _job(item: Manifest) -> JobView:
    metadata, conditions = item["metadata"], _conditions(item)
    return JobView(
        uid=metadata["uid"],
        name=metadata["name"],
        role=_role(item),
        number=_number(item) or 0,
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        suspended=bool((item.get("spec") or {}).get("suspend")),
        suspended_at=_since(conditions, "Suspended"),
        failing_at=_since(conditions, "FailureTarget") or _since(conditions, "Failed"),
        complete=_holds(conditions, "Complete") or _holds(conditions, "SuccessCriteriaMet"),
        failed=_holds(conditions, "Failed"),
        deleting=bool(metadata.get("deletionTimestamp")),
        spec_digest=(metadata.get("annotations") or {}).get(SPEC_DIGEST),
    )


def _pod(item: Manifest, observed: Observed) -> PodView:
    job = observed.job
    metadata, status, conditions = item["metadata"], item.get("status") or {}, _conditions(item)
    containers = [_container(one) for one in status.get("containerStatuses") or ()]
    init = [_container(one) for one in status.get("initContainerStatuses") or ()]
    trainer = next((one for one in containers if one.name == TRAINER), None)
    disruption = conditions.get("DisruptionTarget") if _holds(conditions, "DisruptionTarget") else None
    scheduled = conditions.get("PodScheduled") or {}
    role, number = _role(item), _number(item) or 0
    resources = _resources(item)
    return PodView(
        job=job,
        uid=metadata["uid"],
        name=metadata["name"],
        role=role,
        number=number,
        index=_index(metadata),
        created=datetime.fromisoformat(metadata["creationTimestamp"]),
        phase=str(status.get("phase") or "Pending"),
        gone=metadata["uid"] in observed.gone,
        deleted_at=_deleted_at(metadata),
        deletion_place=observed.deletions.get(metadata["uid"]),
        node=(item.get("spec") or {}).get("nodeName") or None,
        ready=_holds(conditions, "Ready") if "Ready" in conditions else None,
        disruption=str(disruption.get("reason") or "DisruptionTarget") if disruption else None,
        disruption_message=str(disruption.get("message") or "") if disruption else "",
        unschedulable=str(scheduled.get("message") or "") if scheduled.get("status") == "False" else None,
        status_reason=status.get("reason"),
        status_message=str(status.get("message") or ""),
        trainer=trainer,
        others=(*init, *(one for one in containers if one.name != TRAINER)),
        record=_record(trainer, job, role, number),
        requests={name: str(amount) for name, amount in (resources.get("requests") or {}).items()},
        memory_limit=(resources.get("limits") or {}).get("memory"),
    )


def _resources(pod: Manifest) -> Manifest:
    containers = (pod.get("spec") or {}).get("containers") or ()
    found: Manifest = next((one.get("resources") or {} for one in containers if one["name"] == TRAINER), {})
    return found


def _container(status: Manifest) -> ContainerView:
    state = status.get("state") or {}
    waiting, ended, running = state.get("waiting") or {}, state.get("terminated"), state.get("running")
    last = (status.get("lastState") or {}).get("terminated")
    return ContainerView(
        name=str(status.get("name", "")),
        running=running is not None,
        waiting_reason=waiting.get("reason"),
        waiting_message=str(waiting.get("message") or ""),
        exit_code=int(ended.get("exitCode", 0)) if ended is not None else None,
        ended_reason=ended.get("reason") if ended else None,
        ended_message=str(ended.get("message") or "") if ended else "",
        ended_at=parse_time(ended.get("finishedAt")) if ended else None,
        running_since=parse_time(running.get("startedAt")) if running else None,
        image_id=status.get("imageID") or None,
        image=str(status.get("image") or ""),
        restarts=int(status.get("restartCount") or 0),
        last_exit_code=int(last.get("exitCode", 0)) if last is not None else None,
        last_message=str((last or {}).get("message") or "").strip(),
    )


def _record(trainer: ContainerView | None, job: FineTuneJob, role: str, number: int) -> ResultRecord | None:
    """The result record in the termination message; None where there is none, or it is of another pod."""
    if trainer is None or not trainer.ended_message.startswith("{"):
        return None
    try:
        record = ResultRecord.model_validate_json(trainer.ended_message)
    except ValidationError:
        return None
    return record if (record.uid, record.role, record.attempt) == (job.metadata.uid, role, number) else None


def _deleted_at(metadata: Manifest) -> datetime | None:
    """The API shows when the grace period will be over."""
    over = parse_time(metadata.get("deletionTimestamp"))
    return over - timedelta(seconds=metadata.get("deletionGracePeriodSeconds") or 0) if over else None


def _index(metadata: Manifest) -> int:
    for values in (metadata.get("annotations") or {}, metadata.get("labels") or {}):
        if INDEX_KEY in values:
            return int(values[INDEX_KEY])
    return 0


def _conditions(item: Manifest) -> dict[str, Manifest]:
    conditions: Iterable[Manifest] = (item.get("status") or {}).get("conditions") or ()
    return {condition["type"]: condition for condition in conditions}


def _holds(conditions: dict[str, Manifest], name: str) -> bool:
    return conditions.get(name, {}).get("status") == "True"


def _since(conditions: dict[str, Manifest], name: str) -> datetime | None:
    return parse_time(conditions[name].get("lastTransitionTime")) if _holds(conditions, name) else None
