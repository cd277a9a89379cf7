"""Decisions that all ranks must make alike, in one small exchange over the CPUs about once a second.

The clock of rank 0 says when a checkpoint is due and when the next exchange is. All ranks learn both in the same step, so
that none waits for a save that another one does not make. The exchange also gathers the loss of the whole world: there a loss
that is not finite shows, without asking the accelerator at every step. In fp16 the gradient scaler leaves such a step out: it
is counted, and the loss is that of the other steps.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist

from finetune_trainer.contract.launch_protocol import Saved

PERIOD_SECONDS = 1.0
AGAIN_SECONDS, AGAIN_SECONDS_MOST = 15.0, 600.0
"""Pause before another checkpoint is made after one was given up; it grows as long as none is sealed."""
LONGEST_WAIT_STEPS = 1000


@dataclass(frozen=True)
class Beat:
    """Agreement of the ranks in one exchange."""

    save: bool
    loss: float
    """Mean over the world and over the steps since the last beat, without those left out."""
    left_out: int
    """Losses since the last beat, of all ranks, that were not finite and that a gradient scaler left out."""
    steps: int
    """Steps since the last beat."""
    seconds: float
    """Time since the last beat, by this rank's clock."""


class Pulse:
    """A counter of steps, which makes a beat when the ranks have agreed to."""

    def __init__(
        self, world_size: int, rank: int, group: Any, *, save_seconds: float | None, scaled: bool = False
    ) -> None:
        self._world_size = world_size
        self._rank = rank
        self._group = group
        self._scaled = scaled
        self._save_seconds = save_seconds
        self._saved = time.monotonic()
        self._beaten = time.monotonic()
        self._steps = 0
        self._next = 1
        self._loss: torch.Tensor | None = None
        self._finite: torch.Tensor | None = None
        self._step_loss: torch.Tensor | None = None
        self._logged: torch.Tensor | None = None
        self._again: float | None = None
        self._given_up: int | None = None
        self._failures = 0

    def add(self, loss: torch.Tensor) -> torch.Tensor:
        """Add the loss of one forward pass, as its share of the step; everything stays on its device.

        Return the loss that the Trainer may log: in place of one that is not finite, and left out, the one before. The
        Trainer's sum would stay NaN for ever.
        """
        loss = loss.detach()
        self._step_loss = loss.clone() if self._step_loss is None else self._step_loss + loss
        if not self._scaled:
            return loss
        previous = torch.zeros_like(loss) if self._logged is None else self._logged
        self._logged = torch.where(torch.isfinite(loss), loss, previous)
        return self._logged

    def _add_step(self) -> None:
        """Add the step's loss to those since the last beat, unless the scaler leaves the step out."""
        if self._step_loss is None:
            return
        counts = torch.isfinite(self._step_loss) if self._scaled else torch.ones_like(self._step_loss, dtype=torch.bool)
        loss = torch.where(counts, self._step_loss, 0.0)
        self._loss = loss if self._loss is None else self._loss + loss
        self._finite = counts.long() if self._finite is None else self._finite + counts
        self._step_loss = None

    def saved(self) -> None:
        """Note that a checkpoint was made, for whatever reason."""
        self._saved = time.monotonic()
        self._again = None

    def heard(self, saved: Saved) -> None:
        """Take what became of checkpoints: one that was given up is made again before the next one would be due."""
        if saved.given_up is None or saved.given_up == self._given_up:
            return
        if saved.sealed is not None and self._given_up is not None and saved.sealed > self._given_up:
            self._failures = 0
        self._given_up = saved.given_up
        self._again = time.monotonic() + min(AGAIN_SECONDS * 2**self._failures, AGAIN_SECONDS_MOST)
        self._failures += 1

    def step(self) -> Beat | None:
        """Count an optimizer step; return a beat where the ranks have agreed on one. It is called on every rank."""
        self._steps += 1
        self._add_step()
        if self._steps < self._next:
            return None
        now = time.monotonic()
        seconds = now - self._beaten
        loss = float(self._loss.item()) if self._loss is not None else 0.0
        counted = int(self._finite.item()) if self._finite is not None else self._steps
        due = self._save_seconds is not None and now - self._saved >= self._save_seconds
        due = due or (self._again is not None and now >= self._again)
        shared = torch.tensor(
            [loss, float(due and self._rank == 0), float(self._wait(seconds) if self._rank == 0 else 0), counted],
            dtype=torch.float64,
        )
        if self._world_size > 1:
            dist.all_reduce(shared, group=self._group)
        beat = Beat(
            save=bool(shared[1] > 0),
            loss=float(shared[0] / shared[3]),
            left_out=self._steps * self._world_size - int(shared[3]),
            steps=self._steps,
            seconds=seconds,
        )
        self._next, self._steps, self._loss, self._finite, self._beaten = int(shared[2]), 0, None, None, now
        return beat

    def _wait(self, seconds: float) -> int:
        """Return the steps until the next beat, from the duration of the last ones: soon enough for the next checkpoint too."""
        period = PERIOD_SECONDS if self._save_seconds is None else min(PERIOD_SECONDS, self._save_seconds / 10)
        return max(1, min(LONGEST_WAIT_STEPS, 2 * self._steps, int(period * self._steps / max(seconds, 1e-6))))
