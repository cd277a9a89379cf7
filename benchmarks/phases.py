"""The phases from `apply` to the first step, from a pod's log with the container runtime's time stamps.

The marks are node 0's. A rank logs the durations of its own start, so its marks are counted back from that line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from statistics import median

from benchmarks.common import Figure, Table, spread

LINES = {
    "launch up": '"event": "launch is up"',
    "nodes met": '"event": "all nodes are here"',
    "begun": '"event": "attempt has begun"',
}
"""Mark -> text of the log line that sets it."""
RANK = re.compile(r"started in ([\d.]+) s: (.*)")
LOSS = re.compile(r"['\"]loss['\"]")
PHASES = {
    "pods created": "the operator and the Job controller",
    "scheduled": "the scheduler",
    "launch up": "sandbox, volumes, container, Python",
    "nodes met": "the slower pod; DNS",
    "begun": "resume decided, mark written and synced",
    "rank up": "torchrun, imported meanwhile, starts Python",
    "imports": "torch, transformers",
    "process group": "gloo",
    "data": "what preparing takes longer than the imports beside it",
    "model": "weights, Trainer",
    "first step": "and its loss printed",
}
"""Phases in order: mark that ends the phase -> work that takes the time."""


def marks(log: str, created: datetime, scheduled: datetime) -> dict[str, datetime]:
    """Return when each phase ended. `log` has a time stamp before each line; the other two moments are from a watch."""
    ends = {"pods created": created, "scheduled": scheduled}
    for line in log.splitlines():
        stamp, _, text = line.partition(" ")
        time = datetime.fromisoformat(stamp)
        for name, message in LINES.items():
            if message in text:
                ends.setdefault(name, time)
        if timer := RANK.search(text):
            ends |= _rank_marks(time, float(timer[1]), timer[2])
        if LOSS.search(text):
            ends.setdefault("first step", time)
    if missing := PHASES.keys() - ends.keys():
        raise ValueError(f"the log of node 0 says nothing of {', '.join(sorted(missing))}:\n{log[-4000:]}")
    return ends


def _rank_marks(reported: datetime, total_seconds: float, parts: str) -> dict[str, datetime]:
    """Return when each part ended. `parts` is `imports 3.90 s, process group 0.10 s, ...`."""
    moment = reported - timedelta(seconds=total_seconds)
    ends = {"rank up": moment}
    for part in parts.split(", "):
        name, seconds, _ = part.rsplit(" ", 2)
        moment += timedelta(seconds=float(seconds))
        ends[name] = moment
    return ends


def table(runs: Sequence[tuple[datetime, Mapping[str, datetime]]]) -> Table:
    """Tabulate the seconds of each phase; each run is the moment of its `apply`, and its marks."""
    seconds: dict[str, list[float]] = {name: [] for name in PHASES}
    for begin, ends in runs:
        before = begin
        for name in PHASES:
            seconds[name].append((ends[name] - before).total_seconds())
            before = ends[name]
    total = [(ends["first step"] - begin).total_seconds() for begin, ends in runs]
    figures = [
        Figure(name, work, spread(seconds[name], "s", 1), median(seconds[name]) / median(total) * 100, unit="%")
        for name, work in PHASES.items()
    ]
    whole = Figure("all", "", spread(total, "s", 1), 100, unit="%")
    return Table("until (node 0 of 2)", (*figures, whole), ("what takes place", "median / p95"))
