"""The progress of the attempt: takes reports, and answers with `records.Progress`.

It has no clock and no I/O of its own: times come in, documents go out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from finetune_trainer.contract.frozen_document import PodPath, left_out
from finetune_trainer.contract.launch_protocol import RankProgress
from finetune_trainer.contract.prepared import Prepared, PrepareSummary, Resolved
from finetune_trainer.contract.records import CheckpointRef, PodPhase, Progress, ResultRecord
from finetune_trainer.contract.text import printable

MESSAGES_MAX = 32
MESSAGE_MAX = 1024
LABELS_MAX_CHARACTERS = 32 * 2**10
"""Characters of all names of labels together. More are left out: the operator limits the length of an answer."""


class KubeflowMetric(BaseModel):
    """A metric, with its value as text."""

    name: str
    value: str


class _TrainerStatus(BaseModel):
    model_config = ConfigDict(extra="ignore")

    metrics: tuple[KubeflowMetric, ...] = ()


class KubeflowStatus(BaseModel):
    """The body that transformers' own `KubeflowCallback` posts. Its estimate of time is not read, because it is wrong after a
    resume.
    """

    model_config = ConfigDict(extra="ignore")

    trainerStatus: _TrainerStatus = _TrainerStatus()  # noqa: N815 - the protocol's name

    def as_report(self) -> RankProgress:
        """Return the status as a report of our own, without values that are no numbers; its message names those not finite."""
        figures: dict[str, float] = {}
        for metric in self.trainerStatus.metrics:
            try:
                figures[metric.name] = float(metric.value)
            except ValueError:
                continue
        message = left_out("What was reported last", figures)
        figures = {name: value for name, value in figures.items() if math.isfinite(value)}
        whole = {name: int(figures[name]) for name in ("current_step", "total_steps") if name in figures}
        return RankProgress(
            phase=PodPhase.TRAINING,
            step=whole.get("current_step"),
            total_steps=whole.get("total_steps"),
            epoch=figures.get("epoch"),
            loss=figures.get("loss"),
            learning_rate=figures.get("learning_rate"),
            grad_norm=figures.get("grad_norm"),
            evaluation={name: value for name, value in figures.items() if name.startswith("eval_")} or None,
            messages=(message,) if message is not None else (),
        )


class ProgressState:
    """The newest values of everything that was reported."""

    def __init__(self, uid: str, attempt: int) -> None:
        self._identity = {"uid": uid, "attempt": attempt}
        self.phase = PodPhase.WAITING
        self.begun: datetime | None = None
        self.waiting_for: str | None = None
        """Nodes that have not come."""
        self.checkpoint: CheckpointRef | None = None
        self.resumed_from: CheckpointRef | None = None
        self.model_path: PodPath | None = None
        self.prepared: Prepared | None = None
        self.earlier: tuple[ResultRecord, ...] = ()
        self._values = RankProgress()
        self._messages: dict[str, None] = {}
        self._updated: datetime | None = None
        self._first: tuple[int, datetime] | None = None
        self._detailed = False
        self._posted = False

    @property
    def step(self) -> int | None:
        return self._values.step

    @property
    def evaluation(self) -> dict[str, float] | None:
        return self._values.evaluation

    @property
    def messages(self) -> tuple[str, ...]:
        return tuple(self._messages)

    @property
    def resolved(self) -> Resolved | None:
        """Revisions from prepare, precision from the ranks."""
        base = self.prepared.resolved if self.prepared else Resolved()
        resolved = base.model_copy(update={"precision": self._values.precision or base.precision})
        return resolved if resolved != Resolved() else None

    def say(self, messages: Iterable[str]) -> None:
        """Keep messages for the user, each once, the newest `MESSAGES_MAX`."""
        for message in messages:
            shown = printable(message, MESSAGE_MAX)
            self._messages.pop(shown, None)
            self._messages[shown] = None
        while len(self._messages) > MESSAGES_MAX:
            del self._messages[next(iter(self._messages))]

    def absorb(self, report: RankProgress, now: datetime) -> None:
        """Take a report of our own rank 0."""
        self._detailed = True
        self._take(report, now)

    def absorb_kubeflow(self, status: KubeflowStatus, now: datetime) -> RankProgress | None:
        """Take a report of the stock callback, unless our own reports have more detail."""
        if self._detailed:
            return None
        self._posted = True
        report = status.as_report()
        self._take(report, now)
        return report

    def absorb_printed(self, report: RankProgress, now: datetime) -> bool:
        """Take what a line of the log tells, unless the program reports by itself. Return whether it was taken."""
        if self._detailed or self._posted:
            return False
        self._take(report, now)
        return True

    def _take(self, report: RankProgress, now: datetime) -> None:
        values = {name: value for name in report.model_fields_set if (value := getattr(report, name)) is not None}
        self._values = self._values.model_copy(update=values)
        self._updated = now
        self.say(report.messages)
        if report.phase is not None:
            self.phase = report.phase
        if report.step is not None and self._first is None and self.phase is PodPhase.TRAINING:
            self._first = report.step, now

    def prepared_as(self, prepared: Prepared) -> None:
        self.prepared = prepared
        self.say(prepared.messages)

    def _eta_seconds(self) -> float | None:
        """Estimate the time for the remaining steps from the rate since this attempt's first report, without the steps before
        a resume.
        """
        step, total = self._values.step, self._values.total_steps
        if step is None or total is None or self._first is None or self._updated is None:
            return None
        first_step, first_time = self._first
        if step <= first_step:
            return None
        return max(0, total - step) * (self._updated - first_time).total_seconds() / (step - first_step)

    def document(self) -> Progress:
        """Return the document that /progress answers."""
        values = self._values
        return Progress(
            **self._identity,
            begun=self.begun,
            waiting_for=self.waiting_for,
            phase=self.phase,
            step=values.step,
            total_steps=values.total_steps,
            epoch=values.epoch,
            loss=values.loss,
            learning_rate=values.learning_rate,
            samples_per_second=values.samples_per_second,
            eta_seconds=self._eta_seconds(),
            updated=self._updated,
            evaluation=values.evaluation,
            checkpoint=self.checkpoint,
            resumed_from=self.resumed_from,
            model_path=self.model_path,
            resolved=self.resolved,
            prepared=_short(self.prepared.summary) if self.prepared and self.prepared.summary else None,
            messages=self.messages,
            earlier=self.earlier,
        )


def _short(summary: PrepareSummary) -> PrepareSummary:
    characters = sum(len(label) for label in summary.labels)
    return summary if characters <= LABELS_MAX_CHARACTERS else summary.model_copy(update={"labels": ()})
