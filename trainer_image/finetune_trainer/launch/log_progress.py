"""Progress in what rank 0 prints: a JSON object with a number `step` as a line, or what the user's pattern finds."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from finetune_trainer.contract.launch_protocol import RankProgress
from finetune_trainer.contract.records import PodPhase

LINE_MAX = 4096
"""Characters of a line that is looked at; a longer one is no progress."""
_NAMES = {
    "step": ("step", "global_step", "current_step"),
    "total_steps": ("total_steps", "total", "max_steps"),
    "epoch": ("epoch",),
    "loss": ("loss", "train_loss"),
    "learning_rate": ("learning_rate", "lr"),
}
_WHOLE = frozenset({"step", "total_steps"})
_LARGEST = 2**53
_METRIC = re.compile(r"eval_[A-Za-z0-9_.@/-]{1,100}")
_METRICS_MAX = 64
"""Metrics of a program at most: each is a series of /metrics for as long as the attempt lasts."""


SECONDS_MAX = 0.1
"""Time that a pattern may take on a line: some patterns try more ways than there are seconds, and `launch` does nothing meanwhile."""
TOO_SLOW = f"script.progressPattern took longer than {SECONDS_MAX} s on a line of the log: no progress is read from there any more."


def _compiled(pattern: str) -> Any:
    """Compile a pattern with `regex`, which has a time limit. It is imported where a job has a pattern: it takes 0.1 s.

    Raises ValueError for what is no pattern.
    """
    import regex

    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ValueError(str(error)) from error


class LogProgress:
    """Finds progress in lines."""

    def __init__(self, pattern: str | None) -> None:
        """`pattern`: a regular expression with groups `step`, `total`, `epoch`, `loss`. Raises ValueError."""
        self._pattern = _compiled(pattern) if pattern is not None else None
        self._metrics: set[str] = set()

    def of_line(self, line: str) -> RankProgress | None:
        """Return the progress that a line tells; None where it tells none."""
        if len(line) > LINE_MAX:
            return None
        text = line.strip()
        if text.startswith("{") and text.endswith("}"):
            return self._report(_parsed(text))
        if self._pattern is None:
            return None
        try:
            match = self._pattern.search(line, timeout=SECONDS_MAX)
        except TimeoutError:
            self._pattern = None
            return RankProgress(messages=(TOO_SLOW,))
        return self._report(match.groupdict()) if match is not None else None

    def _report(self, values: Mapping[str, Any]) -> RankProgress | None:
        figures: dict[str, Any] = {}
        for field, names in _NAMES.items():
            number = next((number for name in names if (number := _number(values.get(name))) is not None), None)
            if number is not None and (field not in _WHOLE or number >= 0):
                figures[field] = int(number) if field in _WHOLE else number
        if "step" not in figures:
            return None
        evaluation = {
            name: number
            for name, value in values.items()
            if (number := _number(value)) is not None and self._is_metric(name)
        }
        return RankProgress(phase=PodPhase.TRAINING, evaluation=evaluation or None, **figures)

    def _is_metric(self, name: str) -> bool:
        if _METRIC.fullmatch(name) is None:
            return False
        if len(self._metrics) < _METRICS_MAX:
            self._metrics.add(name)
        return name in self._metrics


def _parsed(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) and abs(number) <= _LARGEST else None
