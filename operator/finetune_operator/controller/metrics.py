"""The operator's own metrics, in the Prometheus format. Knows the phases of jobs, nothing of the cluster."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import version

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from finetune_operator.api.status import Phase
from finetune_operator.controller.accelerator_usage import Use
from finetune_operator.plan.types import Manifest

PREFIX = "finetune_operator"
LATENCY_BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
RECOVERY_BUCKETS = (1, 2.5, 5, 10, 15, 20, 30, 45, 60, 90, 120, 300, 600, 1800)

_ON_THE_WAY = frozenset({Phase.PREPARING, Phase.STARTING})


class OperatorMetrics:
    """All metrics of one operator."""

    def __init__(
        self,
        queue_depth: Callable[[], int],
        phases: Callable[[], Iterable[str]],
        jobs_of_others: Callable[[], int],
    ) -> None:
        self._failed_at: dict[str, float] = {}
        """Time at which the gang of a job failed, by uid, until the next one has begun."""
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.reconciles = Counter(f"{PREFIX}_reconcile", "Reconciles by result.", ["result"], registry=self.registry)
        self.reconcile_duration = Histogram(
            f"{PREFIX}_reconcile_duration_seconds",
            "Duration of one reconcile.",
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.wakeup_latency = Histogram(
            f"{PREFIX}_wakeup_latency_seconds",
            "Time from a wake-up of a job to the start of its reconcile.",
            buckets=LATENCY_BUCKETS,
            registry=self.registry,
        )
        self.restarts = Counter(
            f"{PREFIX}_job_restarts", "Restarts of gangs by cause.", ["reason"], registry=self.registry
        )
        self.accelerator_seconds = Counter(
            f"{PREFIX}_accelerator_seconds",
            "Seconds in which training attempts held accelerators, by use, counted once the use is known.",
            ["use"],
            registry=self.registry,
        )
        self.recovery_duration = Histogram(
            f"{PREFIX}_recovery_duration_seconds",
            "Time from the failure of a gang to the start of its next attempt.",
            buckets=RECOVERY_BUCKETS,
            registry=self.registry,
        )
        Gauge(f"{PREFIX}_queue_depth", "Jobs that wait for a worker.", registry=self.registry).set_function(queue_depth)
        Gauge(
            f"{PREFIX}_jobs_of_others",
            "Jobs that another operator serves, and that this one leaves alone.",
            registry=self.registry,
        ).set_function(jobs_of_others)
        self.leader = Gauge(f"{PREFIX}_leader", "1 where this operator leads.", registry=self.registry)
        self.namespace_served = Gauge(
            f"{PREFIX}_namespace_served",
            "1 where the namespace can be read, 0 where it is missing or forbidden; * is the whole cluster.",
            ["namespace"],
            registry=self.registry,
        )
        build = Gauge(f"{PREFIX}_build_info", "Always 1.", ["version"], registry=self.registry)
        build.labels(version("finetune-operator")).set(1)
        self.registry.register(_Phases(phases))
        for result in ("done", "unavailable", "error"):
            self.reconciles.labels(result)
        for use in Use:
            self.accelerator_seconds.labels(use)

    def status_written(self, uid: str, before: Manifest, after: Manifest, now: float) -> None:
        """Count what the change of a job's status shows. `now` is in seconds of any clock."""
        was, present = before.get("restarts") or {}, after.get("restarts") or {}
        for reason, count in present.items():
            if (more := count - was.get(reason, 0)) > 0:
                self.restarts.labels(reason).inc(more)
        phase = after.get("phase")
        if phase == Phase.RESTARTING:
            self._failed_at.setdefault(uid, now)
        elif phase not in _ON_THE_WAY:
            failed_at = self._failed_at.pop(uid, None)
            if failed_at is not None and phase == Phase.RUNNING:
                self.recovery_duration.observe(now - failed_at)


class _Phases(Collector):
    """A collector of jobs by phase, which counts them when it is asked."""

    def __init__(self, phases: Callable[[], Iterable[str]]) -> None:
        self._phases = phases

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily(f"{PREFIX}_jobs", "Jobs by phase.", labels=["phase"])
        tally = Tally(self._phases())
        for phase in Phase:
            family.add_metric([phase.value], tally.get(phase.value, 0))
        yield family
