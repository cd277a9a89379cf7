"""The time from `apply` to the first training step, on two real nodes, with the image that users run.

The baseline is what a user would do without an operator: a headless Service and an Indexed Job whose pods run torchrun
on `train_by_hand.py`, with the same image, model, data and arguments. The two take turns. Both are timed in the same
way: by the moment at which node 0's container printed the loss of step 1.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import phases
from benchmarks.api import FINETUNE_JOBS, JOBS, PODS, SERVICES, Api, Manifest, Pods
from benchmarks.cluster import NAMESPACE, OPERATOR_USER, node_cluster, operator, requests_of
from benchmarks.common import Figure, Table, spread
from benchmarks.control_plane import request_table, until_phase, view
from benchmarks.workloads import finetune_job, indexed_job
from tests.support.cluster.nodes import NodeCluster
from tests.support.tiny import reviews, tiny_bert, write_rows

REPEATS = 5
ROWS = 4000
SCRIPT = Path(__file__).with_name("train_by_hand.py")
LOSS = re.compile(r"^(\S+) .*['\"]loss['\"]", re.MULTILINE)
PATIENCE_SECONDS = 180
Run = tuple[datetime, dict[str, datetime]]
"""Moments when a job was applied, and when each phase of its start ended."""
ARGUMENTS: Manifest = {
    "max_steps": 20,
    "per_device_train_batch_size": 8,
    "logging_steps": 1,
    "save_strategy": "no",
}


def main(repeats: int = REPEATS) -> tuple[Table, ...]:
    """Run the benchmark."""
    with node_cluster(claims=("data", "output")) as cluster:
        furnish_data(cluster)
        with operator(cluster):
            by_hand, runs, counts = asyncio.run(first_steps(cluster, repeats))
    ours = [(marks["first step"] - begin).total_seconds() for begin, marks in runs]
    ratio = median(ours) / median(by_hand)
    figures = (
        Figure("median", spread(by_hand, "s", 1), spread(ours, "s", 1), ratio, 1.25),
        Figure("quickest", f"{min(by_hand):.1f} s", f"{min(ours):.1f} s", min(ours) / min(by_hand)),
    )
    table = Table("apply -> first step, 2 nodes (median / p95)", figures, ("torchrun by hand", "FineTuneJob"))
    return table, phases.table(runs), request_table("real nodes", counts)


def furnish_data(cluster: NodeCluster) -> None:
    """Copy model, data and the script of the baseline to the data claim, as pods may read them."""
    folder = cluster.volume_path("data", NAMESPACE)
    tiny_bert(folder / "model", size="small")
    write_rows(folder / "train.csv", reviews(ROWS, labels=("negative", "positive")))
    write_rows(folder / "validation.csv", reviews(ROWS // 10, seed=1))
    (folder / SCRIPT.name).write_text(SCRIPT.read_text())
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)


async def first_steps(cluster: NodeCluster, repeats: int) -> tuple[list[float], list[Run], list[Counter[str]]]:
    """Measure step 1 by hand in seconds, the phases of FineTuneJobs until then, and the operator's requests until each ran."""
    by_hand: list[float] = []
    runs: list[Run] = []
    counts: list[Counter[str]] = []
    async with view(cluster) as (api, pods):
        for number in range(-1, repeats):  # the first ones fill the page cache
            hand_seconds = await first_step_by_hand(api, pods, f"hand-{number + 1}")
            run, count = await first_step(cluster, api, pods, f"ours-{number + 1}")
            our_seconds = (run[1]["first step"] - run[0]).total_seconds()
            print(f"by hand {hand_seconds:.2f} s, FineTuneJob {our_seconds:.2f} s", flush=True)
            if number >= 0:
                by_hand.append(hand_seconds)
                runs.append(run)
                counts.append(count)
    return by_hand, runs, counts


async def first_step(cluster: NodeCluster, api: Api, pods: Pods, name: str) -> tuple[Run, Counter[str]]:
    """Run a FineTuneJob until its first step."""
    manifest = finetune_job(name)
    spec = manifest["spec"]
    spec["trainingArguments"] = ARGUMENTS
    spec["env"] = [{"name": "OMP_NUM_THREADS", "value": "1"}]  # as by hand: both nodes share this machine's cores
    spec["preprocessing"] = {"maxLength": 64}
    spec["dataset"]["files"]["validation"] = ["/data/validation.csv"]
    spec["volumes"][0]["claimName"] = "data"
    path, job = FINETUNE_JOBS.format(NAMESPACE), f"{name}-train-1"
    begin, began = datetime.now(UTC), time.monotonic()
    await api.create(path, manifest)
    await until_phase(api, f"{path}/{name}", "Running", PATIENCE_SECONDS)
    count = requests_of(cluster, begin, datetime.now(UTC), user=OPERATOR_USER)
    log = await log_with_loss(api, pods, job)
    created, scheduled = (
        begin + timedelta(seconds=seconds - began) for seconds in (await pods.created(job), await pods.scheduled(job))
    )
    await api.delete(f"{path}/{name}")
    await pods.until(lambda: not pods.of(job), PATIENCE_SECONDS)
    return (begin, phases.marks(log, created, scheduled)), count


async def first_step_by_hand(api: Api, pods: Pods, name: str) -> float:
    """Run a Service and an Indexed Job with torchrun until the first step."""
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"clusterIP": "None", "publishNotReadyAddresses": True, "selector": {"by-hand": name}},
    }
    begin = datetime.now(UTC)
    await api.create(SERVICES.format(NAMESPACE), service)
    await api.create(JOBS.format(NAMESPACE), torchrun_job(name))
    loss = LOSS.search(await log_with_loss(api, pods, name))
    assert loss is not None
    seconds = (datetime.fromisoformat(loss[1]) - begin).total_seconds()
    await api.delete(f"{JOBS.format(NAMESPACE)}/{name}")
    await api.delete(f"{SERVICES.format(NAMESPACE)}/{name}")
    await pods.until(lambda: not pods.of(name), PATIENCE_SECONDS)
    return seconds


def torchrun_job(name: str) -> dict[str, Any]:
    """Make a Job of two pods with static rendezvous, as PyTorch's documentation has it."""
    rendezvous = [f"--master-addr={name}-0.{name}", "--master-port=29500", "--node-rank=$(JOB_COMPLETION_INDEX)"]
    command = [
        "torchrun",
        "--nnodes=2",
        "--nproc-per-node=1",
        *rendezvous,
        f"/data/{SCRIPT.name}",
        "--folder=/data",
        "--max-steps=20",
    ]
    environment = {
        "GLOO_SOCKET_IFNAME": "eth0",
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": "/tmp/hf",
    }
    container = {
        "name": "main",
        "image": "docker.io/finetune/trainer:dev",
        "command": command,
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "volumeMounts": [{"name": "data", "mountPath": "/data", "readOnly": True}],
    }
    pod = {
        "restartPolicy": "Never",
        "subdomain": name,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {"fsGroup": 10001},
        "containers": [container],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data", "readOnly": True}}],
    }
    return indexed_job(name, {"metadata": {"labels": {"by-hand": name}}, "spec": pod})


async def log_with_loss(api: Api, pods: Pods, job: str) -> str:
    """Return the log of node 0 once a loss is in it, each line stamped by the container runtime."""
    await pods.created(job)
    path = f"{PODS.format(NAMESPACE)}/{pods.of(job)[0]['metadata']['name']}/log?timestamps=true"
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not LOSS.search(log := await api.text(path)):
        if time.monotonic() > deadline or any(pod["status"].get("phase") == "Failed" for pod in pods.of(job)):
            raise RuntimeError(f"{job} printed no loss:\n{log[-4000:]}")
        await asyncio.sleep(0.5)
    return log
