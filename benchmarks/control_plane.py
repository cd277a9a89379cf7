"""The time from `apply` to training pods, the operator's API requests for it, and the memory of an idle operator.

On a control plane without nodes. The baseline is what a script can do at best: it POSTs an Indexed Job of two pods. The
two take turns, one job at a time, and each is deleted and gone before the next.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import psutil

from benchmarks.api import FINETUNE_JOBS, JOBS, Api, Pods
from benchmarks.cluster import NAMESPACE, OPERATOR_USER, control_plane, operator, process, requests_of
from benchmarks.common import Figure, Table, percentile, spread
from benchmarks.kubelet import Progress, run_pods
from benchmarks.workloads import bare_job, finetune_job, same_pods
from tests.support.cluster.control_plane import ControlPlane

REPEATS = 50
PAUSE_SECONDS = 0.5
"""Pause between two jobs: the deletions of one job and the creations of the next share the controllers' 20 requests a second."""
SETTLE_SECONDS = 12
NEW_KIND_SECONDS = 90
"""Longest time that the first FineTuneJob to be deleted may wait: garbage collection looks for new kinds every 30 s."""
RUNNING = 8
"""Jobs that are followed to Running, to count requests."""


def main(repeats: int = REPEATS) -> tuple[Table, ...]:
    """Run all three benchmarks."""
    with control_plane() as cluster:
        idle = memory_figures(cluster)
        with operator(cluster, progress_access="direct"):
            bare, same, ours = asyncio.run(latencies(cluster, repeats))
            counts = asyncio.run(requests_until_running(cluster, RUNNING))

    def compared(
        name: str, baseline: list[float], target: float | None, value: Callable[[list[float]], float]
    ) -> Figure:
        return Figure(name, spread(baseline), spread(ours), value(ours) / value(baseline), target)

    return (
        Table(
            "apply -> 2 training pods created (median / p95)",
            (
                compared("p95, bare Indexed Job", bare, 1.9, p95),
                compared("median, bare Indexed Job", bare, None, median),
                compared("p95, the same pods from a script's Job", same, None, p95),
                compared("median, the same pods from a script's Job", same, None, median),
            ),
        ),
        request_table("pods without nodes", counts),
        Table("resident memory, idle", tuple(idle)),
    )


def p95(values: list[float]) -> float:
    """Return the p95 of a list of times."""
    return percentile(values, 0.95)


def request_table(pods: str, counts: list[Counter[str]]) -> Table:
    """Tabulate the requests of jobs, and those of the most usual job in detail."""
    totals = sorted(count.total() for count in counts)
    usual = min(counts, key=lambda count: abs(count.total() - median(totals)))
    detail = ", ".join(f"{count} {what}" for what, count in sorted(usual.items()))
    return Table(
        f"operator's API requests, apply -> Running, {pods}",
        (
            Figure(f"median of {len(counts)} jobs", "-", detail, median(totals), 12, "requests"),
            Figure("most of any job", "-", "-", totals[-1], None, "requests"),
        ),
    )


@asynccontextmanager
async def view(cluster: ControlPlane) -> AsyncIterator[tuple[Api, Pods]]:
    """Open a connection, and watch the pods of the benchmarks' namespace."""
    async with Api.connect(cluster.kubeconfig) as api, Pods.follow(api, NAMESPACE) as pods:
        yield api, pods


async def latencies(cluster: ControlPlane, repeats: int) -> tuple[list[float], list[float], list[float]]:
    """Measure seconds from POST to the second pod: of bare Jobs, of Jobs with a FineTuneJob's pods, of FineTuneJobs."""
    times: tuple[list[float], ...] = ([], [], [])
    async with view(cluster) as (api, pods):
        jobs, finetune_jobs = JOBS.format(NAMESPACE), FINETUNE_JOBS.format(NAMESPACE)
        for number in range(-2, repeats):  # the first ones open connections and fill caches
            bare, same, ours = f"bare-{number + 2}", f"same-{number + 2}", f"ours-{number + 2}"
            kinds = (
                (jobs, bare_job(bare), bare),
                (jobs, same_pods(same), same),
                (finetune_jobs, finetune_job(ours), f"{ours}-train-1"),
            )
            for kind, (path, manifest, job) in enumerate(kinds):
                begin = time.monotonic()
                await api.create(path, manifest)
                seconds = await pods.created(job) - begin
                if number >= 0:
                    times[kind].append(seconds)
                await remove(api, pods, f"{path}/{manifest['metadata']['name']}", job)
    bare_times, same_times, our_times = times
    return bare_times, same_times, our_times


async def remove(api: Api, pods: Pods, path: str, job: str) -> None:
    """Delete a job and let the controllers come to rest."""
    await api.delete(path)
    await pods.until(lambda: not pods.of(job), NEW_KIND_SECONDS)
    await asyncio.sleep(PAUSE_SECONDS)


async def requests_until_running(cluster: ControlPlane, count: int) -> list[Counter[str]]:
    """Count the operator's requests for one job after the other, until the status of each says Running."""
    counts = []
    async with view(cluster) as (api, pods), Progress.serve() as progress:
        for number in range(count):
            name = f"running-{number}"
            begin = datetime.now(UTC)
            path = await train(api, pods, progress, name)
            await asyncio.sleep(0.2)  # the events about it follow the status
            counts.append(requests_of(cluster, begin, datetime.now(UTC), user=OPERATOR_USER))
            await remove(api, pods, path, f"{name}-train-1")
    return counts


async def train(api: Api, pods: Pods, progress: Progress, name: str) -> str:
    """Apply a FineTuneJob and play its pods until its status says Running; return its path."""
    path = FINETUNE_JOBS.format(NAMESPACE)
    created = await api.create(path, finetune_job(name))
    await pods.created(f"{name}-train-1")
    progress.training(created["metadata"]["uid"], attempt=1)
    await run_pods(api, pods, f"{name}-train-1", progress.address)
    await until_phase(api, f"{path}/{name}", "Running")
    return f"{path}/{name}"


async def until_phase(api: Api, path: str, phase: str, seconds: float = 60) -> None:
    """Poll the status under the benchmark's own account."""
    deadline = time.monotonic() + seconds
    while ((await api.request("GET", path)).get("status") or {}).get("phase") != phase:
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path} did not become {phase} within {seconds:g} s")
        await asyncio.sleep(0.1)


def memory_figures(cluster: ControlPlane) -> list[Figure]:
    """Measure the resident memory of the idle operator and of bare kopf processes, each alone."""
    kubeconfig = str(cluster.kubeconfig)
    script = str(Path(__file__).with_name("bare_kopf.py"))
    log = cluster.folder / "logs" / "bare-kopf.log"
    with process([sys.executable, script, kubeconfig], {}, log) as pid:
        bare = idle_mebibytes(pid)
    with process([sys.executable, script, kubeconfig, "typed"], {}, log) as pid:
        typed = idle_mebibytes(pid)
    with operator(cluster) as pid:
        ours = idle_mebibytes(pid)
    return [
        Figure("over kopf + kubernetes.aio", f"{bare:.1f} MiB", f"{ours:.1f} MiB", ours - bare, 25, "MiB"),
        Figure("over kopf + its typed API classes", f"{typed:.1f} MiB", f"{ours:.1f} MiB", ours - typed, None, "MiB"),
    ]


def idle_mebibytes(pid: int) -> float:
    """Return the MiB of an idle process, measured after its start has settled."""
    time.sleep(SETTLE_SECONDS)
    resident: int = psutil.Process(pid).memory_info().rss
    return resident / 2**20
