"""The lines of text that a person reads while a job runs, from one status to the next. Pure; knows no terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from finetune_operator.cli.result_summary import metrics
from finetune_operator.plan.types import EventNote, Manifest
from finetune_trainer.contract.records import PodPhase, Progress

POD_PHASES = {
    PodPhase.WAITING: "the nodes find each other",
    PodPhase.PREPARING: "data and model are read, checked and tokenised",
    PodPhase.STARTING: "the ranks load the model and build their process group",
    PodPhase.TRAINING: "training",
    PodPhase.EVALUATING: "evaluating",
    PodPhase.SAVING: "saving the model",
}
LAST_LINES = " Last lines:"
SHOWN_PHASES = (PodPhase.PREPARING, PodPhase.STARTING, PodPhase.TRAINING, PodPhase.SAVING)
"""Phases that get a line; an evaluation shows by its result."""


@dataclass(frozen=True)
class Line:
    """A line for the user."""

    text: str
    head: str = ""
    """One word that says what the line is about."""
    warning: bool = False


class ProgressLog:
    """A log of progress that remembers what it has written, so that it writes nothing twice."""

    def __init__(self) -> None:
        self._written: set[tuple[str, ...]] = set()

    def lines(self, status: Manifest, progress: Progress | None, events: Sequence[EventNote]) -> Iterator[Line]:
        attempt = str(status.get("attempt") or 0)
        for event in events:
            shown_elsewhere = event.reason == "Notice" or status.get("phase") == "Failed"
            if event.type == "Warning" and not shown_elsewhere:
                line = Line(gist(event.message), event.reason, warning=True)
                yield from self._once(("event", attempt, event.message), line)
        if status.get("phase") == "Preparing":
            text = "data and model are read, checked and tokenised"
            yield from self._once(("phase", attempt, "prepare"), Line(text, "Preparing"))
        if (prepared := _prepared(status, progress)) is not None:
            yield from self._once(("prepared",), Line(prepared, "Prepared"))
        if status.get("phase") == "Publishing":
            yield from self._once(("phase", attempt, "publish"), Line("the model goes to the Hub", "Publishing"))
        if progress is not None and str(progress.attempt) == attempt:
            yield from self._of_attempt(attempt, progress)
        for message in status.get("messages", ()):
            yield from self._once(("message", message), Line(message, "Note"))

    def _of_attempt(self, attempt: str, progress: Progress) -> Iterator[Line]:
        if progress.phase in SHOWN_PHASES:
            text, head = POD_PHASES[progress.phase], progress.phase.value.capitalize()
            resumed = progress.resumed_from
            if progress.phase is PodPhase.TRAINING:
                text = f"{progress.total_steps} steps" if progress.total_steps else text
                text += f", going on from the checkpoint of step {resumed.step}" if resumed else ""
            yield from self._once(("phase", attempt, progress.phase.value), Line(text, head))
        if progress.evaluation:
            text = metrics(progress.evaluation)
            yield from self._once(("evaluation", attempt, text), Line(text, "Evaluated"))

    def _once(self, key: tuple[str, ...], line: Line) -> Iterator[Line]:
        if key not in self._written:
            self._written.add(key)
            yield line


def _prepared(status: Manifest, progress: Progress | None) -> str | None:
    """Return the text about the prepared data, from the prepare Job or from node 0."""
    if progress is not None and progress.prepared is not None:
        return progress.prepared.text
    matches = (
        condition
        for condition in status.get("conditions", ())
        if condition["type"] == "Prepared" and condition["status"] == "True"
    )
    condition: Manifest = next(matches, {})
    _, separator, text = str(condition.get("message") or "").partition(": ")
    return text if separator else None


def gist(text: str) -> str:
    """Return the event itself, from a message that goes on with a traceback or with last lines, which are in the pod's log."""
    lines = text.strip().splitlines() or [""]
    first, last = lines[0], lines[-1]
    if first.endswith(LAST_LINES):
        return first.removesuffix(LAST_LINES)
    prefix, separator, traceback = first.partition(":   File ")
    return f"{prefix}: {last}" if separator and traceback else first


def steps(status: Mapping[str, Any]) -> str:
    """Return a line such as `step 120/375, loss 0.61, 410 samples/s, 41 s left`, as far as these are known."""
    progress = status.get("progress") or {}
    parts = []
    if progress.get("totalSteps"):
        parts.append(f"step {progress.get('step') or 0}/{progress['totalSteps']}")
    if progress.get("loss") is not None:
        parts.append(f"loss {progress['loss']:.4f}")
    if progress.get("samplesPerSecond") is not None:
        parts.append(f"{progress['samplesPerSecond']:.0f} samples/s")
    if progress.get("etaSeconds") is not None:
        parts.append(f"{progress['etaSeconds']} s left")
    return ", ".join(parts)
