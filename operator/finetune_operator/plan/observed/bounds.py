"""What is taken of what a pod says: how much, how long, between which values. Pure.

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
"""Of `/progress`: the result records of a gang of a thousand nodes fit."""
NUMBER_MAX = 2**53
"""Steps and rows; from here on JSON numbers of many readers are not exact."""
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
"""Where the spec leaves their number to what the node has."""
CLOCK_SKEW = timedelta(minutes=5)
"""By so much a machine's clock may be ahead of ours."""
EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)


@dataclass
class _Limits:
    """Takes values one by one, and remembers of which fields something was left out."""

    nodes: int
    ranks: int
    """Of the whole job."""
    now: datetime
    beyond: set[str] = field(default_factory=set)

    def whole(self, name: str, value: int | None, most: int = NUMBER_MAX, least: int = 0) -> int | None:
        if value is None or least <= value <= most:
            return value
        self.beyond.add(name)
        return None

    def number(self, name: str, value: float | None) -> float | None:
        """Not finite is an honest value that JSON can't carry: null, without a word."""
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
        """A path that is cut is another one: it is left out."""
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


def progress(said: Progress, job: FineTuneJob, now: datetime) -> Progress:
    """What is taken of node 0's answer."""
    take = _limits(job, now)
    kept = said.model_copy(
        update={
            "uid": printable(said.uid, NAME_MAX),
            "attempt": take.whole("attempt", said.attempt) or 0,
            "begun": take.time("begun", said.begun),
            "waiting_for": take.optional("waitingFor", said.waiting_for, NAME_MAX),
            "step": take.whole("step", said.step),
            "total_steps": take.whole("totalSteps", said.total_steps),
            "epoch": take.number("epoch", said.epoch),
            "loss": take.number("loss", said.loss),
            "learning_rate": take.number("learningRate", said.learning_rate),
            "samples_per_second": take.number("samplesPerSecond", said.samples_per_second),
            "eta_seconds": _eta(take, said.eta_seconds),
            "updated": take.time("updated", said.updated),
            "evaluation": take.metrics("evaluation", said.evaluation),
            "checkpoint": _checkpoint(take, said.checkpoint),
            "resumed_from": _checkpoint(take, said.resumed_from),
            "model_path": take.path("modelPath", said.model_path),
            "resolved": _resolved(take, said.resolved),
            "prepared": _prepared(take, said.prepared),
            "earlier": _earlier(take, said.earlier),
        }
    )
    return kept.model_copy(update={"messages": _messages(take, said.messages, "node 0")})


def record(said: ResultRecord, job: FineTuneJob, now: datetime) -> ResultRecord:
    """What is taken of a result record."""
    take = _limits(job, now)
    kept = _record(take, said)
    who = f"node {kept.node}" if kept.role == "train" else f"the {kept.role} pod"
    return kept.model_copy(update={"messages": _messages(take, said.messages, who)})


def _limits(job: FineTuneJob, now: datetime) -> _Limits:
    return _Limits(job.spec.nodes, job.spec.nodes * (job.spec.processes_per_node or RANKS_OF_NODE_MAX), now)


def _record(take: _Limits, said: ResultRecord) -> ResultRecord:
    finished = take.time("finished", said.finished) or take.now
    return said.model_copy(
        update={
            "uid": printable(said.uid, NAME_MAX),
            "attempt": take.whole("attempt", said.attempt) or 0,
            "node": take.whole("node", said.node, take.nodes - 1) or 0,
            "failure": _failure(take, said.failure),
            "started": take.time("started", said.started) or finished,
            "finished": finished,
            "step": take.whole("step", said.step),
            "checkpoint": _checkpoint(take, said.checkpoint),
            "model_path": take.path("modelPath", said.model_path),
            "evaluation": take.metrics("evaluation", said.evaluation),
            "resolved": _resolved(take, said.resolved),
            "hub": _hub(take, said.hub),
            "prepared": _prepared(take, said.prepared),
            "messages": (),
        }
    )


def _messages(take: _Limits, said: tuple[str, ...], who: str) -> tuple[str, ...]:
    """The newest ones, and at the end what was left out of all that this pod said."""
    if len(said) > MESSAGES_MAX:
        take.beyond.add("messages")
    kept = tuple(take.text("messages", message, MESSAGE_MAX) for message in said[-MESSAGES_MAX:])
    if not take.beyond:
        return kept
    return (
        *kept[-MESSAGES_MAX + 1 :],
        f"{who} said more than is taken: {', '.join(sorted(take.beyond))}; the rest is used",
    )


def _earlier(take: _Limits, said: Iterable[ResultRecord]) -> tuple[ResultRecord, ...]:
    """One of each node."""
    by_node: dict[int, ResultRecord] = {}
    for one in said:
        if 0 <= one.node < take.nodes and one.role == "train":
            by_node.setdefault(one.node, _record(take, one))
    return tuple(by_node.values())


def _eta(take: _Limits, value: float | None) -> float | None:
    if value is None or not math.isfinite(value):
        return None
    if 0 <= value <= NUMBER_MAX:
        return value
    take.beyond.add("etaSeconds")
    return None


def _checkpoint(take: _Limits, said: CheckpointRef | None) -> CheckpointRef | None:
    """As a whole or not at all: a step without its path misleads."""
    if said is None:
        return None
    step, path = take.whole("checkpoint", said.step), take.path("checkpoint", said.path)
    time, attempt = take.time("checkpoint", said.time), take.whole("checkpoint", said.attempt)
    if step is None or path is None or time is None or attempt is None:
        return None
    return said.model_copy(update={"time": time})


def _failure(take: _Limits, said: Failure | None) -> Failure | None:
    if said is None:
        return None
    return said.model_copy(
        update={
            "message": take.text("failure", said.message, FAILURE_MAX, lines=True),
            "node": take.whole("failure", said.node, take.nodes - 1),
            "rank": take.whole("failure", said.rank, take.ranks - 1),
            "exit_code": take.whole("failure", said.exit_code, EXIT_CODE_MAX, -EXIT_CODE_MAX),
            "signal": take.whole("failure", said.signal, 128),
        }
    )


def _resolved(take: _Limits, said: Resolved | None) -> Resolved | None:
    if said is None:
        return None
    names = ("model_revision", "dataset_revision", "precision")
    return said.model_copy(
        update={name: take.optional("resolved", getattr(said, name), REVISION_MAX) for name in names}
    )


def _hub(take: _Limits, said: PublishedModel | None) -> PublishedModel | None:
    """Where the model is. An address is shown to people: one that is no web address is none."""
    if said is None:
        return None
    if not said.url.startswith(("https://", "http://")) or printable(said.url, PATH_MAX) != said.url:
        take.beyond.add("hub")
        return None
    repo_id, commit = (take.text("hub", text, REVISION_MAX) for text in (said.repo_id, said.commit))
    return said.model_copy(update={"repo_id": repo_id, "commit": commit})


def _prepared(take: _Limits, said: PrepareSummary | None) -> PrepareSummary | None:
    if said is None:
        return None
    lengths = said.token_lengths
    if lengths is not None:
        figures = [take.whole("prepared", value) for value in (lengths.median, lengths.p95, lengths.longest)]
        median, p95, longest = (figure or 0 for figure in figures)
        lengths = TokenLengths(median=median, p95=p95, longest=longest)
    return said.model_copy(
        update={
            "train_rows": take.whole("prepared", said.train_rows) or 0,
            "validation_rows": take.whole("prepared", said.validation_rows),
            "test_rows": take.whole("prepared", said.test_rows),
            "dropped_rows": take.whole("prepared", said.dropped_rows) or 0,
            "truncated_share": take.number("prepared", said.truncated_share),
            "token_lengths": lengths,
            "labels": take.few("prepared", said.labels, LABELS_MAX, NAME_MAX),
            "majority_share": take.number("prepared", said.majority_share),
        }
    )
