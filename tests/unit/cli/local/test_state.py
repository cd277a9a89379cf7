"""What outlives one run: identity, status, and the lock."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from finetune_operator.cli.command_errors import CommandError
from finetune_operator.cli.local.state import load, locked, with_new_round, without_pause

SPEC = {"nodes": 2}


def test_an_unfinished_job_goes_on_as_itself(tmp_path: Path) -> None:
    with locked(tmp_path, "reviews"):
        first = load(tmp_path, "reviews", SPEC)
        first.status = {"phase": "Running", "attempt": 3}
        first.save()
        again = load(tmp_path, "reviews", SPEC)
    assert not first.continued
    assert again.continued
    assert (again.uid, again.created, again.status) == (first.uid, first.created, first.status)


@pytest.mark.parametrize(("phase", "spec"), [("Succeeded", SPEC), ("Failed", SPEC), ("Running", {"nodes": 1})])
def test_a_job_that_is_over_or_changed_begins_anew(phase: str, spec: dict[str, int], tmp_path: Path) -> None:
    with locked(tmp_path, "reviews"):
        first = load(tmp_path, "reviews", SPEC)
        first.status = {"phase": phase}
        first.save()
        (first.pods / "reviews-train-1-0").mkdir(parents=True)
        other = load(tmp_path, "reviews", spec)
    assert other.uid != first.uid
    assert not other.continued
    assert other.replaces == (phase == "Running")
    assert other.status == {}
    assert not (first.pods / "reviews-train-1-0").exists()


def test_only_one_run_at_a_time(tmp_path: Path) -> None:
    again = locked(tmp_path, "reviews")
    with locked(tmp_path, "reviews"), pytest.raises(CommandError, match="job reviews is already running here"), again:
        pass
    with locked(tmp_path, "reviews"), locked(tmp_path, "another"):
        assert (tmp_path / "jobs" / "another" / "lock").exists()


def test_a_pause_counts_against_no_deadline() -> None:
    status = {"phase": "Running", "budget": {"started": "2026-01-02T00:00:00Z", "fruitless": 3, "retry": 0}}
    budget = without_pause(status, timedelta(hours=8))["budget"]
    assert budget == {"started": "2026-01-02T08:00:00+00:00", "fruitless": 0, "retry": 0}
    assert without_pause({}, timedelta(hours=8)) == {}


TRAINED = {"phase": "Failed", "model": {"claimName": "c", "path": "p"}, "budget": {"retry": 2}}


@pytest.mark.parametrize(
    ("changed", "same"),
    [
        ({}, True),
        ({"publish": {"repoId": "team/y"}}, True),
        ({"hub": {"tokenSecretRef": {"name": "other", "key": "token"}}}, True),
        ({"retry": 7}, True),
        ({"hub": {"endpoint": "https://mirror.example"}}, False),
        ({"nodes": 3}, False),
    ],
)
def test_what_is_trained_is_not_trained_again_because_publishing_failed(
    changed: dict[str, object], same: bool, tmp_path: Path
) -> None:
    spec = {**SPEC, "publish": {"repoId": "me/x"}, "hub": {"tokenSecretRef": {"name": "hf", "key": "token"}}}
    with locked(tmp_path, "reviews"):
        first = load(tmp_path, "reviews", spec)
        first.status = TRAINED
        first.save()
        again = load(tmp_path, "reviews", {**spec, **changed})
    assert (again.uid == first.uid) == again.continued == same
    assert again.retry == (3 if same else 0)


def test_a_pause_does_not_count_against_publishing() -> None:
    status = {"phase": "Publishing", "budget": {"publishStarted": "2026-01-02T00:00:00Z"}}
    assert without_pause(status, timedelta(hours=8))["budget"]["publishStarted"] == "2026-01-02T08:00:00+00:00"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ({}, None),
        ({"phase": "Preparing", "prepareAttempt": 1, "budget": {"firstPrepare": 1}}, None),
        ({"phase": "Publishing", "attempt": 2, "model": {"path": "model"}, "budget": {"firstAttempt": 1}}, None),
        (
            {"phase": "Running", "attempt": 2, "attemptBegun": "2026-01-01T00:00:00Z", "budget": {"firstAttempt": 1}},
            {"firstAttempt": 3, "firstPrepare": 1},
        ),
        (
            {"phase": "Running", "attempt": 1, "prepareAttempt": 4, "budget": {"fruitless": 0}},
            {"fruitless": 0, "firstAttempt": 2, "firstPrepare": 5},
        ),
    ],
)
def test_a_run_that_is_started_again_looks_at_its_data_anew(status: Any, expected: Any) -> None:
    anew = with_new_round(status)
    if expected is None:
        assert anew == status
    else:
        assert anew["budget"] == expected
        assert "attemptBegun" not in anew
