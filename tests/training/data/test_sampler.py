"""Which rows make which batch: the same for every world size and accumulation, all rows once an epoch."""

from __future__ import annotations

import numpy as np
import pytest

from finetune_trainer.data.sampler import GlobalBatchOrder, MicroBatchSampler, Strategy, by_length

LENGTHS = np.random.default_rng(0).integers(3, 200, size=1003).astype(np.int32)
WORLDS = [(1, 1), (1, 4), (2, 2), (4, 1), (2, 1), (8, 1)]
"""Pairs of ranks and accumulation."""


def order(rows: int = 1003, strategy: Strategy = Strategy.GROUPED, **changes: object) -> GlobalBatchOrder:
    settings = {"batch_rows": 32, "seed": 42, "strategy": strategy, **changes}
    return GlobalBatchOrder(lengths=LENGTHS[:rows], **settings)  # type: ignore[arg-type]


def steps(order: GlobalBatchOrder, ranks: int, accumulation: int, epoch: int = 0) -> list[list[int]]:
    """Return the rows of each optimizer step, fillers left out, as the ranks would take them in turn."""
    batches = MicroBatchSampler(order, batch_size=order.batch_rows // ranks // accumulation, world_size=ranks)
    batches.set_epoch(epoch)
    micro = list(batches)
    assert len(micro) == len(batches)
    assert len(micro) % ranks == 0
    assert {len(batch) for batch in micro} == {batches.batch_size}
    rows_by_step = []
    for start in range(0, len(micro), ranks * accumulation):
        indices = [pick for batch in micro[start : start + ranks * accumulation] for pick in batch]
        rows_by_step.append([pick.row for pick in indices if pick.counts])
    return rows_by_step


@pytest.mark.parametrize("strategy", list(Strategy))
@pytest.mark.parametrize("rows", [1003, 1024, 33, 5])
def test_a_step_sees_the_same_rows_in_every_world(strategy: Strategy, rows: int) -> None:
    expected = [sorted(step) for step in steps(order(rows, strategy), 1, 1)]
    for ranks, accumulation in WORLDS:
        assert [sorted(step) for step in steps(order(rows, strategy), ranks, accumulation)] == expected


@pytest.mark.parametrize("strategy", list(Strategy))
def test_an_epoch_has_every_row_once(strategy: Strategy) -> None:
    for epoch in range(3):
        rows = [row for step in steps(order(strategy=strategy), 2, 2, epoch) for row in step]
        assert sorted(rows) == list(range(1003))


def test_the_last_batch_is_spread_over_all_ranks() -> None:
    batches = list(MicroBatchSampler(order(rows=37), batch_size=8, world_size=2))
    assert [sum(pick.counts for pick in batch) for batch in batches] == [8, 8, 8, 8, 3, 2]


def test_dropping_the_last_batch_drops_it_everywhere() -> None:
    for ranks, accumulation in WORLDS:
        epoch = steps(order(drop_last=True), ranks, accumulation)
        assert [len(step) for step in epoch] == [32] * 31


def test_epochs_and_seeds_differ_and_repeat() -> None:
    first = order().epoch(0)
    assert (first == order().epoch(0)).all()
    assert (first != order().epoch(1)).any()
    assert (first != order(seed=7).epoch(0)).any()
    assert (order(strategy=Strategy.SEQUENTIAL).epoch(3) == np.arange(1003)).all()


@pytest.mark.parametrize("strategy", [Strategy.GROUPED, Strategy.RANDOM])
@pytest.mark.parametrize("rows", [1003, 1024, 65])
@pytest.mark.parametrize("drop_last", [False, True])
def test_the_longest_batches_come_first(strategy: Strategy, rows: int, drop_last: bool) -> None:
    """Memory that does not suffice shows in the first steps: without the optimizer's states, and with them."""
    for seed in range(20):
        for ranks, accumulation in WORLDS:
            made = order(rows, strategy, seed=seed, drop_last=drop_last)
            longest = [int(LENGTHS[step].max()) for step in steps(made, ranks, accumulation)]
            assert longest[0] == LENGTHS[:rows].max()
            # Its longest row may have come from the incomplete batch at the end.
            assert longest[1] >= sorted(longest[: rows // 32])[-2]


def test_the_longest_batches_come_first_once_and_change_no_more_than_that() -> None:
    now, before = order(), order(longest_first=False)
    assert (now.epoch(0) != before.epoch(0)).any()
    assert (now.epoch(1) == before.epoch(1)).all()
    batches, others = ({tuple(sorted(step)) for step in steps(each, 1, 1)} for each in (now, before))
    assert batches == others
    moved = [first != second for first, second in zip(steps(now, 1, 1), steps(before, 1, 1), strict=True)]
    assert sum(moved) <= 4, "two have changed places with two"
    rows_as_they_are = order(strategy=Strategy.SEQUENTIAL)
    assert (rows_as_they_are.epoch(0) == np.arange(1003)).all()


def test_the_longest_row_of_an_incomplete_batch_comes_first_too() -> None:
    """An incomplete batch, filled up, is as large as any other; the row that it gives away takes its place."""
    lengths = np.full(37, 5, dtype=np.int32)
    for row in range(37):
        lengths[row] = 99
        rows = GlobalBatchOrder(lengths=lengths, batch_rows=8, seed=1, strategy=Strategy.RANDOM).epoch(0)
        assert row in rows[:8]
        assert sorted(rows) == list(range(37))
        lengths[row] = 5


def test_grouping_saves_padding_without_sorting_the_epoch() -> None:
    def padded(strategy: Strategy) -> float:
        batches = [LENGTHS[step] for step in steps(order(strategy=strategy), 1, 1)]
        return float(sum(len(batch) * batch.max() for batch in batches) / LENGTHS.sum())

    assert padded(Strategy.GROUPED) < 1.2 < 1.5 < padded(Strategy.RANDOM)
    longest = [int(LENGTHS[step].max()) for step in steps(order(), 1, 1)]
    assert longest != sorted(longest)
    assert longest != sorted(longest, reverse=True)


def test_samples_and_tokens_count_what_was_trained_on() -> None:
    grouped = order(rows=100)
    assert grouped.steps == 4
    assert [grouped.samples(step) for step in (0, 1, 3, 4, 5, 8)] == [0, 32, 96, 100, 132, 200]
    assert grouped.tokens(0, 4) == int(LENGTHS[:100].sum())
    assert grouped.tokens(0, 8) == 2 * int(LENGTHS[:100].sum())
    each = [grouped.tokens(step, step + 1) for step in range(8)]
    assert sum(each[2:7]) == grouped.tokens(2, 7)
    assert each[0] == int(LENGTHS[steps(grouped, 1, 1)[0]].sum())
    dropping = order(rows=100, drop_last=True)
    assert (dropping.steps, dropping.samples(3), dropping.samples(4)) == (3, 96, 128)


def test_a_batch_that_does_not_divide_is_refused() -> None:
    with pytest.raises(ValueError, match="no multiple"):
        MicroBatchSampler(order(), batch_size=5, world_size=2)


def test_evaluation_goes_from_long_to_short() -> None:
    assert by_length([3, 9, 5, 9]).tolist() == [1, 3, 2, 0]
