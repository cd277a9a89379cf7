"""The actions at the Trainer's events: progress, agreed checkpoints, errors for numbers that are not finite."""

from __future__ import annotations

import math
import sys
import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from finetune_trainer.contract.launch_protocol import RankCheckpoint
from finetune_trainer.contract.records import PodPhase, Reason
from finetune_trainer.data.sampler import GlobalBatchOrder, MicroBatchSampler
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.launch_client import LaunchClient
from finetune_trainer.train.progress_reporter import Reporter, SignsOfLife
from finetune_trainer.train.pulse import Beat, Pulse
from finetune_trainer.train.startup_timer import StartupTimer
from finetune_trainer.train.volume_trouble import Save
from finetune_trainer.train.world import World

SMALLEST_SCALE = 1e-4
"""Smallest scale of the gradient scaler, as in fairseq. It begins at 65536 and is halved for each step that is left out, so
30 in a row are too many; it takes 2000 good steps to double it."""
REPORTED_COUNTS = (1, 10, 100, 1000)
"""Numbers of left-out losses that are reported."""


class RankCallback(TrainerCallback):
    """The callback of one rank; only the reporter of rank 0 is active."""

    def __init__(
        self,
        world: World,
        client: LaunchClient,
        reporter: Reporter,
        pulse: Pulse,
        batches: MicroBatchSampler,
        save: Save,
        *,
        startup_timer: StartupTimer | None = None,
        scaled: bool,
    ) -> None:
        self._world = world
        self._client = client
        self._reporter = reporter
        self._pulse = pulse
        self._batches = batches
        self._save = save
        self._startup_timer = startup_timer if world.rank == 0 else None
        self._scaled = scaled
        self._signs = SignsOfLife(client, active=world.local_rank == 0 and world.rank != 0)
        self._first_step = 0
        self._first_scale: float | None = None
        self._left_out = 0
        self._step_began: float | None = None
        self._tokens = 0
        self._tokens_until = 0
        self.evaluated_step: int | None = None
        self.evaluation: dict[str, float] | None = None
        self.step = 0

    @property
    def _order(self) -> GlobalBatchOrder:
        return self._batches.order

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        self._first_step = self._tokens_until = self.step = state.global_step
        self._first_scale = _scale(kwargs)
        self._pulse.saved()
        self._reporter.tell(phase=PodPhase.TRAINING, step=state.global_step, total_steps=state.max_steps)
        # After a resume from the very last step there is nothing left to train.
        control.should_training_stop = control.should_training_stop or state.global_step >= state.max_steps
        return control

    def on_epoch_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # The data loader would not set it: after a resume within an epoch accelerate's wrappers do not pass the epoch on.
        self._batches.set_epoch(state.global_step // self._order.steps)

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if self._step_began is None:
            self._step_began = time.monotonic()

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> TrainerControl:
        now = time.monotonic()
        self._signs.note()
        if self._step_began is not None:
            self._reporter.step_took(now - self._step_began)
        self._step_began = now
        self.step = state.global_step
        if self._startup_timer is not None:
            self._startup_timer.done("first step")
            print(self._startup_timer.newest, file=sys.stderr, flush=True)  # noqa: T201
            self._startup_timer = None
        self._pulse.heard(self._reporter.saved)
        beat = self._pulse.step()
        if beat is not None:
            if self._scaled:
                self._check_scale(beat, _scale(kwargs), state.global_step)
            elif not math.isfinite(beat.loss):
                raise _not_finite("loss", beat.loss, state.global_step)
            # The end of an epoch is saved anyway, after its evaluation, so that the checkpoint holds the result.
            due = beat.save and not (args.save_strategy == "epoch" and state.global_step % self._order.steps == 0)
            control.should_save = control.should_save or due
            if self._world.rank == 0:
                self._report(beat, state, kwargs.get("lr_scheduler"))
        return control

    def _check_scale(self, beat: Beat, scale: float | None, step: int) -> None:
        """Report losses that the scaler leaves out in fp16, and raise an error where that goes on for too long."""
        before, self._left_out = self._left_out, self._left_out + beat.left_out
        if any(before < count <= self._left_out for count in REPORTED_COUNTS):
            self._reporter.tell(
                f"The loss was not finite at or shortly before step {step} ({self._left_out} times so far): in fp16 such steps "
                "are left out."
            )
        if scale is None:
            return
        self._reporter.tell(loss_scale=scale)
        if scale < SMALLEST_SCALE:
            raise _left_out(f"step after step, until the scale of the gradients fell to {scale:.2g} at step {step}")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        scale, steps = _scale(kwargs), state.global_step
        if self._first_scale is None or scale is None or self._first_step or not steps:
            return
        # Each step that is left out halves the scale, and a good one does not. All ranks have the same scale.
        if scale == self._first_scale * kwargs["optimizer"].scaler.get_backoff_factor() ** steps:
            raise _left_out(f"all {steps} steps" if steps > 1 else "the only step")

    def _report(self, beat: Beat, state: TrainerState, scheduler: Any) -> None:
        step = state.global_step
        self._tokens += self._order.tokens(self._tokens_until, step)
        self._tokens_until = step
        rows = self._order.samples(step) - self._order.samples(step - beat.steps)
        self._reporter.tell(
            phase=PodPhase.TRAINING,
            step=step,
            total_steps=state.max_steps,
            epoch=state.epoch,
            loss=beat.loss if math.isfinite(beat.loss) else None,
            learning_rate=float(scheduler.get_last_lr()[0]) if scheduler is not None else None,
            samples_per_second=rows / max(beat.seconds, 1e-6),
            samples_total=self._order.samples(step) - self._order.samples(self._first_step),
            tokens_total=self._tokens,
        )

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        logs = logs or {}
        for name in ("loss", "grad_norm"):
            value = logs.get(name)
            # A norm that is not finite is how the gradient scaler finds its scale: the step is left out.
            if value is None or math.isfinite(value) or (name == "grad_norm" and self._scaled):
                continue
            raise _not_finite(name.replace("_", "ient "), value, state.global_step)
        if "grad_norm" in logs and math.isfinite(logs["grad_norm"]):
            self._reporter.tell(grad_norm=float(logs["grad_norm"]))

    def on_substep_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._signs.note()

    def on_prediction_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._step_began = None
        self._signs.note()
        self._reporter.tell(phase=PodPhase.EVALUATING)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        self.evaluation = plain(metrics or {})
        self.evaluated_step = state.global_step
        self._step_began = None
        self._reporter.tell(phase=PodPhase.TRAINING, evaluation=self.evaluation)
        self._reporter.tell_left_out(f"The evaluation at step {state.global_step}", self.evaluation)

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        step = state.global_step
        folder = Path(args.output_dir) / f"checkpoint-{step}"
        problem = self._save.problem
        self._client.checkpoint(
            RankCheckpoint(
                step=step,
                rank=self._world.rank,
                files=tuple(own_files(folder, self._world)) if problem is None else (),
                best=state.best_global_step == step,
                problem=problem,
                size_bytes=self._save.size_bytes,
            )
        )
        self._pulse.saved()
        self._step_began = None


def own_files(folder: Path, world: World) -> list[str]:
    """Return the files of a checkpoint that this rank wrote. Rank 0 writes all but the other ranks' random states."""
    own_state = "rng_state.pth" if world.size == 1 else f"rng_state_{world.rank}.pth"
    if world.rank != 0:
        return [own_state]
    files = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return [name for name in files if name == own_state or not name.startswith("rng_state")]


def plain(metrics: dict[str, float]) -> dict[str, float]:
    """Return the metrics of an evaluation under their own names, `accuracy` and not `eval_accuracy`, without timings."""
    timings = ("runtime", "per_second", "preparation_time", "epoch")
    named = {name.removeprefix("eval_"): value for name, value in metrics.items()}
    return {name: float(value) for name, value in named.items() if not name.endswith(timings)}


def _scale(kwargs: dict[str, Any]) -> float | None:
    """Return the scale of the gradient scaler, where there is one. Reading it makes the accelerator wait."""
    scaler = getattr(kwargs.get("optimizer"), "scaler", None)
    return float(scaler.get_scale()) if scaler is not None else None


def _left_out(which: str) -> ExpectedError:
    return ExpectedError(
        Reason.NON_FINITE,
        f"In fp16 the gradient scaler has left out {which}: the loss or the gradients were not finite. The weights are as they "
        "were before.",
    )


def _not_finite(name: str, value: float, step: int) -> ExpectedError:
    return ExpectedError(
        Reason.NON_FINITE,
        f"The {name} at or shortly before step {step} is {value}: the weights are no longer of use.",
    )
