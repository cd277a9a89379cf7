"""The time from the failure of a pod to the pods of the next gang.

On a control plane without nodes. The baseline is a script that watches the pods of its Job, and on the first failure
deletes the Job and creates the next one. Both clocks start when a watch of the benchmark shows the failure.
"""

from __future__ import annotations

import asyncio
from statistics import median

from benchmarks.api import JOBS, Api, Pods
from benchmarks.cluster import NAMESPACE, control_plane, operator
from benchmarks.common import Figure, Table, percentile, spread
from benchmarks.control_plane import remove, train, view
from benchmarks.kubelet import Progress, fail_pod, run_pods
from benchmarks.workloads import bare_job
from tests.support.cluster.control_plane import ControlPlane

REPEATS = 30


def main(repeats: int = REPEATS) -> tuple[Table, ...]:
    """Run the benchmark."""
    with control_plane() as cluster, operator(cluster, progress_access="direct"):
        script, ours = asyncio.run(recoveries(cluster, repeats))
    figures = (
        Figure("median", spread(script), spread(ours), median(ours) / median(script), 6),
        Figure("p95", spread(script), spread(ours), percentile(ours, 0.95) / percentile(script, 0.95), 6),
    )
    return (Table("a pod fails -> 2 new pods created (median / p95)", figures, ("script", "operator")),)


async def recoveries(cluster: ControlPlane, repeats: int) -> tuple[list[float], list[float]]:
    """Measure seconds from the failure to the second new pod: by the script, and by the operator."""
    script: list[float] = []
    ours: list[float] = []
    async with view(cluster) as (api, pods), Progress.serve() as progress:
        for number in range(-1, repeats):
            by_script = await recover_by_script(api, pods, f"bare-{number + 1}", progress.address)
            by_operator = await recover(api, pods, f"ours-{number + 1}", progress)
            if number >= 0:
                script.append(by_script)
                ours.append(by_operator)
    return script, ours


async def recover(api: Api, pods: Pods, name: str, progress: Progress) -> float:
    """Fail one of the pods of a FineTuneJob that trains; return the seconds to the new pods."""
    path = await train(api, pods, progress, name)
    uid = await fail_pod(api, pods, f"{name}-train-1", index=1)
    seconds = await pods.created(f"{name}-train-2") - pods.failed[uid]
    await remove(api, pods, path, f"{name}-train-2")
    return seconds


async def recover_by_script(api: Api, pods: Pods, name: str, address: str) -> float:
    """Fail one of the pods of a bare Job, which a script replaces; return the seconds to the new pods."""
    path = JOBS.format(NAMESPACE)
    first, second = f"{name}-1", f"{name}-2"
    await api.create(path, bare_job(first))
    await pods.created(first)
    await run_pods(api, pods, first, address)
    script = asyncio.create_task(replace(api, pods, first, second))
    uid = await fail_pod(api, pods, first, index=1)
    seconds = await pods.created(second) - pods.failed[uid]
    await script
    await remove(api, pods, f"{path}/{second}", second)
    return seconds


async def replace(api: Api, pods: Pods, first: str, second: str) -> None:
    """Act as the script does: on a failure, delete the Job and create the next."""
    await pods.until(lambda: any(pod["status"].get("phase") == "Failed" for pod in pods.of(first)))
    await api.delete(f"{JOBS.format(NAMESPACE)}/{first}")
    await api.create(JOBS.format(NAMESPACE), bare_job(second))
