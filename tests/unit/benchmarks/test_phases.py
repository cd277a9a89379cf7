"""The phases of a start, from the log of a pod."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from benchmarks import phases

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
LINES = (
    (1.0, '{"port": 8080, "node": 0, "attempt": 1, "event": "launch is up", "level": "info"}'),
    (1.5, '{"nodes": 2, "event": "all nodes are here"}'),
    (1.6, '{"resume": null, "event": "attempt has begun"}'),
    (7.0, "started in 5.00 s: imports 3.00 s, process group 0.50 s, data 0.50 s, model 1.00 s"),
    (7.5, "{'loss': '0.7', 'epoch': '0.1'}"),
    (8.0, "{'loss': '0.6', 'epoch': '0.2'}"),
)


def log(*, without: int | None = None) -> str:
    lines = [line for number, line in enumerate(LINES) if number != without]
    return "\n".join(f"{(BEGIN + timedelta(seconds=seconds)).isoformat()} {text}" for seconds, text in lines)


def moment(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def test_each_phase_ends_where_the_next_begins() -> None:
    marks = phases.marks(log(), moment(0.1), moment(0.2))
    ends = {name: (marks[name] - BEGIN).total_seconds() for name in phases.PHASES}
    assert list(ends.values()) == [0.1, 0.2, 1.0, 1.5, 1.6, 2.0, 5.0, 5.5, 6.0, 7.0, 7.5]
    rows = {figure.what: figure for figure in phases.table([(BEGIN, marks)]).figures}
    assert rows["imports"].ours == "3 / 3 s"
    assert rows["imports"].measured == pytest.approx(40)
    assert rows["all"].ours == "7.5 / 7.5 s"


def test_a_mark_that_is_missing_is_named() -> None:
    with pytest.raises(ValueError, match="says nothing of nodes met"):
        phases.marks(log(without=1), moment(0.1), moment(0.2))
