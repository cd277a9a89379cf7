"""The rank of `overhead`: steps of 50 ms, with and without all that this project adds to a step, in turn.

Started by a real `launch` through torchrun, so that reports are received. The steps sleep as a rank does whose
accelerator computes: the work of the rank's own threads shows in full, in wall time and in CPU time.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil
import torch
from transformers import Trainer, TrainerCallback
from transformers.integrations.integration_utils import KubeflowCallback

from benchmarks.stopwatch import Stopwatch
from finetune_trainer.contract.launch_protocol import RankEnv, RankResult
from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Outcome
from finetune_trainer.contract.run_config import Env, TaskConfig
from finetune_trainer.data.sampler import MicroBatchSampler
from finetune_trainer.shared.launch_client import LaunchClient
from finetune_trainer.train import defaults, recipe
from finetune_trainer.train.callback import RankCallback
from finetune_trainer.train.progress_reporter import Reporter
from finetune_trainer.train.pulse import Pulse
from finetune_trainer.train.volume_trouble import Save
from finetune_trainer.train.world import World

STEP_SECONDS = 0.05


@dataclass
class Round:
    """A training of some steps."""

    reporting: bool
    step_seconds: list[float]
    cpu_seconds: float
    """CPU time of all threads of the rank, a step."""
    callback_cpu_seconds: float
    """CPU time of the training thread, inside the callbacks that report, a step."""
    launch_cpu_seconds: float
    """CPU time of `launch`, a step."""


class Timed(TrainerCallback):  # type: ignore[misc]
    """A callback that passes on every event, and adds up the time that this takes."""

    def __init__(self, callback: TrainerCallback) -> None:
        self.seconds = 0.0
        for name in (name for name in dir(TrainerCallback) if name.startswith("on_")):
            setattr(self, name, self._timed(getattr(callback, name)))

    def _timed(self, handle: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.thread_time()
            try:
                return handle(*args, **kwargs)
            finally:
                self.seconds += time.thread_time() - began

        return timed


class Silence(Pulse):
    """A pulse that does not look at the loss."""

    def add(self, loss: torch.Tensor) -> torch.Tensor:
        """Return the loss unchanged."""
        return loss


class Bench:
    """The parts that a rank is made of, as `recipe.train` puts them together."""

    def __init__(self) -> None:
        self.config = TaskConfig.model_validate_json(Path(os.environ[Env.CONFIG]).read_text())
        self.client = LaunchClient.from_environment()
        self.world = World.from_environment(accelerators=False)
        self.plan = defaults.plan(self.config, cuda=False)
        self.prepared = self.client.prepared(PreparedTask)
        self.world.form(60)
        self.launch = psutil.Process(int(os.environ["LAUNCH_PID"]))

    def round(self, *, reporting: bool) -> Round:
        """Train once, with reports or without."""
        arguments = defaults.training_arguments(self.plan, os.environ[RankEnv.STAGING])
        run = recipe._Run(self.config, self.plan, self.prepared, arguments, self.world, print)
        batches = MicroBatchSampler(run.order, batch_size=arguments.train_batch_size, world_size=1)
        pulse = Pulse(1, 0, None, save_seconds=600)
        reporter = Reporter(self.client, active=reporting)
        save = Save()
        callback = RankCallback(self.world, self.client, reporter, pulse, batches, save, scaled=False)
        trainer = run.trainer(batches, pulse, save, [callback], None)
        reporters = [trainer.pop_callback(kind) for kind in (RankCallback, KubeflowCallback)]
        timed = [Timed(inner) for inner in reporters if reporting]
        if not reporting:
            trainer._pulse = Silence(1, 0, None, save_seconds=None)
        stopwatch = Stopwatch()
        for timer in timed:
            trainer.add_callback(timer)
        trainer.add_callback(stopwatch)
        _slow_down(trainer)
        cpu, launch_cpu = time.process_time(), self._launch_seconds()
        trainer.train()
        reporter.close()
        steps = len(stopwatch.ends)
        return Round(
            reporting=reporting,
            step_seconds=[later - sooner for sooner, later in zip(stopwatch.ends, stopwatch.ends[1:], strict=False)],
            cpu_seconds=(time.process_time() - cpu) / steps,
            callback_cpu_seconds=sum(timer.seconds for timer in timed) / steps,
            launch_cpu_seconds=(self._launch_seconds() - launch_cpu) / steps,
        )

    def _launch_seconds(self) -> float:
        times = self.launch.cpu_times()
        return float(times.user + times.system)


def _slow_down(trainer: Trainer) -> None:
    """Make each forward and backward pass take 50 ms in all."""
    compute = trainer.training_step

    def training_step(*args: Any, **kwargs: Any) -> torch.Tensor:
        end = time.perf_counter() + STEP_SECONDS
        loss = compute(*args, **kwargs)
        time.sleep(max(0.0, end - time.perf_counter()))
        return loss

    trainer.training_step = training_step


def main() -> None:
    """Run rounds with and without reports in turn; the first of each is a warm-up."""
    bench = Bench()
    rounds = [bench.round(reporting=bool(number % 2)) for number in range(2 * (int(os.environ["ROUNDS"]) + 1))]
    Path(os.environ["RESULT"]).write_text(json.dumps([asdict(measured) for measured in rounds[2:]]))
    bench.client.result(RankResult(rank=0, outcome=Outcome.STOPPED))
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
