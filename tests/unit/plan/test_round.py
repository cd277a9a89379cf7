"""What a stage is handed: reads what was observed, and hands on another status without a change to the one that it had."""

from __future__ import annotations

import pytest

from finetune_operator.api.status import Phase
from finetune_operator.plan.stages.round import Round
from tests.support.simulated import begun


def test_round_begins_with_the_written_status() -> None:
    observed = begun().observed()
    round = Round.of(observed)
    assert (round.status, round.written) == (observed.job.status, observed.job.status)
    assert (round.job, round.now, round.settings) == (observed.job, observed.now, observed.settings)
    assert [job.name for job in round.owned.jobs] == ["reviews-train-1"]
    assert len(round.attempt(1).pods) == 2
    assert round.progress(1) == observed.progress
    assert round.progress(2) is None


def test_round_changes_its_next_status_alone() -> None:
    round = Round.of(begun().observed())
    changed = round.with_fields(phase=Phase.RESTARTING).with_budget(furthest_step=7)
    assert (changed.status.phase, changed.status.budget.furthest_step) == (Phase.RESTARTING, 7)
    assert changed.written == round.status == round.written
    assert changed.with_status(round.status) == round


def test_round_refuses_unknown_fields() -> None:
    round = Round.of(begun().observed())
    with pytest.raises(AssertionError, match="fase"):
        round.with_fields(fase=Phase.RESTARTING)
    with pytest.raises(AssertionError, match="furthest"):
        round.with_budget(furthest=7)
