"""Pods and Jobs as decisions see them: manifests parsed once into frozen values.

Knows the fields of Kubernetes objects and nothing of what follows from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from pydantic import ValidationError

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.plan import untrusted
from finetune_operator.plan.desired.merge import TRAINER
from finetune_operator.plan.observed import bounds, owners
from finetune_operator.plan.observed.owners import INDEX_KEY, Work
from finetune_operator.plan.types import Manifest, Observed
from finetune_trainer.contract.records import Outcome, ResultRecord

SPEC_DIGEST = "finetune.dev/spec"
"""Annotation of prepare and publish Jobs: digest of the spec that they were made from, which tells an edit from a repetition."""
__all__ = ["INDEX_KEY", "SPEC_DIGEST", "ContainerView", "JobView", "OwnedObjects", "PodView", "owned_objects"]


@dataclass(frozen=True)
class ContainerView:
    """A container's status."""

    name: str
    running: bool
    waiting_reason: str | None = None
    waiting_message: str = ""
    exit_code: int | None = None
    """Exit code; None while it has not ended."""
    ended_reason: str | None = None
    ended_message: str = ""
    ended_at: datetime | None = None
    running_since: datetime | None = None
    image_id: str | None = None
    image: str = ""
    restarts: int = 0
    last_exit_code: int | None = None
    """Exit code of its run before this one, where it is restarted."""
    last_message: str = ""

    @property
    def trainer(self) -> bool:
        return self.name == TRAINER

    @property
    def ended(self) -> bool:
        return self.exit_code is not None


@dataclass(frozen=True)
class PodView:
    """A pod of one of the operator's Jobs, as last seen."""

    job: FineTuneJob = field(repr=False)
    """FineTuneJob of the pod: what keeps the pod from starting is told in the words of its spec."""
    uid: str
    name: str
    role: str
    number: int
    index: int
    created: datetime
    phase: str
    gone: bool
    deleted_at: datetime | None
    """Time when its deletion was asked for."""
    deletion_order: int | None
    """Order among all deletions that the watch has shown: lower ones came first."""
    node: str | None
    ready: bool | None
    """The condition Ready; None where it is not set."""
    disruption: str | None
    """Reason of the condition DisruptionTarget."""
    disruption_message: str
    unschedulable: str | None
    """Message of the scheduler that found no node."""
    status_reason: str | None
    """Reason for which kubelet ended or refused it: `Evicted`, `UnexpectedAdmissionError`, ..."""
    status_message: str
    trainer: ContainerView | None
    others: tuple[ContainerView, ...]
    """Init containers (sidecars among them) and further containers."""
    record: ResultRecord | None
    requests: Mapping[str, str] = field(default_factory=dict)
    """Requests of the training container: resource -> quantity."""
    memory_limit: str | None = None
    """Memory limit of the training container."""

    @property
    def who(self) -> str:
        """Name in messages: a node of the gang, or what the one pod of its Job does."""
        return f"node {self.index}" if self.role == "train" else f"the {self.role} pod"

    @property
    def pod(self) -> str:
        """Name in messages, where the pod itself is meant."""
        return f"the pod of node {self.index}" if self.role == "train" else self.who

    @property
    def succeeded(self) -> bool:
        return self.phase == "Succeeded" or (self.record is not None and self.record.outcome is Outcome.SUCCEEDED)

    @property
    def running(self) -> bool:
        return not self.gone and self.phase == "Running" and self.trainer is not None and self.trainer.running

    @property
    def ended(self) -> bool:
        """Whether no more evidence is to come from the pod."""
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
    """A Job of the operator."""

    uid: str
    name: str
    role: str
    number: int
    created: datetime
    suspended: bool
    """`spec.suspend`."""
    suspended_at: datetime | None
    """Time when the Job controller began to take its pods away."""
    failing_at: datetime | None
    """Time when the Job controller gave it up, and began to delete its pods."""
    complete: bool
    failed: bool
    deleting: bool
    spec_digest: str | None

    @property
    def active(self) -> bool:
        """Whether it may hold pods that nobody has told to end."""
        return not (self.suspended or self.complete or self.failed or self.deleting)


@dataclass(frozen=True)
class OwnedObjects:
    """Jobs and pods that belong to one FineTuneJob."""

    jobs: tuple[JobView, ...]
    pods: tuple[PodView, ...]

    def job(self, role: str, number: int) -> JobView | None:
        return next((job for job in self.jobs if (job.role, job.number) == (role, number)), None)

    def pods_of(self, role: str, number: int) -> tuple[PodView, ...]:
        return tuple(pod for pod in self.pods if (pod.role, pod.number) == (role, number))

    def highest(self, role: str) -> int:
        """Return the highest number of a Job of this role; 0 where there is none."""
        return max((job.number for job in self.jobs if job.role == role), default=0)


def owned_objects(observed: Observed) -> OwnedObjects:
    """Pick the Jobs and pods that belong to the job, by uid; pods of Jobs that are gone too."""
    job, gone = observed.job, observed.gone
    known = owners.jobs(observed.objects, gone, job.metadata.name, job.metadata.uid)
    jobs = tuple(_job(item, work, job) for uid, (item, work) in known.items() if uid not in gone)
    pods = []
    for item in observed.objects:
        if item["kind"] != "Pod" or (work := owners.pod_work(item, known)) is None:
            continue
        index = owners.index(item, work.role, job.spec.nodes)
        if index is not None:
            pods.append(_pod(item, work, index, observed))
    return OwnedObjects(jobs, tuple(pods))


def _job(item: Manifest, work: Work, job: FineTuneJob) -> JobView:
    metadata, conditions = item["metadata"], _conditions(item)
    return JobView(
        uid=metadata["uid"],
        name=metadata["name"],
        role=work.role,
        number=work.number,
        created=untrusted.moment(metadata.get("creationTimestamp")) or job.metadata.creation_timestamp,
        suspended=untrusted.mapping(item.get("spec")).get("suspend") is True,
        suspended_at=_since(conditions, "Suspended"),
        failing_at=_since(conditions, "FailureTarget") or _since(conditions, "Failed"),
        complete=_holds(conditions, "Complete") or _holds(conditions, "SuccessCriteriaMet"),
        failed=_holds(conditions, "Failed"),
        deleting=bool(metadata.get("deletionTimestamp")),
        spec_digest=untrusted.word(untrusted.mapping(metadata.get("annotations")).get(SPEC_DIGEST)) or None,
    )


def _pod(item: Manifest, work: Work, index: int, observed: Observed) -> PodView:
    job = observed.job
    metadata, status, conditions = item["metadata"], untrusted.mapping(item.get("status")), _conditions(item)
    containers = [_container(container) for container in untrusted.mappings(status.get("containerStatuses"))]
    init = [_container(container) for container in untrusted.mappings(status.get("initContainerStatuses"))]
    trainer = next((container for container in containers if container.trainer), None)
    disruption = conditions["DisruptionTarget"] if _holds(conditions, "DisruptionTarget") else None
    scheduled = conditions.get("PodScheduled", {})
    requests, limits = _resources(item)
    return PodView(
        job=job,
        uid=metadata["uid"],
        name=metadata["name"],
        role=work.role,
        number=work.number,
        index=index,
        created=untrusted.moment(metadata.get("creationTimestamp")) or job.metadata.creation_timestamp,
        phase=untrusted.word(status.get("phase")) or "Pending",
        gone=metadata["uid"] in observed.gone,
        deleted_at=_deleted_at(metadata),
        deletion_order=observed.deletions.get(metadata["uid"]),
        node=untrusted.word(untrusted.mapping(item.get("spec")).get("nodeName")) or None,
        ready=_holds(conditions, "Ready") if "Ready" in conditions else None,
        disruption=untrusted.word(disruption.get("reason")) or "DisruptionTarget" if disruption else None,
        disruption_message=untrusted.message(disruption.get("message")) if disruption else "",
        unschedulable=untrusted.message(scheduled.get("message")) if scheduled.get("status") == "False" else None,
        status_reason=untrusted.word(status.get("reason")) or None,
        status_message=untrusted.message(status.get("message")),
        trainer=trainer,
        others=(*init, *(container for container in containers if not container.trainer)),
        record=_record(status, work, index, observed),
        requests=requests,
        memory_limit=limits.get("memory"),
    )


def _resources(pod: Manifest) -> tuple[dict[str, str], dict[str, str]]:
    """Return requests and limits of the training container."""
    containers = untrusted.mappings(untrusted.mapping(pod.get("spec")).get("containers"))
    resources = next(
        (untrusted.mapping(container.get("resources")) for container in containers if container.get("name") == TRAINER),
        {},
    )
    requests, limits = (
        {untrusted.word(name): str(amount)[: untrusted.WORD_MAX] for name, amount in untrusted.mapping(part).items()}
        for part in (resources.get("requests"), resources.get("limits"))
    )
    return requests, limits


def _container(status: Manifest) -> ContainerView:
    state = untrusted.mapping(status.get("state"))
    waiting, running = untrusted.mapping(state.get("waiting")), untrusted.mapping(state.get("running"))
    ended = state.get("terminated")
    last = untrusted.mapping(status.get("lastState")).get("terminated")
    end, last_end = untrusted.mapping(ended), untrusted.mapping(last)
    return ContainerView(
        name=untrusted.word(status.get("name")),
        running=state.get("running") is not None,
        waiting_reason=untrusted.word(waiting.get("reason")) or None,
        waiting_message=untrusted.message(waiting.get("message")),
        exit_code=_exit_code(end) if ended is not None else None,
        ended_reason=untrusted.word(end.get("reason")) or None,
        ended_message=untrusted.message(end.get("message")),
        ended_at=untrusted.moment(end.get("finishedAt")),
        running_since=untrusted.moment(running.get("startedAt")),
        image_id=untrusted.word(status.get("imageID")) or None,
        image=untrusted.word(status.get("image")),
        restarts=untrusted.integer(status.get("restartCount")) or 0,
        last_exit_code=_exit_code(last_end) if last is not None else None,
        last_message=untrusted.message(last_end.get("message")).strip(),
    )


def _exit_code(end: Manifest) -> int:
    """Return the exit code of a container that has ended: a code that is no number is no success."""
    code = untrusted.integer(end.get("exitCode", 0))
    return 1 if code is None else code


def _record(status: Manifest, work: Work, index: int, observed: Observed) -> ResultRecord | None:
    """Read the result record in the termination message; None where there is none, or it is of another pod."""
    containers = untrusted.mappings(status.get("containerStatuses"))
    states = (untrusted.mapping(container.get("state")) for container in containers if container.get("name") == TRAINER)
    message = untrusted.mapping(next(states, {}).get("terminated")).get("message")
    if not isinstance(message, str) or not message.startswith("{"):
        return None
    try:
        record = ResultRecord.model_validate_json(message)
    except ValidationError:
        return None
    wanted = (observed.job.metadata.uid, work.role, work.number, index)
    if (record.uid, record.role, record.attempt, record.node) != wanted:
        return None
    return bounds.record(record, observed.job, observed.now)


def _deleted_at(metadata: Manifest) -> datetime | None:
    """Return when the deletion was asked for: the API shows when the grace period will be over."""
    over = untrusted.moment(metadata.get("deletionTimestamp"))
    grace = untrusted.integer(metadata.get("deletionGracePeriodSeconds")) or 0
    return over - timedelta(seconds=grace) if over else None


def _conditions(item: Manifest) -> dict[str, Manifest]:
    conditions = untrusted.mappings(untrusted.mapping(item.get("status")).get("conditions"))
    return {str(condition["type"]): condition for condition in conditions if "type" in condition}


def _holds(conditions: dict[str, Manifest], name: str) -> bool:
    return conditions.get(name, {}).get("status") == "True"


def _since(conditions: dict[str, Manifest], name: str) -> datetime | None:
    return untrusted.moment(conditions[name].get("lastTransitionTime")) if _holds(conditions, name) else None
