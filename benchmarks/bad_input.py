"""The time from a mistake that only the cluster can show to the condition that names it.

One job after another is created, for every row of the table that the tests use, on a control plane without nodes. There is
no baseline: the documents promise two seconds.
"""

from __future__ import annotations

import time
from statistics import median

from benchmarks.cluster import NAMESPACE, control_plane, operator
from benchmarks.common import Figure, Table, percentile, spread
from tests.support.api import Api
from tests.support.bad_input.operator import ROWS
from tests.support.bad_input.operator_objects import CLAIM, SETUP, claim, delete_classes
from tests.support.bad_input.row import BadInput
from tests.support.cluster.control_plane import ControlPlane
from tests.support.jobs import condition, eventually, finetune_job

PROMISED_SECONDS = 2.0


def main(repeats: int = 1) -> tuple[Table, ...]:
    """Run the benchmark."""
    with control_plane() as cluster, operator(cluster):
        seconds = seconds_to_conditions(cluster, repeats)
    figures = (
        Figure("p95", "-", spread(seconds), percentile(seconds, 0.95), PROMISED_SECONDS, "s"),
        Figure("median", "-", spread(seconds), median(seconds), unit="s"),
        Figure(f"worst of {len(seconds)}", "-", "-", max(seconds), unit="s"),
    )
    return (Table("apply -> Validated=False (median / p95)", figures),)


def seconds_to_conditions(cluster: ControlPlane, repeats: int) -> list[float]:
    """Return the seconds from the creation of each job to its condition."""
    api = Api(cluster.kubeconfig, NAMESPACE)
    api.create(claim("shared"))
    for row in ROWS:
        if row.setup:
            SETUP[row.setup](api, row.name)
    eventually("the lost claim", lambda: ((api.get(CLAIM, "claim-lost") or {}).get("status") or {})["phase"] == "Lost")
    seconds = [_seconds_to_condition(api, row) for _ in range(repeats) for row in ROWS]
    delete_classes(api)
    return seconds


def _seconds_to_condition(api: Api, row: BadInput) -> float:
    api.create(finetune_job(row.name, **{"nodes": 1, **row.spec}))
    begun = time.monotonic()
    eventually("the condition", lambda: condition(api, "Validated", row.name).get("status") == "False")
    seconds = time.monotonic() - begun
    api.delete("FineTuneJob", row.name)
    eventually("its end", lambda: api.get("FineTuneJob", row.name) is None)
    return seconds
