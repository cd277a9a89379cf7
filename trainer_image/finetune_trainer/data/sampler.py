"""Choice of the rows of each batch, made from the global batch alone.

Neither the number of ranks nor gradient accumulation changes what an optimizer step sees: the stock samplers group by
the batch of one process, so that with another world size hardly a step holds the same rows. The order of an epoch is a
function of seed and epoch, so that a resumed run needs no state to go on with it. No torch in here.

The longest batches come first, as transformers' own sampler has it: what does not fit into memory then shows in the first
steps, where among shuffled batches it showed in the middle of an epoch, after hours. A separate pass
over that batch would cost time at each start, and find less: the optimizer's states are there from the second step on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
GROUPED_BATCHES = 50
"""Global batches that are sorted by length together: enough for little padding, few enough to stay random."""
LEADING_BATCHES = 2
"""The number of batches that lead the first epoch, longest first: with the second one the optimizer's states are in memory, too."""


class Strategy(StrEnum):
    GROUPED = "group_by_length"
    RANDOM = "random"
    SEQUENTIAL = "sequential"


class Pick(NamedTuple):
    """A row of a batch."""

    row: int
    epoch: int = 0
    """The epoch: what is drawn at random for a row (which tokens are masked) differs from one to the next."""
    counts: bool = True
    """False for a row that only fills up a batch."""


@dataclass(frozen=True)
class GlobalBatchOrder:
    """The rows of each epoch in the order in which global batches take them."""

    lengths: npt.NDArray[np.int32]
    """Tokens of each row."""
    batch_rows: int
    """Rows of a global batch."""
    seed: int
    strategy: Strategy = Strategy.GROUPED
    drop_last: bool = False
    longest_first: bool = True
    """Whether the first epoch begins with its longest batches. False where a training resumes that began without."""

    @property
    def rows(self) -> int:
        return len(self.lengths)

    @property
    def steps(self) -> int:
        """Optimizer steps of an epoch."""
        full, rest = divmod(self.rows, self.batch_rows)
        return full if self.drop_last or not rest else full + 1

    def epoch(self, epoch: int) -> Indices:
        """Return the rows in order; where the last batch is dropped its rows are left out."""
        order = self._order(epoch)
        if epoch == 0 and self.longest_first and self.strategy is not Strategy.SEQUENTIAL:
            order = self._longest_first(order)
        return order[: self.steps * self.batch_rows]

    def _order(self, epoch: int) -> Indices:
        if self.strategy is Strategy.SEQUENTIAL:
            return np.arange(self.rows, dtype=np.int64)
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(self.rows).astype(np.int64)
        return order if self.strategy is Strategy.RANDOM else self._grouped(order, random)

    def _grouped(self, order: Indices, random: np.random.Generator) -> Indices:
        # As in transformers: groups small enough that an epoch of few batches is still shuffled.
        group_rows = max(1, min(GROUPED_BATCHES, self.rows // (self.batch_rows * 4))) * self.batch_rows
        groups = []
        for start in range(0, self.rows, group_rows):
            group = order[start : start + group_rows]
            group = group[np.argsort(-self.lengths[group], kind="stable")]
            full = len(group) // self.batch_rows * self.batch_rows
            # Sorted batches in random order: from long to short would be a curriculum nobody asked for.
            batches = random.permutation(group[:full].reshape(-1, self.batch_rows), axis=0).reshape(-1)
            groups += [batches, group[full:]]
        return np.concatenate(groups)

    def _longest_first(self, order: Indices) -> Indices:
        """Let the batches with the longest rows change places with the first ones; all others stay where they are.

        All rows of a batch are as long as its longest, once padded.
        """
        full = self.rows // self.batch_rows
        batches, rest = order[: full * self.batch_rows].reshape(full, self.batch_rows), order[full * self.batch_rows :]
        if not full:
            return order
        for leading in range(min(LEADING_BATCHES, full)):
            lengths = self.lengths[batches[leading:]]
            longest = leading + int(np.lexsort((-lengths.sum(axis=1), -lengths.max(axis=1)))[0])
            batches[[leading, longest]] = batches[[longest, leading]]
        if len(rest) and self.lengths[rest].max() > self.lengths[batches[0]].max():
            # The incomplete batch at the end is filled up, so that it is as large as any other.
            longest = int(self.lengths[rest].argmax())
            batches[0, 0], rest[longest] = rest[longest], batches[0, 0]
        return np.concatenate([batches.reshape(-1), rest])

    def tokens(self, first_step: int, last_step: int) -> int:
        """Count the tokens of the optimizer steps after `first_step` up to `last_step`, counted from the start of the run."""
        total = 0
        for epoch in range(first_step // self.steps, -(-last_step // self.steps)):
            order = self.epoch(epoch)
            begin = max(first_step - epoch * self.steps, 0) * self.batch_rows
            end = (last_step - epoch * self.steps) * self.batch_rows
            total += int(self.lengths[order[begin:end]].sum(dtype=np.int64))
        return total

    def samples(self, step: int) -> int:
        """Count the rows that the first `step` optimizer steps have seen."""
        epochs, rest = divmod(step, self.steps)
        per_epoch = self.steps * self.batch_rows if self.drop_last else self.rows
        return epochs * per_epoch + min(rest * self.batch_rows, per_epoch)


class MicroBatchSampler:
    """Batches of one forward pass of one rank, in the order in which ranks take turns: a batch sampler.

    All are of one size and their number is a multiple of the world size, so that accelerate, which deals them out
    to ranks, has nothing to even out. The last global batch of an epoch is spread over all ranks and filled up with rows that do not
    count.
    """

    drop_last = True
    """Value for accelerate: there is no incomplete batch for which it would repeat rows."""

    def __init__(self, order: GlobalBatchOrder, *, batch_size: int, world_size: int) -> None:
        if order.batch_rows % (batch_size * world_size):
            raise ValueError(f"a global batch of {order.batch_rows} is no multiple of {batch_size} x {world_size}")
        self.order = order
        self.batch_size = batch_size
        self._world_size = world_size
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __len__(self) -> int:
        full, rest = divmod(self.order.rows, self.order.batch_rows)
        per_global = self.order.batch_rows // self.batch_size
        return full * per_global + (0 if self.order.drop_last else self._last(rest))

    def _last(self, rest: int) -> int:
        """Return the micro-batches of an incomplete global batch."""
        return -(-rest // (self.batch_size * self._world_size)) * self._world_size

    def __iter__(self) -> Iterator[list[Pick]]:
        epoch, rows = self._epoch, self.order.epoch(self._epoch)
        full = len(rows) // self.order.batch_rows * self.order.batch_rows
        for start in range(0, full, self.batch_size):
            yield [Pick(row, epoch) for row in rows[start : start + self.batch_size].tolist()]
        rest = rows[full:].tolist()
        parts = self._last(len(rest))
        for part in range(parts):
            picks = [Pick(row, epoch) for row in rest[part::parts]]
            yield picks + [Pick(rest[0], epoch, counts=False)] * (self.batch_size - len(picks))


def by_length(lengths: Sequence[int] | npt.NDArray[np.int32]) -> Indices:
    """Order rows from long to short, for evaluation, where the order means nothing and padding costs."""
    return np.argsort(-np.asarray(lengths), kind="stable").astype(np.int64)
