"""The metrics of a training pod. Names and labels are part of the system's contract with its dashboards."""

from __future__ import annotations

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from finetune_trainer.contract.launch_protocol import RankProgress
from finetune_trainer.contract.records import PodPhase

_STEP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 150)
_SAVE_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)


class AttemptMetrics:
    """The metrics of an attempt, in a registry of their own, so that nothing else in the process adds to it."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        gauge = partial(Gauge, registry=self.registry)
        self.global_step = gauge("finetune_global_step", "Optimizer steps completed, those before a resume included")
        self.max_steps = gauge("finetune_max_steps", "Optimizer steps of the whole training")
        self.train_loss = gauge("finetune_train_loss", "Training loss as logged last")
        self.learning_rate = gauge("finetune_learning_rate", "Learning rate as logged last")
        self.grad_norm = gauge("finetune_grad_norm", "Gradient norm as logged last")
        self.loss_scale = gauge("finetune_loss_scale", "Scale of the fp16 gradient scaler")
        self.last_step_time = gauge("finetune_last_step_timestamp_seconds", "When the last step was completed")
        self.last_checkpoint_time = gauge(
            "finetune_checkpoint_last_success_timestamp_seconds", "When a checkpoint was sealed last"
        )
        self.free_bytes = gauge("finetune_output_free_bytes", "Free space of the output volume")
        self.evaluation = Gauge(
            "finetune_eval_metric", "Metric of the newest evaluation", ["metric"], registry=self.registry
        )
        self.phase = Gauge(
            "finetune_phase", "1 for the present phase of the attempt, else 0", ["phase"], registry=self.registry
        )
        self.tokens = Counter("finetune_train_tokens", "Tokens trained on in this attempt", registry=self.registry)
        self.samples = Counter(
            "finetune_train_samples", "Rows of the dataset trained on in this attempt", registry=self.registry
        )
        self.step_seconds = Histogram(
            "finetune_step_duration_seconds",
            "Duration of optimizer steps",
            registry=self.registry,
            buckets=_STEP_SECONDS,
        )
        self.checkpoint_seconds = Histogram(
            "finetune_checkpoint_duration_seconds",
            "Parts of sealing a checkpoint: place (digest, fsync, move), seal (manifest to rename), rotate",
            ["stage"],
            registry=self.registry,
            buckets=_SAVE_SECONDS,
        )
        self.checkpoint_failures = Counter(
            "finetune_checkpoint_failures", "Checkpoints that were given up", ["reason"], registry=self.registry
        )
        self._totals = {self.tokens: 0, self.samples: 0}

    def set_phase(self, phase: PodPhase) -> None:
        for each in PodPhase:
            self.phase.labels(phase=each.value).set(each is phase)

    def absorb(self, report: RankProgress, now: float) -> None:
        """Take the values of a report of rank 0; `now` is in seconds since the epoch."""
        values = {
            self.global_step: report.step,
            self.max_steps: report.total_steps,
            self.train_loss: report.loss,
            self.learning_rate: report.learning_rate,
            self.grad_norm: report.grad_norm,
            self.loss_scale: report.loss_scale,
        }
        for gauge, value in values.items():
            if value is not None:
                gauge.set(value)
        if report.step_seconds:
            self.last_step_time.set(now)
        for seconds in report.step_seconds:
            self.step_seconds.observe(seconds)
        for name, figure in (report.evaluation or {}).items():
            self.evaluation.labels(metric=name).set(figure)
        for counter, total in ((self.tokens, report.tokens_total), (self.samples, report.samples_total)):
            if total is not None:
                counter.inc(max(0, total - self._totals[counter]))
                self._totals[counter] = max(total, self._totals[counter])

    def exposition(self) -> bytes:
        """Return the text that /metrics answers."""
        return generate_latest(self.registry)
