"""The objects that the operator would see of a job, as far as files hold them. Reads manifests, decides nothing.

An object that no file holds is taken not to exist. `hints` names such objects, so that nobody takes the files for the whole
state of the cluster.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from finetune_operator.api.resource import KIND, LABEL_JOB, FineTuneJob
from finetune_operator.cli import manifest_files
from finetune_operator.cli.command_errors import CommandError, ExitCode
from finetune_operator.cli.validate import completed, is_fine_tune_job, problems
from finetune_operator.plan import untrusted
from finetune_operator.plan.types import Manifest, Observed, PlanSettings, PodEvent, Ref

CHILD_KINDS = ("ConfigMap", "Service", "Job", "Pod", "PersistentVolumeClaim")
CLUSTER_KINDS = ("StorageClass", "Node")
FROM_CLUSTER = "kubectl get finetunejob,job,pod,pvc,configmap,service,event -o yaml"


@dataclass(frozen=True)
class Snapshot:
    """The FineTuneJob of some files, and the other objects of its namespace that they hold."""

    body: Manifest
    children: tuple[Manifest, ...]
    """Objects of the kinds that the operator creates, whoever owns them."""
    others: Mapping[Ref, Manifest] = field(default_factory=dict)
    """Storage classes and nodes."""
    warnings: Mapping[str, tuple[PodEvent, ...]] | None = None
    """Warning events by the uid of their object; None where the files hold no event at all."""

    def observed(
        self, now: datetime, settings: PlanSettings, references: Iterable[Ref] = (), *, listed: bool = False
    ) -> Observed:
        """Return what `decide` gets. `references` are the objects that it has asked for."""
        wanted = tuple(references)
        has_nodes = any(ref.kind == "Node" for ref in self.others)
        return Observed(
            job=FineTuneJob.parse(self.body),
            now=now,
            settings=settings,
            objects=self.children,
            references={ref: self.find(ref) for ref in wanted if ref.kind != "Node"},
            nodes={ref.name: self.node(ref) for ref in wanted if ref.kind == "Node"} if has_nodes else None,
            events=self._events(),
            listed=listed,
        )

    def find(self, ref: Ref) -> Manifest | None:
        """Return the object of this name; None where no file holds it."""
        return self.others.get(ref) or next((item for item in self.children if Ref.of(item) == ref), None)

    def node(self, ref: Ref) -> Manifest:
        """Return a node; one that no file holds no longer exists."""
        return self.others.get(ref) or {"kind": "Node", "metadata": {"name": ref.name}}

    def _events(self) -> Mapping[str, tuple[PodEvent, ...]]:
        """Return the events of every pod and Job, also where there are none; nothing where the files hold no events."""
        if self.warnings is None:
            return {}
        uids = (item["metadata"]["uid"] for item in self.children if item["kind"] in ("Pod", "Job"))
        return {uid: self.warnings.get(uid, ()) for uid in uids}

    def hints(self) -> Iterator[str]:
        """Yield what the files seem to lack."""
        metadata, status = self.body["metadata"], self.body.get("status") or {}
        jobs = [item for item in self.children if item["kind"] == "Job"]
        labelled = [
            item
            for item in self.children
            if item["kind"] == "Pod"
            and untrusted.mapping(item["metadata"].get("labels")).get(LABEL_JOB) == metadata["name"]
        ]
        tried = any(status.get(name) for name in ("prepareAttempt", "attempt", "publishAttempt"))
        if not jobs and (tried or labelled):
            shown = f"{len(labelled)} of its pods, but no Job" if labelled else "none of its Jobs and pods"
            yield f"The files hold {shown}: they are taken for deleted. This gives all: {FROM_CLUSTER}"


def read(paths: Sequence[str], name: str | None) -> Snapshot:
    """Return the snapshot in these files; `name` chooses among several FineTuneJobs. Raise CommandError where there is no choice."""
    documents = [document for path in paths for document in manifest_files.read(path)]
    source = ", ".join(paths)
    body = _body(_chosen([item for item in documents if is_fine_tune_job(item)], name, source), source)
    namespace = body["metadata"]["namespace"]
    objects = [_checked(item, source) for item in documents if item.get("kind") in (*CHILD_KINDS, *CLUSTER_KINDS)]
    return Snapshot(
        body,
        children=tuple(
            item
            for item in objects
            if item["kind"] in CHILD_KINDS and item["metadata"].get("namespace", namespace) == namespace
        ),
        others={Ref.of(item): item for item in objects if item["kind"] in CLUSTER_KINDS},
        warnings=_warnings([item for item in documents if item.get("kind") == "Event"]),
    )


def _chosen(jobs: list[Manifest], name: str | None, source: str) -> Manifest:
    """Return the one job to explain."""
    named = [job for job in jobs if name in (None, _name(job), f"{_namespace(job)}/{_name(job)}")]
    if len(named) == 1:
        return named[0]
    names = ", ".join(sorted(f"{_namespace(job)}/{_name(job)}" for job in jobs)) or f"no {KIND}"
    if not jobs or name is None:
        advice = f"choose one with --name (there are {names})" if jobs else f"holds {names}"
        raise CommandError(f"{source}: {advice}")
    number = "several" if named else "none"
    raise CommandError(f"{source}: --name {name} is the name of {number} of its {KIND}s: {names}")


def _namespace(document: Manifest) -> str:
    return untrusted.word(untrusted.mapping(document.get("metadata")).get("namespace")) or "default"


def _name(document: Manifest) -> str:
    return untrusted.word(untrusted.mapping(document.get("metadata")).get("name"))


def _body(document: Manifest, source: str) -> Manifest:
    """Return the job as the API server holds it. A job without a uid was in no cluster yet, so it is checked as `validate` does."""
    if not untrusted.mapping(document.get("metadata")).get("uid"):
        if job_problems := problems(document):
            raise CommandError("\n".join(f"{source}: {problem}" for problem in job_problems), ExitCode.FAILED)
        document = {**completed(document), "status": document.get("status")}
    if not _name(document):
        raise CommandError(f"{source}: metadata.name is needed here: the job's objects are found by it")
    metadata = {"namespace": "default", **document["metadata"]}
    return {**document, "metadata": metadata, "status": untrusted.mapping(document.get("status"))}


def _checked(item: Manifest, source: str) -> Manifest:
    """Return an object with the fields that every object of a cluster has."""
    kind, metadata = item["kind"], item.get("metadata")
    if not isinstance(metadata, dict) or not _name(item):
        raise CommandError(f"{source}: a {kind} has no metadata.name", ExitCode.FAILED)
    for part in ("spec", "status"):
        if not isinstance(item.get(part) or {}, dict):
            raise CommandError(f"{source}: {kind} {_name(item)}: {part} is no object", ExitCode.FAILED)
    if kind in ("Job", "Pod") and not untrusted.word(metadata.get("uid")):
        text = f"{kind} {_name(item)} has no metadata.uid: take it from the cluster ({FROM_CLUSTER})"
        raise CommandError(f"{source}: {text}", ExitCode.FAILED)
    return item


def _warnings(events: Iterable[Mapping[str, Any]]) -> Mapping[str, tuple[PodEvent, ...]] | None:
    """Return the Warning events by the uid of their object, oldest first."""
    known = sorted(events, key=lambda event: str(event.get("lastTimestamp") or event.get("eventTime") or ""))
    by_uid: dict[str, tuple[PodEvent, ...]] = {}
    for event in known:
        uid = untrusted.word(untrusted.mapping(event.get("involvedObject")).get("uid"))
        if event.get("type") == "Warning":
            count = untrusted.integer(event.get("count")) or 1
            note = PodEvent(untrusted.word(event.get("reason")), untrusted.message(event.get("message")), count)
            by_uid[uid] = (*by_uid.get(uid, ()), note)
    return by_uid if known else None
