"""fp16: what the gradient scaler leaves out is no failure, unless it goes on. The real Trainer and torch's scaler, on the CPU."""

from __future__ import annotations

import math
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import pytest
import torch

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.data.sampler import MicroBatchSampler
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.launch_client import LaunchClient
from finetune_trainer.train import defaults, recipe
from finetune_trainer.train.callback import RankCallback
from finetune_trainer.train.progress_reporter import Reporter
from finetune_trainer.train.pulse import Pulse
from finetune_trainer.train.trainer import RankTrainer
from finetune_trainer.train.volume_trouble import Save
from finetune_trainer.train.world import World
from tests.support.runs import run_config
from tests.support.tiny import reviews, tiny_bert, write_rows

ALL = range(10_000)


class Told(Reporter):
    """A reporter that keeps what it is told."""

    def __init__(self) -> None:
        super().__init__(LaunchClient("http://nowhere", "token"), active=False)
        self.messages: list[str] = []
        self.fields: dict[str, Any] = {}

    def tell(self, *messages: str, **fields: Any) -> None:
        self.messages += messages
        self.fields |= fields


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> tuple[Callable[..., TaskConfig], PreparedTask]:
    folder = tmp_path_factory.mktemp("scaler")
    model, train = tiny_bert(folder / "model"), write_rows(folder / "train.csv", reviews(64))

    def config(**arguments: Any) -> TaskConfig:
        common = {"logging_steps": 1, "per_device_train_batch_size": 4, "max_grad_norm": 0, "learning_rate": 1e-3}
        return run_config(folder / "output", model=model, train=train, arguments={**common, **arguments})

    return config, prepare(config())


def trained(
    ready: tuple[Callable[..., TaskConfig], PreparedTask], folder: Path, *, steps: int, bad: Container[int]
) -> tuple[RankTrainer, Told]:
    """Train with a scaler; the logits of the steps that are `bad` overflow, as half precision has it."""
    make, prepared = ready
    config = make(max_steps=steps)
    plan, world, reporter = defaults.plan(config, cuda=False), World(0, 0, 1, cuda=False), Told()
    arguments = defaults.training_arguments(plan, str(folder))
    run = recipe._Run(config, plan, prepared, arguments, world, reporter.tell)
    batches = MicroBatchSampler(run.order, batch_size=arguments.train_batch_size, world_size=1)
    pulse, save = Pulse(1, 0, None, save_seconds=None, scaled=True), Save()
    callback = RankCallback(world, LaunchClient("http://nowhere", "token"), reporter, pulse, batches, save, scaled=True)
    trainer = run.trainer(batches, pulse, save, [callback], None)
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")

    def overflow(model: Any, inputs: Any, outputs: Any) -> Any:
        if trainer.state.global_step + 1 in bad:
            outputs["logits"] = outputs["logits"] * math.inf
        return outputs

    trainer.model.register_forward_hook(overflow)
    trainer.train()
    return trainer, reporter


def test_a_step_whose_loss_is_not_finite_is_left_out_and_said(
    ready: tuple[Callable[..., TaskConfig], PreparedTask], tmp_path: Path
) -> None:
    trainer, reporter = trained(ready, tmp_path, steps=8, bad={3})
    assert trainer.state.global_step == 8
    assert all(torch.isfinite(weight).all() for weight in trainer.model.parameters())
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert len(losses) == 8
    assert all(0 < loss < 2 for loss in losses)
    assert 0 < reporter.fields["loss"] < 2
    assert trainer.accelerator.scaler.get_scale() == reporter.fields["loss_scale"] == 65536 / 2
    (message,) = reporter.messages
    assert message.startswith("The loss was not finite at or shortly before step ")
    assert message.endswith("(1 times so far): in fp16 such steps are left out.")


@pytest.mark.parametrize(
    ("steps", "bad", "message"),
    [
        (120, range(20, 200), "until the scale of the gradients fell to "),
        (5, ALL, "left out all 5 steps: the loss or the gradients were not finite"),
    ],
    ids=["from some step on", "a short training"],
)
def test_where_it_goes_on_training_ends_in_words(
    steps: int, bad: range, message: str, ready: tuple[Callable[..., TaskConfig], PreparedTask], tmp_path: Path
) -> None:
    with pytest.raises(ExpectedError, match=message) as raised:
        trained(ready, tmp_path, steps=steps, bad=bad)
    assert (raised.value.reason, raised.value.cause) == (Reason.NON_FINITE, Cause.USER)


def test_the_loss_of_the_world_leaves_out_what_is_not_finite() -> None:
    """A loss is left out only with a scaler: without one it is what is reported, and an error."""
    for scaled, expected in ((True, 2.0), (False, math.nan)):
        pulse = Pulse(1, 0, None, save_seconds=None, scaled=scaled)
        pulse._next = 3
        logged = []
        for losses in ((1.0, 0.5), (0.5, math.nan), (0.5, 2.0)):
            logged += [float(pulse.add(torch.tensor(loss))) for loss in losses]
            beat = pulse.step()
        assert beat is not None
        assert beat.loss == pytest.approx(expected, nan_ok=True)
        assert beat.left_out == int(scaled)
        assert logged == pytest.approx([1.0, 0.5, 0.5, 0.5 if scaled else math.nan, 0.5, 2.0], nan_ok=True)
