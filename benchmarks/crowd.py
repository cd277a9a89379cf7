"""A hundred jobs at once, until the last pod of each runs, on nodes that KWOK plays; and the requests of all clients for them.

The baseline for time is a script that POSTs a hundred bare Indexed Jobs of two pods; the one for requests is a script
that POSTs the very children that the operator makes. Both are measured twice: with the limits on requests that Kubernetes'
controllers have by default, where everybody waits for the Job controller, and without limits, where the work itself shows.
The pods of one crowd still run when the next is created: FineTuneJobs come last.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from benchmarks import fake_nodes
from benchmarks.api import CONFIG_MAPS, FINETUNE_JOBS, JOBS, SERVICES, Api, Manifest, Pods
from benchmarks.cluster import NAMESPACE, QuickControlPlane, control_plane, operator, requests_of
from benchmarks.common import Figure, Table, percentile, spread
from benchmarks.control_plane import view
from benchmarks.workloads import bare_job, finetune_job, same_children
from tests.support.cluster.control_plane import ControlPlane

JOBS_AT_ONCE = 100
NODES = 10
PATIENCE_SECONDS = 300
QUIET_SECONDS = 4
"""Time without a request about the namespace after which the work on a crowd is done."""
PATHS = {"FineTuneJob": FINETUNE_JOBS, "Job": JOBS, "ConfigMap": CONFIG_MAPS, "Service": SERVICES}


@dataclass(frozen=True)
class Outcome:
    """The measurements of one crowd."""

    seconds: list[float]
    """Seconds from the first POST until the last pod of each job ran."""
    requests: Counter[str]
    """Requests, `user verb resource` -> count, of all clients, watches left out."""

    @property
    def per_job(self) -> float:
        return self.requests.total() / len(self.seconds)


def main(jobs: int = JOBS_AT_ONCE) -> tuple[Table, ...]:
    """Run both benchmarks."""
    with control_plane(ControlPlane) as cluster:
        limited = _table("limits as Kubernetes has them", *crowds(cluster, jobs))
    with control_plane(QuickControlPlane) as cluster:
        return limited, _table("controllers without limits", *crowds(cluster, jobs))


def crowds(cluster: ControlPlane, jobs: int) -> tuple[Outcome, Outcome, Outcome]:
    """Measure bare Jobs, the same children by a script, and FineTuneJobs."""
    fake_nodes.start(cluster, NODES)
    by_script = asyncio.run(_by_script(cluster, jobs))
    with operator(cluster, progress_access="direct"):
        return *by_script, asyncio.run(_by_operator(cluster, jobs))


async def _by_script(cluster: ControlPlane, jobs: int) -> tuple[Outcome, Outcome]:
    async with view(cluster) as (api, pods):
        await _crowd(cluster, api, pods, "warm", 10, lambda name: ((bare_job(name),), name))
        bare = await _crowd(cluster, api, pods, "bare", jobs, lambda name: ((bare_job(name),), name))
        same = await _crowd(cluster, api, pods, "same", jobs, lambda name: (same_children(name), f"{name}-train-1"))
        return bare, same


async def _by_operator(cluster: ControlPlane, jobs: int) -> Outcome:
    async with view(cluster) as (api, pods):
        await _crowd(cluster, api, pods, "first", 10, lambda name: ((finetune_job(name),), f"{name}-train-1"))
        return await _crowd(cluster, api, pods, "ours", jobs, lambda name: ((finetune_job(name),), f"{name}-train-1"))


async def _crowd(
    cluster: ControlPlane,
    api: Api,
    pods: Pods,
    prefix: str,
    jobs: int,
    planned: Callable[[str], tuple[tuple[Manifest, ...], str]],
) -> Outcome:
    """Create all jobs at once and measure them. `planned` returns the objects of a name, and the name of its Job."""
    objects, names = zip(*(planned(f"{prefix}-{number}") for number in range(jobs)), strict=True)
    began, begin = time.monotonic(), datetime.now(UTC)
    all_objects = [manifest for manifests in objects for manifest in manifests]
    await asyncio.gather(*(api.create(PATHS[manifest["kind"]].format(NAMESPACE), manifest) for manifest in all_objects))
    await pods.until(lambda: all(len(pods.ran[name]) >= 2 for name in names), PATIENCE_SECONDS)
    seconds = [max(pods.ran[name]) - began for name in names]
    await _quiet(cluster, begin)
    return Outcome(seconds, requests_of(cluster, begin, datetime.now(UTC), namespace=NAMESPACE))


async def _quiet(cluster: ControlPlane, begin: datetime) -> None:
    """Wait until there was no request about the namespace for a while."""
    while True:
        now = datetime.now(UTC)
        await asyncio.sleep(QUIET_SECONDS)
        if not requests_of(cluster, now, datetime.now(UTC), namespace=NAMESPACE):
            return
        if (now - begin).total_seconds() > PATIENCE_SECONDS:
            raise TimeoutError("requests do not come to an end")


def _table(title: str, bare: Outcome, same: Outcome, ours: Outcome) -> Table:
    def p95(outcome: Outcome) -> float:
        return percentile(outcome.seconds, 0.95)

    times = [spread(outcome.seconds, "s", 1) for outcome in (bare, same, ours)]
    counts = [f"{outcome.per_job:.1f} a job" for outcome in (bare, same, ours)]
    return Table(
        f"{len(ours.seconds)} jobs at once, {title}",
        (
            Figure(
                "apply -> last pod running, p95 (median / p95); bare Jobs", times[0], times[2], p95(ours) / p95(bare), 2
            ),
            Figure("the same; same children by a script", times[1], times[2], p95(ours) / p95(same)),
            Figure("requests; same children by a script", counts[1], counts[2], ours.per_job / same.per_job, 1.15),
            Figure("requests; bare Jobs", counts[0], counts[2], ours.per_job / bare.per_job),
        ),
    )
