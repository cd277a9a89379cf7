"""A walk through the operator: an event of the watch, step by step, until it is a line of the job's status.

Read it from top to bottom. All is real but the API server, which is in memory.
"""

from __future__ import annotations

from typing import cast

from finetune_operator.controller.cache import JobCache, Key
from finetune_operator.controller.lookups import Lookups
from finetune_operator.controller.metrics import OperatorMetrics
from finetune_operator.controller.other_operators import OtherOperators
from finetune_operator.controller.progress_reader import ProgressReader
from finetune_operator.controller.reconciler import Reconciler
from finetune_operator.controller.workqueue import WorkQueue
from finetune_operator.kube.client import Cluster
from finetune_operator.plan.decide import decide
from finetune_operator.plan.types import Manifest
from tests.support.simulated import SETTINGS, SPEC
from tests.support.simulated_api import SimulatedApi


class Operator:
    """The parts of `__main__.run` that an event passes."""

    def __init__(self, api: SimulatedApi) -> None:
        cluster, progress = cast(Cluster, api), cast(ProgressReader, api)
        self.cache = JobCache()
        lookups = Lookups(cluster, self.cache, progress, lambda key: self.queue.wake(key))
        others = OtherOperators(cluster, own_lease="")
        metrics = OperatorMetrics(lambda: len(self.queue), lambda: (), lambda: 0)
        reconciler = Reconciler(
            cluster, self.cache, lookups, others, SETTINGS, decide, metrics, lambda key: self.queue.wake(key)
        )
        self.queue = WorkQueue(reconciler.reconcile, concurrency=2)
        self.queue.start()

    def watch_shows(self, item: Manifest) -> None:
        """What `controller/watch.py` does with every event: the cache takes it in, and a key with news is woken."""
        key = self.cache.observe(item, deleted=False)
        if key is not None:
            self.queue.wake(key)


async def test_walk_event_to_status() -> None:
    # Somebody has applied a job for two nodes, with an existing claim. The watch shows it: the cache has an entry, its key waits.
    api = SimulatedApi(SPEC, claims=("shared",))
    operator = Operator(api)
    operator.watch_shows(api.job)
    assert [entry.key for entry in operator.cache] == [Key("team", "reviews")]

    # A worker of the queue reconciles the key: `decide` gets all that was observed, and says what comes next. It names no claim
    # that it has not seen: the claim is looked up, and it decides again. The pods' Job goes out before what the pods only name.
    await api.until_phase("Starting")
    children = ["create Job", "create ConfigMap", "create Service"]
    assert api.requests[:4] == ["get PersistentVolumeClaim", *children]

    # Events for people come before the status that they tell of, so that a kill between the two loses none.
    assert api.requests[-2:] == ["create Event", "replace status Starting"]

    # Our own write comes back by the watch. It is known already: nobody is woken.
    assert operator.cache.observe(api.job, deleted=False) is None

    # The cluster's Job controller has made the pods, and kubelet starts them. Each is an event, labelled with the job's name.
    api.cluster.run(1)
    api.cluster.tell(1, step=120, total_steps=375)  # what node 0 answers at /progress
    for pod in api.pods():
        operator.watch_shows(pod)

    # A running pod may be asked: the decision wants progress, the next one reads it, and the status is a function of both.
    await api.until_phase("Running")
    assert "read progress" in api.requests
    assert api.job["status"]["attempt"] == 1
    assert api.job["status"]["summary"]["steps"] == "120/375"
    await operator.queue.stop(grace_seconds=0)
