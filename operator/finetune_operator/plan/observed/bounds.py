"""Bounds of what a pod says: how much of it is taken, how long, between which values. Pure.

An honest pod never comes near. Of one that goes beyond, what fits is used; what does not is cut or left out, and that is told
among the job's messages. So a status can always be written, whatever a pod says.
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
"""Ranks of a node, at most, where the spec leaves their number to what the node has."""
CLOCK_SKEW = timedelta(minutes=5)
"""Time by which a machine's clock may be ahead of ours."""
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass
class _Limits:
    """Limits of one answer: takes values one by one, and remembers the fields of which something was left out."""

    nodes: int
    ranks: int
    """Ranks of the whole job."""
    now: datetime
    beyond: set[str] = field(default_factory=set)

    def whole(self, name: str, value: int | None, most: int = NUMBER_MAX, least: int = 0) -> int | None:
        if value is None or least <= value <= most:
            return value
        self.beyond.add(name)
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
        self.beyond.add(name)
        return None

    def text(self, name: str, value: str, most: int, *, lines: bool = False) -> str:
        kept = printable(value, most, lines=lines)
        if len(value) > most:
            self.beyond.add(name)
        return kept

    def optional(self, name: str, value: str | None, most: int) -> str | None:
        return self.text(name, value, most) if value is not None else None

    def path(self, name: str, value: str | None) -> str | None:
        """Return the path; None where it is too long: one that is cut is another path."""
        if value is None or printable(value, PATH_MAX) == value:
            return value
        self.beyond.add(name)
        return None

    def few(self, name: str, values: tuple[str, ...], most: int, length: int) -> tuple[str, ...]:
        if len(values) > most:
            self.beyond.add(name)
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
            self.beyond.add(name)
        return kept


def progress(answer: Progress, job: FineTuneJob, now: datetime) -> Progress:
    """Return what is taken of node 0's answer."""
    take = _limits(job, now)
    kept = answer.model_copy(
        update={
            "uid": printable(answer.uid, NAME_MAX),
            "attempt": take.whole("attempt", answer.attempt) or 0,
            "begun": take.time("begun", answer.begun),
            "waiting_for": take.optional("waitingFor", answer.waiting_for, NAME_MAX),
            "step": take.whole("step", answer.step),
            "total_steps": take.whole("totalSteps", answer.total_steps),
            "epoch": take.number("epoch", answer.epoch),
            "loss": take.number("loss", answer.loss),
            "learning_rate": take.number("learningRate", answer.learning_rate),
            "samples_per_second": take.number("samplesPerSecond", answer.samples_per_second),
            "eta_seconds": _eta(take, answer.eta_seconds),
            "updated": take.time("updated", answer.updated),
            "evaluation": take.metrics("evaluation", answer.evaluation),
            "checkpoint": _checkpoint(take, answer.checkpoint),
            "resumed_from": _checkpoint(take, answer.resumed_from),
            "model_path": take.path("modelPath", answer.model_path),
            "resolved": _resolved(take, answer.resolved),
            "prepared": _prepared(take, answer.prepared),
            "earlier": _earlier(take, answer.earlier),
        }
    )
    return kept.model_copy(update={"messages": _messages(take, answer.messages, "node 0")})


def record(result: ResultRecord, job: FineTuneJob, now: datetime) -> ResultRecord:
    """Return what is taken of a result record."""
    take = _limits(job, now)
    kept = _record(take, result)
    who = f"node {kept.node}" if kept.role == "train" else f"the {kept.role} pod"
    return kept.model_copy(update={"messages": _messages(take, result.messages, who)})


def _limits(job: FineTuneJob, now: datetime) -> _Limits:
    return _Limits(job.spec.nodes, job.spec.nodes * (job.spec.processes_per_node or RANKS_OF_NODE_MAX), now)


def _record(take: _Limits, record: ResultRecord) -> ResultRecord:
    finished = take.time("finished", record.finished) or take.now
    return record.model_copy(
        update={
            "uid": printable(record.uid, NAME_MAX),
            "attempt": take.whole("attempt", record.attempt) or 0,
            "node": take.whole("node", record.node, take.nodes - 1) or 0,
            "failure": _failure(take, record.failure),
            "started": take.time("started", record.started) or finished,
            "finished": finished,
            "step": take.whole("step", record.step),
            "checkpoint": _checkpoint(take, record.checkpoint),
            "model_path": take.path("modelPath", record.model_path),
            "evaluation": take.metrics("evaluation", record.evaluation),
            "resolved": _resolved(take, record.resolved),
            "hub": _hub(take, record.hub),
            "prepared": _prepared(take, record.prepared),
            "messages": (),
        }
    )


def _messages(take: _Limits, messages: tuple[str, ...], who: str) -> tuple[str, ...]:
    """Return the newest messages, and at the end which fields of this pod's answer were left out."""
    if len(messages) > MESSAGES_MAX:
        take.beyond.add("messages")
    kept = tuple(take.text("messages", message, MESSAGE_MAX) for message in messages[-MESSAGES_MAX:])
    if not take.beyond:
        return kept
    return (
        *kept[-MESSAGES_MAX + 1 :],
        f"{who} said more than is taken: {', '.join(sorted(take.beyond))}; the rest is used",
    )


def _earlier(take: _Limits, records: Iterable[ResultRecord]) -> tuple[ResultRecord, ...]:
    """Return one record of each node."""
    by_node: dict[int, ResultRecord] = {}
    for record in records:
        if 0 <= record.node < take.nodes and record.role == "train":
            by_node.setdefault(record.node, _record(take, record))
    return tuple(by_node.values())


def _eta(take: _Limits, value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    if 0 <= value <= NUMBER_MAX:
        return value
    take.beyond.add("etaSeconds")
    return None


def _checkpoint(take: _Limits, checkpoint: CheckpointRef | None) -> CheckpointRef | None:
    """Return the checkpoint as a whole or not at all: a step without its path misleads."""
    if checkpoint is None:
        return None
    step, path = take.whole("checkpoint", checkpoint.step), take.path("checkpoint", checkpoint.path)
    time, attempt = take.time("checkpoint", checkpoint.time), take.whole("checkpoint", checkpoint.attempt)
    if step is None or path is None or time is None or attempt is None:
        return None
    return checkpoint.model_copy(update={"time": time})


def _failure(take: _Limits, failure: Failure | None) -> Failure | None:
    if failure is None:
        return None
    return failure.model_copy(
        update={
            "message": take.text("failure", failure.message, FAILURE_MAX, lines=True),
            "node": take.whole("failure", failure.node, take.nodes - 1),
            "rank": take.whole("failure", failure.rank, take.ranks - 1),
            "exit_code": take.whole("failure", failure.exit_code, EXIT_CODE_MAX, -EXIT_CODE_MAX),
            "signal": take.whole("failure", failure.signal, 128),
        }
    )


def _resolved(take: _Limits, resolved: Resolved | None) -> Resolved | None:
    if resolved is None:
        return None
    names = ("model_revision", "dataset_revision", "precision")
    return resolved.model_copy(
        update={name: take.optional("resolved", getattr(resolved, name), REVISION_MAX) for name in names}
    )


def _hub(take: _Limits, model: PublishedModel | None) -> PublishedModel | None:
    """Return where the model is. Its address is shown to people: one that is no web address is left out."""
    if model is None:
        return None
    if not model.url.startswith(("https://", "http://")) or printable(model.url, PATH_MAX) != model.url:
        take.beyond.add("hub")
        return None
    repo_id, commit = (take.text("hub", text, REVISION_MAX) for text in (model.repo_id, model.commit))
    return model.model_copy(update={"repo_id": repo_id, "commit": commit})


def _prepared(take: _Limits, summary: PrepareSummary | None) -> PrepareSummary | None:
    if summary is None:
        return None
    lengths = summary.token_lengths
    if lengths is not None:
        figures = [take.whole("prepared", value) for value in (lengths.median, lengths.p95, lengths.longest)]
        median, p95, longest = (figure or 0 for figure in figures)
        lengths = TokenLengths(median=median, p95=p95, longest=longest)
    return summary.model_copy(
        update={
            "train_rows": take.whole("prepared", summary.train_rows) or 0,
            "validation_rows": take.whole("prepared", summary.validation_rows),
            "test_rows": take.whole("prepared", summary.test_rows),
            "dropped_rows": take.whole("prepared", summary.dropped_rows) or 0,
            "truncated_share": take.number("prepared", summary.truncated_share),
            "token_lengths": lengths,
            "labels": take.few("prepared", summary.labels, LABELS_MAX, NAME_MAX),
            "majority_share": take.number("prepared", summary.majority_share),
        }
    )
