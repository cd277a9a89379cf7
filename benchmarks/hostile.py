"""The cost of jobs that attack the operator for everybody else: time from `apply` to pods, and the operator's memory.

On a control plane without nodes. Five jobs of one tenant answer to `/progress` what they like: a redirect, an answer without
end, 120,000 metrics, 5,000 metrics, and other messages at each reading. The baseline is the same jobs of the other tenant,
in the same run, before the attack. The attackers run on the same machine, in this process: the figures include what they use
themselves.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from statistics import median

import psutil

from benchmarks.api import FINETUNE_JOBS, Api, Pods
from benchmarks.cluster import NAMESPACE, control_plane, operator
from benchmarks.common import Figure, Table, spread
from benchmarks.control_plane import p95, remove, view
from benchmarks.kubelet import run_pods
from benchmarks.workloads import finetune_job
from tests.support.cluster.control_plane import ControlPlane
from tests.support.hostile_pod import HostilePod, hostile_pod
from tests.support.kubelet import PlayedKubelet

REPEATS = 30
WAYS = ("redirect", "endless", "metrics", "many metrics", "messages")
PATIENCE_SECONDS = 120
LATENCY_MAX = 2.0
MEMORY_MAX_MEBIBYTES = 20.0


def main(repeats: int = REPEATS) -> tuple[Table, ...]:
    """Measure before and under the attack."""
    with control_plane() as cluster, operator(cluster, progress_access="direct", progress_interval_seconds=1) as pid:
        alone, attacked, mebibytes = asyncio.run(measure(cluster, pid, repeats))
    before, after = mebibytes
    return (
        Table(
            "apply -> 2 training pods created, beside five jobs that attack (median / p95)",
            (
                Figure("p95", spread(alone), spread(attacked), p95(attacked) / p95(alone), LATENCY_MAX),
                Figure("median", spread(alone), spread(attacked), median(attacked) / median(alone), LATENCY_MAX),
            ),
            ("before", "attacked"),
        ),
        Table(
            "the operator's resident memory",
            (
                Figure(
                    "growth", f"{before:.1f} MiB", f"{after:.1f} MiB", after - before, MEMORY_MAX_MEBIBYTES, unit="MiB"
                ),
            ),
            ("before", "attacked"),
        ),
    )


async def measure(
    cluster: ControlPlane, pid: int, repeats: int
) -> tuple[list[float], list[float], tuple[float, float]]:
    """Measure the seconds to the pods before and under the attack; the operator's MiB before and after."""
    async with view(cluster) as (api, pods):
        await latencies(api, pods, "first", 2)  # connections are opened and caches filled
        alone = await latencies(api, pods, "alone", repeats)
        before = resident_mebibytes(pid)
        with ExitStack() as stack:
            for number, way in enumerate(WAYS):
                await attack(api, pods, f"evil-{number}", way, stack)
            attacked = await latencies(api, pods, "attacked", repeats)
            return alone, attacked, (before, resident_mebibytes(pid))


async def latencies(api: Api, pods: Pods, prefix: str, count: int) -> list[float]:
    """Measure seconds from POST to the second pod, one job after the other."""
    path, seconds = FINETUNE_JOBS.format(NAMESPACE), []
    for number in range(count):
        name = f"{prefix}-{number}"
        begin = time.monotonic()
        await api.create(path, finetune_job(name))
        seconds.append(await pods.created(f"{name}-train-1") - begin)
        await remove(api, pods, f"{path}/{name}", f"{name}-train-1")
    return seconds


async def attack(api: Api, pods: Pods, name: str, way: str, stack: ExitStack) -> HostilePod:
    """Run a job whose node 0 answers in this way; return once it was asked."""
    created = await api.create(FINETUNE_JOBS.format(NAMESPACE), finetune_job(name))
    await pods.created(f"{name}-train-1")
    answer = {
        "uid": created["metadata"]["uid"],
        "attempt": 1,
        "phase": "training",
        "begun": datetime.now(UTC).isoformat(),
    }
    pod = stack.enter_context(hostile_pod(PlayedKubelet._address(), **answer))
    pod.way = way
    await run_pods(api, pods, f"{name}-train-1", pod.address)
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not pod.asked[way]:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} was not asked within {PATIENCE_SECONDS} s")
        await asyncio.sleep(0.1)
    return pod


def resident_mebibytes(pid: int) -> float:
    """Return the resident memory of a process, in MiB."""
    resident: int = psutil.Process(pid).memory_info().rss
    return resident / 2**20
