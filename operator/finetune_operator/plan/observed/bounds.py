"""Bounds on the answers and records of pods: how many values are taken, how long, between which limits. Pure.

An honest pod never comes near. Where a pod exceeds them, values that fit are used, the others are cut or left out, and one of
the job's messages tells of it. So a status can always be written, whatever a pod says.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from finetune_operator.api.resource import FineTuneJob
from finetune_trainer.contract.prepared import PrepareSummary, Resolved, TokenLengths
from finetune_trainer.contract.records import CheckpointRef, Failure, Progress, PublishedModel, ResultRecord
from finetune_trainer.contract.text import printable

ANSWER_MAX_BYTES = 256 * 2**10
"""Size of an answer to `/progress`: the result records of a gang of a thousand nodes fit."""
NUMBER_MAX = 2**53
"""Highest number of steps or rows; beyond it JSON numbers of many readers are not exact."""
EXIT_CODE_MAX = 2**31 - 1
METRICS_MAX = 128
NAME_MAX = 128
MESSAGES_MAX = 32
MESSAGE_MAX = 1024
FAILURE_MAX = 2048
PATH_MAX = 1024
REVISION_MAX = 200
LABELS_MAX = 1024
RANKS_OF_NODE_MAX = 64
"""Ranks of a node, at most, where the spec leaves their number to the node's devices."""
CLOCK_SKEW = timedelta(minutes=5)
"""Time by which a machine's clock may be ahead of ours."""
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass
class _Limits:
    """Limits on one answer, applied value by value; they remember the fields of which something was left out."""

    nodes: int
    ranks: int
    """Ranks of the whole job."""
    now: datetime
    exceeded: set[str] = field(default_factory=set)
    """Fields of which something was left out."""

    def integer(self, name: str, value: int | None, most: int = NUMBER_MAX, least: int = 0) -> int | None:
        if value is None or least <= value <= most:
            return value
        self.exceeded.add(name)
        return None

    def number(self, name: str, value: float | None) -> float | None:
        """Return the number; null where it is not finite: an honest value that JSON can't carry."""
        if value is None or not math.isfinite(value):
            return None
        return value

    def time(self, name: str, value: datetime | None) -> datetime | None:
        if value is None:
            return None
        aware = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
        if EARLIEST <= aware <= self.now + CLOCK_SKEW:
            return aware
        self.exceeded.add(name)
        return None

    def text(self, name: str, value: str, most: int, *, lines: bool = False) -> str:
        kept = printable(value, most, lines=lines)
        if len(value) > most:
            self.exceeded.add(name)
        return kept

    def optional(self, name: str, value: str | None, most: int) -> str | None:
        return self.text(name, value, most) if value is not None else None

    def path(self, name: str, value: str | None) -> str | None:
        """Return the path; None where it is too long: one that is cut is another path."""
        if value is None or printable(value, PATH_MAX) == value:
            return value
        self.exceeded.add(name)
        return None

    def texts(self, name: str, values: tuple[str, ...], most: int, length: int) -> tuple[str, ...]:
        if len(values) > most:
            self.exceeded.add(name)
        return tuple(self.text(name, value, length) for value in values[:most])

    def metrics(self, name: str, values: Mapping[str, float] | None) -> dict[str, float] | None:
        if values is None:
            return None
        fitting = {
            key: value
            for key, value in values.items()
            if key and printable(key, NAME_MAX) == key and math.isfinite(value)
        }
        kept = dict(list(fitting.items())[:METRICS_MAX])
        if len(kept) < sum(math.isfinite(value) for value in values.values()):
            self.exceeded.add(name)
        return kept


def progress(answer: Progress, job: FineTuneJob, now: datetime) -> Progress:
    """Return node 0's answer within its bounds."""
    limits = _limits(job, now)
    kept = answer.model_copy(
        update={
            "uid": printable(answer.uid, NAME_MAX),
            "attempt": limits.integer("attempt", answer.attempt) or 0,
            "begun": limits.time("begun", answer.begun),
            "waiting_for": limits.optional("waitingFor", answer.waiting_for, NAME_MAX),
            "step": limits.integer("step", answer.step),
            "total_steps": limits.integer("totalSteps", answer.total_steps),
            "epoch": limits.number("epoch", answer.epoch),
            "loss": limits.number("loss", answer.loss),
            "learning_rate": limits.number("learningRate", answer.learning_rate),
            "samples_per_second": limits.number("samplesPerSecond", answer.samples_per_second),
            "eta_seconds": _eta(limits, answer.eta_seconds),
            "updated": limits.time("updated", answer.updated),
            "evaluation": limits.metrics("evaluation", answer.evaluation),
            "checkpoint": _checkpoint(limits, answer.checkpoint),
            "resumed_from": _checkpoint(limits, answer.resumed_from),
            "model_path": limits.path("modelPath", answer.model_path),
            "resolved": _resolved(limits, answer.resolved),
            "prepared": _prepared(limits, answer.prepared),
            "earlier": _earlier(limits, answer.earlier),
        }
    )
    return kept.model_copy(update={"messages": _messages(limits, answer.messages, "node 0")})


def record(result: ResultRecord, job: FineTuneJob, now: datetime) -> ResultRecord:
    """Return a result record within its bounds."""
    limits = _limits(job, now)
    kept = _record(limits, result)
    who = f"node {kept.node}" if kept.role == "train" else f"the {kept.role} pod"
    return kept.model_copy(update={"messages": _messages(limits, result.messages, who)})


def _limits(job: FineTuneJob, now: datetime) -> _Limits:
    return _Limits(job.spec.nodes, job.spec.nodes * (job.spec.processes_per_node or RANKS_OF_NODE_MAX), now)


def _record(limits: _Limits, record: ResultRecord) -> ResultRecord:
    finished = limits.time("finished", record.finished) or limits.now
    return record.model_copy(
        update={
            "uid": printable(record.uid, NAME_MAX),
            "attempt": limits.integer("attempt", record.attempt) or 0,
            "node": limits.integer("node", record.node, limits.nodes - 1) or 0,
            "failure": _failure(limits, record.failure),
            "started": limits.time("started", record.started) or finished,
            "finished": finished,
            "step": limits.integer("step", record.step),
            "checkpoint": _checkpoint(limits, record.checkpoint),
            "model_path": limits.path("modelPath", record.model_path),
            "evaluation": limits.metrics("evaluation", record.evaluation),
            "resolved": _resolved(limits, record.resolved),
            "hub": _hub(limits, record.hub),
            "prepared": _prepared(limits, record.prepared),
            "messages": (),
        }
    )


def _messages(limits: _Limits, messages: tuple[str, ...], who: str) -> tuple[str, ...]:
    """Return the newest messages, and at the end one that names the fields of this pod's answer that exceeded their limits."""
    if len(messages) > MESSAGES_MAX:
        limits.exceeded.add("messages")
    kept = tuple(limits.text("messages", message, MESSAGE_MAX) for message in messages[-MESSAGES_MAX:])
    if not limits.exceeded:
        return kept
    return (
        *kept[-MESSAGES_MAX + 1 :],
        f"{who} said more than is taken: {', '.join(sorted(limits.exceeded))}; the rest is used",
    )


def _earlier(limits: _Limits, records: Iterable[ResultRecord]) -> tuple[ResultRecord, ...]:
    """Return one record of each node."""
    by_node: dict[int, ResultRecord] = {}
    for record in records:
        if 0 <= record.node < limits.nodes and record.role == "train":
            by_node.setdefault(record.node, _record(limits, record))
    return tuple(by_node.values())


def _eta(limits: _Limits, value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    if 0 <= value <= NUMBER_MAX:
        return value
    limits.exceeded.add("etaSeconds")
    return None


def _checkpoint(limits: _Limits, checkpoint: CheckpointRef | None) -> CheckpointRef | None:
    """Return the checkpoint as a whole or not at all: a step without its path misleads."""
    if checkpoint is None:
        return None
    step, path = limits.integer("checkpoint", checkpoint.step), limits.path("checkpoint", checkpoint.path)
    time, attempt = limits.time("checkpoint", checkpoint.time), limits.integer("checkpoint", checkpoint.attempt)
    if step is None or path is None or time is None or attempt is None:
        return None
    return checkpoint.model_copy(update={"time": time})


def _failure(limits: _Limits, failure: Failure | None) -> Failure | None:
    if failure is None:
        return None
    return failure.model_copy(
        update={
            "message": limits.text("failure", failure.message, FAILURE_MAX, lines=True),
            "node": limits.integer("failure", failure.node, limits.nodes - 1),
            "rank": limits.integer("failure", failure.rank, limits.ranks - 1),
            "exit_code": limits.integer("failure", failure.exit_code, EXIT_CODE_MAX, -EXIT_CODE_MAX),
            "signal": limits.integer("failure", failure.signal, 128),
        }
    )


def _resolved(limits: _Limits, resolved: Resolved | None) -> Resolved | None:
    if resolved is None:
        return None
    names = ("model_revision", "dataset_revision", "precision")
    return resolved.model_copy(
        update={name: limits.optional("resolved", getattr(resolved, name), REVISION_MAX) for name in names}
    )


def _hub(limits: _Limits, model: PublishedModel | None) -> PublishedModel | None:
    """Return the published model; None where its URL, which is shown to people, is no web address."""
    if model is None:
        return None
    if not model.url.startswith(("https://", "http://")) or printable(model.url, PATH_MAX) != model.url:
        limits.exceeded.add("hub")
        return None
    repo_id, commit = (limits.text("hub", text, REVISION_MAX) for text in (model.repo_id, model.commit))
    return model.model_copy(update={"repo_id": repo_id, "commit": commit})


def _prepared(limits: _Limits, summary: PrepareSummary | None) -> PrepareSummary | None:
    if summary is None:
        return None
    lengths = summary.token_lengths
    if lengths is not None:
        figures = [limits.integer("prepared", value) for value in (lengths.median, lengths.p95, lengths.longest)]
        median, p95, longest = (figure or 0 for figure in figures)
        lengths = TokenLengths(median=median, p95=p95, longest=longest)
    return summary.model_copy(
        update={
            "train_rows": limits.integer("prepared", summary.train_rows) or 0,
            "validation_rows": limits.integer("prepared", summary.validation_rows),
            "test_rows": limits.integer("prepared", summary.test_rows),
            "dropped_rows": limits.integer("prepared", summary.dropped_rows) or 0,
            "truncated_share": limits.number("prepared", summary.truncated_share),
            "token_lengths": lengths,
            "labels": limits.texts("prepared", summary.labels, LABELS_MAX, NAME_MAX),
            "majority_share": limits.number("prepared", summary.majority_share),
        }
    )
