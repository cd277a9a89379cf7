"""A cluster for one job on this machine: API server, Job controller and kubelet in one. It carries out actions, and shows objects.

It decides nothing: an attempt begins and a gang ends only by an action, or by a process that ends.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from finetune_operator.api.resource import LABEL_ATTEMPT, LABEL_ROLE, FineTuneJob
from finetune_operator.cli.local import pod_objects, processes
from finetune_operator.cli.local.pod_environment import container_environment, free_addresses, inherited_environment
from finetune_operator.cli.local.volumes import Volumes, pod_paths
from finetune_operator.plan.desired.pod_template import CONFIG_KEY, CONFIG_PATH
from finetune_operator.plan.observed.objects import INDEX_KEY
from finetune_operator.plan.types import Action, Create, Delete, Manifest, Ref, Suspend
from finetune_trainer.contract.run_config import Env


@dataclass
class Pod:
    """A pod: its object in the API, and the process behind it."""

    manifest: Manifest
    folder: Path
    process: processes.PodProcess | None = None


@dataclass
class LocalCluster:
    """The children of one job."""

    job: FineTuneJob
    volumes: Volumes
    folder: Path
    """Folder with a folder for each pod."""
    devices: tuple[tuple[str, ...], ...] = ()
    """Accelerators of each node."""
    token_file: Path | None = None
    grace_seconds: int = 30
    others: dict[Ref, Manifest] = field(default_factory=dict)
    """All objects but pods."""
    pods: dict[str, Pod] = field(default_factory=dict)
    """Pods by name."""
    addresses: dict[str, list[str]] = field(default_factory=dict)
    """`host:port` of each node, by Job."""
    gone: set[str] = field(default_factory=set)

    # --- observe ---

    def objects(self) -> tuple[Manifest, ...]:
        return (*self.others.values(), *(pod.manifest for pod in self.pods.values()))

    def saved(self) -> list[Manifest]:
        """Return the objects that the next `finetune run` must know."""
        return [item for item in self.objects() if item["kind"] in ("Job", "Pod")]

    def reference(self, ref: Ref) -> Manifest | None:
        """Return the object that the spec names, as far as a folder can stand for it."""
        namespace = self.job.metadata.namespace
        if ref.kind == "PersistentVolumeClaim" and self.volumes.claim(ref.name).is_dir():
            return pod_objects.existing_claim(ref.name, namespace)
        folder = self.volumes.config_map(ref.name)
        if ref.kind == "ConfigMap" and folder.is_dir():
            data = {file.name: file.read_text(errors="replace") for file in folder.iterdir() if file.is_file()}
            return {"kind": "ConfigMap", "metadata": {"name": ref.name, "namespace": namespace}, "data": data}
        if ref.kind == "StorageClass":  # every class is the file system of this machine
            return {"kind": "StorageClass", "metadata": {"name": ref.name}}
        return None

    def refresh(self) -> bool:
        """Look at the processes; return whether any has ended."""
        ended = [pod for pod in self.pods.values() if pod.process is not None and not pod.process.running()]
        for pod in ended:
            self._note_end(pod)
            if pod.manifest["metadata"].get("deletionTimestamp"):
                self.gone.add(pod.manifest["metadata"]["uid"])
        for pod in ended:
            if pod.manifest["status"]["phase"] == "Failed":  # the Job controller then deletes the other pods of the Job
                self._update_jobs()  # the failure of the Job is noted before the deletions that follow from it
                self._delete_pods(_owner(pod))
        self._update_jobs()
        self._forget_orphans()
        return bool(ended)

    def progress_address(self) -> str | None:
        """Return `host:port` of node 0 of the newest attempt, while it runs."""
        running = [
            pod for pod in self.pods.values() if pod.process is not None and _index(pod) == 0 and _role(pod) == "train"
        ]
        if not running:
            return None
        newest = max(running, key=lambda pod: int(pod.manifest["metadata"]["labels"][LABEL_ATTEMPT]))
        return self.addresses[_owner(newest)][0]

    # --- act ---

    def carry_out(self, action: Action) -> None:
        match action:
            case Create(manifest):
                self._create(manifest)
            case Suspend(name):
                ref = Ref("Job", name)
                self.others[ref] = {**self.others[ref], "spec": {**self.others[ref]["spec"], "suspend": True}}
                self._delete_pods(name)
            case Delete(ref, _, grace_period_seconds):
                self._delete(ref, at_once=grace_period_seconds == 0)
        self._update_jobs()

    def stop(self, at_once: Callable[[], bool]) -> None:
        """Stop every pod as an eviction would, and kill it after its grace period: `finetune run` ends.

        `at_once` returns whether the user has lost patience.
        """
        for pod in self._running():
            pod.manifest = pod_objects.disrupted(
                pod_objects.deleted(pod.manifest, self.grace_seconds, datetime.now(UTC))
            )
            if pod.process is not None:
                pod.process.stop()
        deadline = time.monotonic() + self.grace_seconds
        while self._running() and time.monotonic() < deadline and not at_once():
            time.sleep(0.05)
            self._note_ends()
        self.kill()

    def drain(self, timeout_seconds: float) -> None:
        """Give the pods of a finished job time to end by themselves."""
        deadline = time.monotonic() + timeout_seconds
        while self._running() and time.monotonic() < deadline:
            time.sleep(0.05)
            self._note_ends()

    def kill(self) -> None:
        """Kill everything that still runs."""
        for pod in self._running():
            if pod.process is not None:
                pod.process.kill()
                pod.process.supervisor.wait()
        self._note_ends()
        processes.kill_all(processes.processes_of(self.folder))

    def restore(self, saved: Sequence[Manifest], interrupted: datetime) -> None:
        """Restore the objects of the run before. Pods that ran then were interrupted with it."""
        for item in saved:
            if item["kind"] != "Pod":
                self.others[Ref.of(item)] = item
                continue
            pod = Pod(item, self.folder / item["metadata"]["name"])
            self.pods[item["metadata"]["name"]] = pod
            if not pod_objects.is_final(item):
                pod.manifest = pod_objects.disrupted(pod_objects.deleted(item, 0, interrupted))
                self._note_end(pod, interrupted)
        self._update_jobs()

    # --- create, delete, note the ends of processes ---

    def _create(self, manifest: Manifest) -> None:
        item, ref = pod_objects.created(manifest), Ref.of(manifest)
        if ref in self.others:
            return
        if ref.kind == "PersistentVolumeClaim":
            self.volumes.claim(ref.name).mkdir(parents=True, exist_ok=True)
            item = pod_objects.bound(item)
        elif ref.kind == "ConfigMap":
            folder = self.volumes.config_map(ref.name)
            folder.mkdir(parents=True, exist_ok=True)
            for name, text in item["data"].items():
                (folder / name).write_text(text)
        self.others[ref] = item
        if ref.kind == "Job":
            self._start_job(item)

    def _start_job(self, job: Manifest) -> None:
        gang = pod_objects.pods_of(job)
        name = job["metadata"]["name"]
        self.addresses[name] = free_addresses(len(gang))
        for manifest in gang:
            pod = Pod(manifest, self.folder / manifest["metadata"]["name"])
            self.pods[manifest["metadata"]["name"]] = pod
            shutil.rmtree(pod.folder, ignore_errors=True)
            pod.folder.mkdir(parents=True)
            container = manifest["spec"]["containers"][0]
            command = [sys.executable, *container["command"][1:], *container["args"]]
            pod.process = processes.start(pod.folder, command, self._environment(pod, len(gang)), self.grace_seconds)
            pod.manifest = pod_objects.running(manifest)

    def _environment(self, pod: Pod, nodes: int) -> dict[str, str]:
        index = _index(pod)
        paths = pod_paths(self.job, pod.manifest["spec"], self.volumes, self.token_file)
        local = {
            Env.CONFIG: f"{paths[CONFIG_PATH]}/{CONFIG_KEY}",
            Env.NODE: str(index),
            Env.PEERS: ",".join(self.addresses[_owner(pod)]),
            Env.PATHS: json.dumps(paths),
            Env.TERMINATION_LOG: str(pod.folder / processes.TERMINATION_FILE),
            "CUDA_VISIBLE_DEVICES": ",".join(self.devices[index]) if _role(pod) == "train" and self.devices else "",
        }
        ranks = nodes * (self.job.spec.processes_per_node or 1)
        container_variables = container_environment(pod.manifest["spec"]["containers"][0], self.volumes)
        inherited = inherited_environment(ranks, reads_data=_role(pod) == "prepare")
        return {**inherited, **container_variables, **local}

    def _delete(self, ref: Ref, *, at_once: bool) -> None:
        deleted = self.others.pop(ref, None)
        if ref.kind == "Pod":
            self._delete_pod(self.pods[ref.name], at_once=at_once)
        elif deleted is not None and ref.kind == "Job":
            self._delete_pods(ref.name, at_once=at_once)
            self._forget_orphans()

    def _delete_pods(self, job: str, *, at_once: bool = False) -> None:
        for pod in self.pods.values():
            if _owner(pod) == job and pod.process is not None:
                self._delete_pod(pod, at_once=at_once)

    def _delete_pod(self, pod: Pod, *, at_once: bool = False) -> None:
        if pod.process is None:
            self.gone.add(pod.manifest["metadata"]["uid"])
            return
        if not pod.manifest["metadata"].get("deletionTimestamp"):
            pod.manifest = pod_objects.deleted(pod.manifest, 0 if at_once else self.grace_seconds, datetime.now(UTC))
        if at_once:
            pod.process.kill()
        else:
            pod.process.stop()

    def _forget_orphans(self) -> None:
        """Forget pods that have ended and whose Job is gone; their folders, and so their logs, stay."""
        for name, pod in list(self.pods.items()):
            if pod.process is None and Ref("Job", _owner(pod)) not in self.others:
                del self.pods[name]

    def _note_ends(self) -> None:
        for pod in self.pods.values():
            if pod.process is not None and not pod.process.running():
                self._note_end(pod)

    def _note_end(self, pod: Pod, seen: datetime | None = None) -> None:
        message, ending = processes.termination_message(pod.folder), processes.ending(pod.folder)
        pod.manifest = pod_objects.ended(pod.manifest, ending, message, seen or datetime.now(UTC))
        pod.process = None

    def _running(self) -> list[Pod]:
        return [pod for pod in self.pods.values() if pod.process is not None]

    def _update_jobs(self) -> None:
        for ref, item in self.others.items():
            if ref.kind == "Job":
                pods = [pod.manifest for pod in self.pods.values() if _owner(pod) == ref.name]
                self.others[ref] = pod_objects.with_job_status(item, pods)


def _index(pod: Pod) -> int:
    return int(pod.manifest["metadata"]["annotations"][INDEX_KEY])


def _role(pod: Pod) -> str:
    return str(pod.manifest["metadata"]["labels"][LABEL_ROLE])


def _owner(pod: Pod) -> str:
    return str(pod.manifest["metadata"]["ownerReferences"][0]["name"])
