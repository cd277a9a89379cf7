"""Steps of the end-to-end tests: put data on claims, follow a job, look at the files that it left."""

from __future__ import annotations

import json
import subprocess
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support import tiny
from tests.support.api import Api, Manifest
from tests.support.cluster.nodes import NodeCluster
from tests.support.commands import wait_for
from tests.support.patience import PATIENCE_SECONDS

DATA_CLAIM = "reviews-data"
TRAIN_ROWS = 960
BATCH = 8
STEPS = 300
"""Steps of a job: enough that something can happen while it trains, also on machines twice as fast as this one."""
SAVE_STEPS = 60
NEVER_BACKWARDS = ["Pending", "Preparing", "Starting", "Running", "Restarting", "Starting", "Running", "Succeeded"]


def make_data(cluster: NodeCluster, namespace: str) -> Path:
    """Make a claim with a tiny model without dropout and reviews to train it on; return its folder on this machine."""
    cluster.apply(claim_manifest(DATA_CLAIM), namespace=namespace)
    folder = cluster.volume_path(DATA_CLAIM, namespace)
    tiny.tiny_bert(folder / "model", dropout=0.0, size="small")
    tiny.write_rows(folder / "train.csv", tiny.reviews(TRAIN_ROWS, seed=1))
    tiny.write_rows(folder / "validation.csv", tiny.reviews(100, seed=2))
    for path in [folder, *folder.rglob("*")]:  # this process is root, the pods are not; weights are saved as 0600
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


def claim_manifest(name: str) -> Manifest:
    """Return a claim that all nodes can mount."""
    spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}


def job_manifest(name: str, *, nodes: int = 2, batch: int = BATCH, arguments: Manifest | None = None) -> Manifest:
    """Return a job on the data of `make_data`; `batch` rows a rank and step, whatever the number of nodes."""
    training_arguments = {
        "max_steps": STEPS,
        "per_device_train_batch_size": batch,
        "learning_rate": 5e-4,
        "logging_steps": 1,
        "save_strategy": "steps",
        "save_steps": SAVE_STEPS,
        "eval_strategy": "steps",
        "eval_steps": STEPS,
        **(arguments or {}),
    }
    spec = {
        "task": "text-classification",
        "model": {"name": "/data/model"},
        "dataset": {
            "files": {"train": ["/data/train.csv"], "validation": ["/data/validation.csv"]},
            "columns": {"text": "review", "label": "stars"},
        },
        "preprocessing": {"maxLength": 32},
        "trainingArguments": training_arguments,
        "env": [{"name": "OMP_NUM_THREADS", "value": "1"}],  # both nodes share the cores of this machine
        "nodes": nodes,
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}},
        "storage": {"size": "1Gi", "accessMode": "ReadWriteMany"},
        "volumes": [{"name": "data", "mountPath": "/data", "readOnly": True, "claimName": DATA_CLAIM}],
    }
    return {"apiVersion": "finetune.dev/v1alpha1", "kind": "FineTuneJob", "metadata": {"name": name}, "spec": spec}


class Story:
    """All statuses of a job in order, as a watch shows them. Use as a context."""

    def __init__(self, cluster: NodeCluster, namespace: str, name: str) -> None:
        where = (f"--kubeconfig={cluster.kubeconfig}", f"--namespace={namespace}")
        self._command = [str(cluster.binaries.kubectl), *where, "get", "finetunejob", name, "--watch", "--output=json"]
        self._process = self._watch()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self.statuses: list[Manifest] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._over.set()
        self._process.kill()
        self._thread.join()

    @property
    def phases(self) -> list[str]:
        """Phases in order."""
        seen = [status["phase"] for status in list(self.statuses) if "phase" in status]
        return [phase for index, phase in enumerate(seen) if index == 0 or seen[index - 1] != phase]

    @property
    def last(self) -> Manifest:
        """The newest status."""
        return self.statuses[-1] if self.statuses else {}

    def wait_for(self, phase: str, timeout_seconds: float = PATIENCE_SECONDS) -> Manifest:
        """Wait until the job is in this phase; fail at once where it has ended otherwise."""

        def reached() -> bool:
            shown = self.last.get("phase")
            if shown in {"Succeeded", "Failed"} and shown != phase:
                raise AssertionError(f"the job is {shown}, not {phase}: {json.dumps(self.last, indent=1)}")
            return bool(shown == phase)

        wait_for(f"{phase} (last: {self.last.get('phase')})", reached, timeout_seconds=timeout_seconds)
        return self.last

    def _watch(self) -> subprocess.Popen[str]:
        return subprocess.Popen(self._command, stdout=subprocess.PIPE, text=True)

    def _read(self) -> None:
        """Read the watch; where the API server ends it because the definition has changed, begin another one."""
        while True:
            assert self._process.stdout is not None
            pending = ""
            while chunk := self._process.stdout.readline():
                pending += chunk
                if chunk.rstrip("\n") == "}":  # the end of an indented document
                    self.statuses.append(json.loads(pending).get("status") or {})
                    pending = ""
            self._process.communicate()
            if self._over.wait(0.2):
                return
            self._process = self._watch()
            if self._over.is_set():
                self._process.kill()


def run_undisturbed(
    cluster: NodeCluster,
    api: Api,
    namespace: str,
    name: str,
    *,
    nodes: int = 2,
    batch: int = BATCH,
    **arguments: int,
) -> Path:
    """Run a job to its end; return the folder of its only attempt."""
    saving = {"save_steps": 1} if arguments else {}
    api.create(job_manifest(name, nodes=nodes, batch=batch, arguments={**arguments, **saving}))
    with Story(cluster, namespace, name) as story:
        status = story.wait_for("Succeeded")
    assert status["attempt"] == 1
    return attempt_folder(cluster.volume_path(name, namespace), name, 1)


def is_in_order(seen: list[str], allowed: list[str]) -> bool:
    """Return whether the phases seen are some of the allowed ones, in their order."""
    rest = iter(allowed)
    return all(phase in rest for phase in seen)


def attempt_folder(volume: Path, job: str, attempt: int) -> Path:
    """Return the folder of an attempt of the only run of this job on its volume."""
    (run,) = (volume / job / "runs").iterdir()
    return run / "attempts" / str(attempt)


def wait_for_checkpoint(volume: Path, job: str, attempt: int, timeout_seconds: float = PATIENCE_SECONDS) -> Path:
    """Wait for the first sealed checkpoint of an attempt; return it."""

    def sealed() -> list[Path]:
        return sorted(attempt_folder(volume, job, attempt).glob("checkpoints/checkpoint-*[0-9]/manifest.json"))

    wait_for("a sealed checkpoint", sealed, timeout_seconds=timeout_seconds, not_yet=(OSError, ValueError))
    return sealed()[0].parent


def losses(checkpoint: Path) -> list[tuple[int, float]]:
    """Return (step, training loss) as the Trainer logged them, up to this checkpoint."""
    history = json.loads((checkpoint / "trainer_state.json").read_text())["log_history"]
    return [(entry["step"], entry["loss"]) for entry in history if "loss" in entry]


def pod_metrics(api: Api, job: str, attempt: int = 1) -> dict[str, float]:
    """Return the samples of node 0's `/metrics`, over the pod network."""
    pod = node_pod(api, job, 0, attempt)
    with urllib.request.urlopen(f"http://{pod['status']['podIP']}:8080/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1]) for line in lines if not line.startswith("#")}


def wait_for_metrics(
    api: Api, job: str, beyond_step: int, timeout_seconds: float = PATIENCE_SECONDS
) -> dict[str, float]:
    """Wait until a job trains and has passed a step; return its metrics."""
    metrics: dict[str, float] = {}

    def training() -> bool:
        body = api.get("FineTuneJob", job) or {}
        status = body.get("status") or {}
        assert status.get("phase") != "Failed", json.dumps(status, indent=1)
        metrics.update(pod_metrics(api, job))
        return metrics.get("finetune_global_step", 0) > beyond_step

    not_yet = (OSError, urllib.error.URLError, LookupError)
    wait_for("metrics of a training step", training, timeout_seconds=timeout_seconds, not_yet=not_yet)
    return metrics


def node_pod(api: Api, job: str, node: int, attempt: int) -> Manifest:
    """Return the pod of a node of an attempt."""
    pods = api.list(
        "Pod", labelSelector=f"finetune.dev/job={job},finetune.dev/role=train,finetune.dev/attempt={attempt}"
    )
    of_node = [
        pod for pod in pods if pod["metadata"]["labels"]["batch.kubernetes.io/job-completion-index"] == str(node)
    ]
    if len(of_node) != 1:
        raise LookupError(f"{len(of_node)} pods of node {node} of attempt {attempt} of {job}")
    return of_node[0]


def children(api: Api) -> dict[str, list[str]]:
    """Return the objects of the namespace of all kinds that jobs make, without those that Kubernetes puts into each namespace."""
    kinds = ("FineTuneJob", "Job", "Pod", "ConfigMap", "Service", "PersistentVolumeClaim")
    named = {kind: [item["metadata"]["name"] for item in api.list(kind)] for kind in kinds}
    return {kind: left for kind, names in named.items() if (left := sorted({*names} - {"kube-root-ca.crt"}))}


def wait_until_only(api: Api, expected: dict[str, list[str]], timeout_seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until garbage collection has left only the expected objects."""
    deadline = time.monotonic() + timeout_seconds
    while (left := children(api)) != expected:
        assert time.monotonic() < deadline, f"still in the namespace: {left}, expected {expected}"
        time.sleep(0.2)


def evidence(cluster: NodeCluster, namespace: str) -> str:
    """Return the evidence about a failure: objects, statuses, events, the logs of all pods."""
    shown = [
        cluster.kubectl("get", "finetunejobs,jobs,pods,persistentvolumeclaims", "-o=wide", "-n", namespace),
        cluster.kubectl("get", "finetunejobs", "--output=jsonpath={.items[*].status}", "-n", namespace),
        cluster.kubectl("get", "events", "--sort-by=.lastTimestamp", "-n", namespace),
    ]
    pods = cluster.kubectl("get", "pods", "--output=name", "-n", namespace).stdout.split()
    shown += [cluster.kubectl("logs", pod, "--tail=60", "--prefix", "-n", namespace, check=False) for pod in pods]
    return "\n".join(done.stdout + done.stderr for done in shown)


def accuracy(model: Path | str, rows: list[tiny.Row]) -> float:
    """Return the share of the rows that the model in a folder, or on the Hub, gets right, by its own label names."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    classifier: Any = AutoModelForSequenceClassification.from_pretrained(model).eval()
    right = 0
    for row in rows:
        encoded = tokenizer(row["review"], truncation=True, max_length=32, return_tensors="pt")
        with torch.no_grad():
            label = int(classifier(**encoded).logits.argmax())
        right += classifier.config.id2label[label] == row["stars"]
    return right / len(rows)
