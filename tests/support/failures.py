"""Golden cases of diagnosis: the objects of a real cluster when something went wrong, and what the operator says about them.

The e2e tests write them (`UPDATE_GOLDEN=1 pytest tests/e2e/...`), unit tests read them. Of the objects only what
decisions read is kept; uids, the namespace and addresses of the cluster they come from are replaced.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import yaml

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.controller.trimming import trimmed_child
from finetune_operator.plan.observed.diagnosis import diagnose
from finetune_operator.plan.observed.gang import Gang, lost_nodes, training_gang
from finetune_operator.plan.observed.objects import owned_objects
from finetune_operator.plan.observed.pending_pods import why_waiting
from finetune_operator.plan.types import Manifest, Observed, PlanSettings, PodEvent
from tests.support.cluster.cgroups import UNIFIED
from tests.support.golden import DATA
from tests.support.recorder import Recorder

FOLDER = DATA / "failures"
HERE = f"on a real cluster, cgroup v{2 if UNIFIED else 1}"
"""Origin of a case that is recorded here."""
SETTINGS = PlanSettings(trainer_image="docker.io/finetune/trainer:dev", lost_node_seconds=20)
"""The settings with which the end-to-end tests install the operator."""
METADATA = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
)
STATUS = {
    "Pod": ("phase", "reason", "message", "conditions", "containerStatuses", "initContainerStatuses"),
    "Job": ("conditions",),
    "Node": ("conditions",),
}
CONDITION = ("type", "status", "reason", "message", "lastTransitionTime")
CONTAINER = ("name", "image", "state", "lastState", "restartCount")
LABELS = re.compile(r"^finetune\.dev/(job|role|attempt)$|^batch\.kubernetes\.io/job-completion-index$")
SAID_OF_CONTAINER = ("containerID",)


@dataclass(frozen=True)
class Case:
    """A file with the objects that a cluster showed."""

    name: str
    document: Manifest

    @property
    def observed(self) -> Observed:
        document = self.document
        job = FineTuneJob.parse(document["job"])
        events = {
            uid: tuple(PodEvent(event["reason"], event["message"]) for event in items)
            for uid, items in document.get("events", {}).items()
        }
        return Observed(
            job=job,
            now=datetime.fromisoformat(document["now"]),
            settings=SETTINGS,
            objects=tuple(document["objects"]),
            gone=frozenset(document.get("gone", ())),
            nodes={node["metadata"]["name"]: node for node in document.get("nodes", ())},
            events=events,
        )

    @property
    def gang(self) -> Gang:
        observed, role, number = self.observed, self.document["role"], self.document["number"]
        members = owned_objects(observed)
        if role == "train":
            return training_gang(observed, members, number)
        job, pods = members.job(role, number), members.pods_of(role, number)
        return Gang(role, number, nodes=1, job=job, pods=pods, lost=lost_nodes(observed))

    def said(self) -> Manifest:
        """Return what the pure functions say of the case."""
        gang, observed = self.gang, self.observed
        if gang.fallen:
            verdict = diagnose(gang)
            diagnosis = verdict.diagnosis
            values = {
                "final": verdict.final,
                "cause": diagnosis.cause.value,
                "reason": str(diagnosis.reason),
                "node": diagnosis.node,
                "rank": diagnosis.rank,
                "exitCode": diagnosis.exit_code,
                "message": diagnosis.message,
                "resolution": diagnosis.resolution,
            }
            return {"failure": {key: value for key, value in values.items() if value is not None}}
        started = min(pod.created for pod in gang.pods)
        waiting = why_waiting(gang, observed.events, started, observed.now, SETTINGS.pod_diagnosis_seconds)
        if waiting.fact is None:
            return {"waiting": None}
        return {"waiting": {"reason": str(waiting.fact.reason), "message": waiting.fact.message}}

    def assert_said(self) -> None:
        """Compare with the expectation in the file; `UPDATE_GOLDEN=1` writes the file anew."""
        words = self.said()
        if os.environ.get("UPDATE_GOLDEN"):
            write(self.name, {**self.document, "said": words})
            return
        assert words == self.document["said"], f"{self.name} differs; UPDATE_GOLDEN=1 writes it anew"


def cases() -> list[Case]:
    return [Case(path.stem, yaml.safe_load(path.read_text())) for path in sorted(FOLDER.glob("*.yaml"))]


def write(name: str, document: Manifest) -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / f"{name}.yaml").write_text(yaml.safe_dump(document, sort_keys=False, width=140, allow_unicode=True))


def record(name: str, recorder: Recorder, job: str, *, recorded: str, nodes: tuple[Manifest, ...] = ()) -> Case:
    """Record the case as the cluster shows it now; write its file where golden files are to be updated."""
    newest = recorder.newest(job)
    children = recorder.children(job)
    pods = [item for item in children if item["kind"] == "Pod"]
    role, number = newest_gang(pods)
    kept = [item for item in children if belongs(item, role, number)]
    uids = {item["metadata"]["uid"]: f"uid-{place}" for place, item in enumerate(kept, start=1)}
    uids[newest["metadata"]["uid"]] = "uid-of-the-job"
    document = {
        "recorded": recorded,
        "role": role,
        "number": number,
        "now": (datetime.now(UTC) + timedelta(seconds=1)).isoformat(timespec="seconds"),
        "job": _job(newest),
        "objects": [_trimmed(item) for item in kept],
        "gone": [uid for uid in uids if uid in recorder.gone],
        "nodes": [_trimmed(node) for node in nodes],
        "events": {item["metadata"]["uid"]: list(_warnings(recorder, item)) for item in kept},
    }
    case = Case(name, _anonymous(document, uids, newest["metadata"]["namespace"]))
    if os.environ.get("UPDATE_GOLDEN"):
        write(name, {**case.document, "said": case.said()})
    return case


def newest_gang(pods: list[Manifest]) -> tuple[str, int]:
    """Return role and number of the first pods of the last stage that there are."""
    made = [
        (pod["metadata"]["labels"]["finetune.dev/role"], int(pod["metadata"]["labels"]["finetune.dev/attempt"]))
        for pod in pods
    ]
    last = "train" if any(role == "train" for role, _ in made) else "prepare"
    return last, min(number for role, number in made if role == last)


def belongs(item: Manifest, role: str, number: int) -> bool:
    labels = item["metadata"]["labels"]
    return (labels["finetune.dev/role"], labels["finetune.dev/attempt"]) == (role, str(number))


def _warnings(recorder: Recorder, item: Manifest) -> Iterator[Manifest]:
    for event in recorder.events_about(item["metadata"]["uid"]):
        if event["type"] == "Warning":
            yield {"reason": event["reason"], "message": event["message"]}


def _job(item: Manifest) -> Manifest:
    metadata = {key: item["metadata"][key] for key in ("name", "namespace", "uid", "generation", "creationTimestamp")}
    return {"metadata": metadata, "spec": item["spec"]}


def _trimmed(item: Manifest) -> Manifest:
    if item["kind"] != "Node":
        item = trimmed_child(item)
    metadata = {key: item["metadata"][key] for key in METADATA if key in item["metadata"]}
    metadata["labels"] = {key: value for key, value in metadata.get("labels", {}).items() if LABELS.match(key)}
    owners = item["metadata"].get("ownerReferences") or ()
    if owners:
        metadata["ownerReferences"] = [{key: owner[key] for key in ("name", "uid", "controller")} for owner in owners]
    spec = item.get("spec") or {}
    kept = {key: spec[key] for key in ("nodeName", "containers", "suspend", "completions", "taints") if key in spec}
    status = {key: value for key, value in (item.get("status") or {}).items() if key in STATUS[item["kind"]]}
    if "conditions" in status:
        status["conditions"] = [
            {key: condition[key] for key in CONDITION if key in condition} for condition in status["conditions"]
        ]
    for containers in ("containerStatuses", "initContainerStatuses"):
        if containers in status:
            status[containers] = [_container(container) for container in status[containers]]
    return {"kind": item["kind"], "metadata": metadata, "spec": kept, "status": status}


def _container(status: Manifest) -> Manifest:
    kept = {key: status[key] for key in CONTAINER if status.get(key)}
    for state in ("state", "lastState"):
        if state in kept:
            kept[state] = {
                name: {key: value for key, value in details.items() if key not in SAID_OF_CONTAINER}
                for name, details in kept[state].items()
            }
    return kept


def _anonymous(value: Any, uids: dict[str, str], namespace: str) -> Any:
    """Replace the names of the one cluster on which the case was recorded."""
    if isinstance(value, dict):
        return {_text(key, uids, namespace): _anonymous(item, uids, namespace) for key, item in value.items()}
    if isinstance(value, list):
        return [_anonymous(item, uids, namespace) for item in value]
    return _text(value, uids, namespace) if isinstance(value, str) else value


def _text(text: str, uids: dict[str, str], namespace: str) -> str:
    for uid, name in uids.items():
        text = text.replace(uid, name)
    return text.replace(namespace, "team")


__all__ = ["FOLDER", "Case", "Path", "cases", "record"]
