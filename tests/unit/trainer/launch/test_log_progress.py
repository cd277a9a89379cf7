"""Progress in lines of a log that anybody may have written."""

from __future__ import annotations

import json
import math
import time
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from finetune_trainer.contract.launch_protocol import RankProgress
from finetune_trainer.contract.records import PodPhase
from finetune_trainer.launch.attempt_metrics import AttemptMetrics
from finetune_trainer.launch.log_progress import LINE_MAX, TOO_SLOW, LogProgress
from finetune_trainer.launch.output import Tail
from finetune_trainer.launch.progress_state import ProgressState

PATTERN = r"step (?P<step>\S+)/(?P<total>\S+)( loss (?P<loss>\S+))?"
NUMBERS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(
        [10**400, -(10**400), 2**53, 2**53 + 2, "7", "1e3", "nan", "-1", "", " 5 ", "1_0", "\u0663", [1], {"a": 1}]
    ),
    st.text(max_size=5),
)
NAMES = st.one_of(
    st.sampled_from(["step", "global_step", "total", "total_steps", "loss", "lr", "epoch", "eval_loss", "eval_\ud800"]),
    st.text(max_size=8).map("eval_{}".format),
    st.text(max_size=8),
)


def of(line: str, pattern: str | None = None) -> dict[str, Any] | None:
    """Return what a line tells."""
    report = LogProgress(pattern).of_line(line)
    if report is None:
        return None
    assert report.phase is PodPhase.TRAINING
    return report.model_dump(exclude_none=True, exclude_defaults=True, exclude={"phase"})


@pytest.mark.parametrize(
    ("line", "figures"),
    [
        ({"step": 3}, {"step": 3}),
        ({"step": 0}, {"step": 0}),
        ({"global_step": 3, "max_steps": 9, "lr": 1e-4}, {"step": 3, "total_steps": 9, "learning_rate": 1e-4}),
        ({"current_step": "3", "total": "9", "train_loss": "0.5"}, {"step": 3, "total_steps": 9, "loss": 0.5}),
        ({"step": 3.0, "epoch": 0.25}, {"step": 3, "epoch": 0.25}),
        ({"step": 3, "eval_accuracy": 0.9, "other": 1}, {"step": 3, "evaluation": {"eval_accuracy": 0.9}}),
        ({"step": True, "global_step": 4}, {"step": 4}),
        ({"step": None, "global_step": 4}, {"step": 4}),
        ({"step": 3, "loss": math.nan, "epoch": math.inf, "eval_loss": -math.inf}, {"step": 3}),
        ({"step": 3, "loss": True, "total": [9], "epoch": {"a": 1}, "lr": None}, {"step": 3}),
        ({"step": 3, "total": -1, "loss": -0.5}, {"step": 3, "loss": -0.5}),
        ({"step": 3, "total": 10**400, "loss": 1e300}, {"step": 3}),
    ],
)
def test_object_with_a_step_is_progress(line: dict[str, Any], figures: dict[str, Any]) -> None:
    assert of(json.dumps(line)) == figures
    assert of(f"  {json.dumps(line)}\r ") == figures


@pytest.mark.parametrize(
    "line",
    [
        "",
        "{}",
        '{"loss": 0.5}',
        '{"step": true}',
        '{"step": NaN}',
        '{"step": Infinity}',
        '{"step": -1}',
        '{"step": 1e400}',
        '{"step": 9007199254740994}',
        '{"step": "three"}',
        '{"step": [3]}',
        '{"metrics": {"step": 3}}',
        '[{"step": 3}]',
        '{"step": 3',
        '{"step": 3} trailing',
        'INFO {"step": 3}',
        "{'step': 3}",
        "{" * 4000 + "}",
        '{"step":' + "[" * 2000 + "]" * 2000 + "}",
        '{"a":' * 700 + "1" + "}" * 700,
        '{"step": 3, "pad": "' + "x" * LINE_MAX + '"}',
        '{"step": ' + "9" * 4000 + "}",
        "step 3/9",
    ],
)
def test_other_lines_are_none(line: str) -> None:
    assert of(line) is None


@pytest.mark.parametrize(
    ("line", "figures"),
    [
        ("12:00 step 3/9 loss 0.5 -", {"step": 3, "total_steps": 9, "loss": 0.5}),
        ("step 3/9", {"step": 3, "total_steps": 9}),
        ("step 3/many loss nan", {"step": 3}),
        ("step x/9", None),
        ("step -3/9", None),
        ("step " + "9" * 400 + "/9", None),
        ("nothing", None),
        ('{"step": 5}', {"step": 5}),
        ('{"note": "step 3/9"}', None),
        ("step 3/9" + " " * LINE_MAX, None),
    ],
)
def test_pattern_of_the_user(line: str, figures: dict[str, Any] | None) -> None:
    assert of(line, PATTERN) == figures


def test_pattern_that_tries_too_many_ways_is_given_up() -> None:
    log = LogProgress(r"^(?:x|xx|x*)*(?P<step>[0-9])$")
    report = log.of_line("x" * 60 + "z")
    assert report is not None
    assert report.messages == (TOO_SLOW,)
    assert log.of_line("xx7") is None, "it is not tried again"


def test_group_may_have_any_of_the_names() -> None:
    pattern = r"(?P<step>\d+) (?P<epoch>\d+) (?P<eval_f1>\S+) (?P<unknown>\S+)"
    assert of("7 1 0.5 x", pattern) == {"step": 7, "epoch": 1.0, "evaluation": {"eval_f1": 0.5}}


def test_metrics_are_named_plainly_and_are_not_many() -> None:
    """Each name is a series of /metrics for as long as the attempt lasts, and part of documents that are text."""
    progress = LogProgress(None)
    names: set[str] = set()
    for number in range(1000):
        report = progress.of_line(json.dumps({"step": number, f"eval_{number}": 1, "eval_0": 1}))
        assert report is not None
        names |= (report.evaluation or {}).keys()
        assert "eval_0" in (report.evaluation or {})
    assert len(names) == 64
    odd = {"step": 1, "eval_\ud800": 1, "eval_\n": 1, "eval_": 1, "eval_" + "x" * 200: 1, "eval_a b": 1, "eval_f1@5": 1}
    assert of(json.dumps(odd)) == {"step": 1, "evaluation": {"eval_f1@5": 1.0}}


def absorb(report: RankProgress) -> None:
    """Do with progress all that `launch` does with it."""
    state, metrics = ProgressState("u", 1), AttemptMetrics()
    assert state.absorb_printed(report, datetime.now(UTC))
    metrics.absorb(report, time.time())
    assert RankProgress.model_validate_json(report.to_json()) == report
    assert state.document().to_json()
    assert metrics.exposition()


@given(st.dictionaries(NAMES, NUMBERS, max_size=6), st.sampled_from([None, PATTERN]))
@example({"step": 1, "eval_\ud800": 1}, None)
@example({"step": -1}, None)
def test_any_object_is_progress_or_nothing(values: dict[str, Any], pattern: str | None) -> None:
    report = LogProgress(pattern).of_line(json.dumps(values))
    if report is not None:
        absorb(report)
        assert report.step is not None
        assert report.step >= 0
        assert all(math.isfinite(value) for value in (report.loss or 0, report.epoch or 0, report.learning_rate or 0))


@given(
    st.lists(st.one_of(st.binary(max_size=60), st.sampled_from([b"step ", b"3/9", b"\n", b'{"step": 1', b"}", b"\r"])))
)
def test_any_bytes_of_a_log_raise_nothing(chunks: list[bytes]) -> None:
    tail, progress = Tail(), LogProgress(PATTERN)
    lines = [line for chunk in chunks for line in tail.feed(chunk)]
    assert len(lines) == b"".join(chunks).count(b"\n")
    for line in lines:
        report = progress.of_line(line)
        if report is not None:
            absorb(report)


@given(st.recursive(NUMBERS, lambda inner: st.lists(inner) | st.dictionaries(NAMES, inner), max_leaves=20))
def test_any_json_raises_nothing(value: Any) -> None:
    report = LogProgress(PATTERN).of_line(json.dumps({"step": value, "loss": value, "eval_x": value}))
    assert report is None or isinstance(value, int | float | str)


@pytest.mark.parametrize(
    "line", ["{" + "[" * (10 << 20) + "}", '{"step":' * (1 << 20) + "}", "step " + "9" * (10 << 20)]
)
def test_long_line_costs_nothing(line: str) -> None:
    progress = LogProgress(PATTERN)
    started = time.process_time()
    for _ in range(1000):
        assert progress.of_line(line) is None
    assert time.process_time() - started < 0.5


def test_program_that_reports_is_not_read() -> None:
    state = ProgressState("u", 1)
    state.absorb(RankProgress(step=5), datetime.now(UTC))
    assert not state.absorb_printed(RankProgress(step=1), datetime.now(UTC))
    assert state.step == 5
