"""One rank's training, from the prepared data to the sealed model. Read top to bottom: `train` is the whole story."""

from __future__ import annotations

import inspect
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from transformers.utils import logging as transformers_logging

from finetune_trainer import tasks
from finetune_trainer.config import REPORT_FILE, Cause, PodPhase, Prepared, Reason, RunConfig, TrainingReport
from finetune_trainer.launch.protocol import RankEnv, RankModel
from finetune_trainer.paths import to_local
from finetune_trainer.tasks.base import Training
from finetune_trainer.train import defaults, resume
from finetune_trainer.train.callback import RankCallback, plain
from finetune_trainer.train.failures import TrainError
from finetune_trainer.train.launch_client import LaunchClient
from finetune_trainer.train.marks import Marks
from finetune_trainer.train.order import GlobalOrder, MicroBatches, by_length
from finetune_trainer.train.predict import Judge
from finetune_trainer.train.pulse import Pulse
from finetune_trainer.train.report import Reporter
from finetune_trainer.train.rows import Collator, Rows
from finetune_trainer.train.trainer import RankTrainer
from finetune_trainer.train.training_report import training_report
from finetune_trainer.train.world import World

DEFAULT_TIMEOUT_SECONDS = 1800


@dataclass(frozen=True)
class Trained:
    """How it ended."""

    step: int
    evaluation: dict[str, float] | None


def train(config: RunConfig, client: LaunchClient, reporter: Reporter) -> Trained:
    """Train as one rank; every rank of the world runs this."""
    started = datetime.now(UTC)
    marks = Marks()
    transformers_logging.disable_progress_bar()
    staging = Path(os.environ[RankEnv.STAGING])
    checkpoint = Path(os.environ[RankEnv.RESUME]) if os.environ.get(RankEnv.RESUME) else None
    world = World.from_environment(config.accelerators)
    plan = defaults.plan(config, cuda=world.cuda)
    # All that needs no data comes first, imports too: where node 0 prepares inline it takes place beside that.
    tasks.find(config.task)
    marks.done("imports")
    timeout_seconds = float(plan.arguments.get("ddp_timeout", DEFAULT_TIMEOUT_SECONDS))
    world.form(timeout_seconds)
    arguments = defaults.training_arguments(plan, str(staging))
    world.check(arguments)
    marks.done("process group")
    prepared = client.prepared()
    marks.done("data")
    reporter.tell(*plan.messages, precision=plan.precision, phase=PodPhase.STARTING)

    run = _Run(config, plan, prepared, arguments, world)
    if checkpoint is not None:
        resume.check(checkpoint, run.order)
    pulse = Pulse(
        world.size,
        world.rank,
        world.control_group(timeout_seconds),
        save_seconds=config.checkpoint_interval_seconds if plan.timed else None,
    )
    batches = MicroBatches(run.order, batch_size=arguments.train_batch_size, world_size=world.size)
    callback = RankCallback(world, client, reporter, pulse, batches, scaled=plan.precision == "fp16")
    trainer = run.trainer(batches, pulse, callback)
    marks.done("model")
    if world.rank == 0:
        print(marks, file=sys.stderr, flush=True)  # noqa: T201
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if plan.load_best:
        _load_best(trainer, client)
    evaluation = _last_evaluation(trainer, callback, best=plan.load_best)
    tested = run.judge.test(trainer, staging / "model")
    told = tested.beside(evaluation)
    reporter.tell(phase=PodPhase.SAVING, step=trainer.state.global_step, evaluation=told)
    if world.rank == 0:
        report = training_report(
            task=config.task,
            plan=plan,
            given=config.training_arguments,
            prepared=prepared,
            state=trainer.state,
            world=world,
            batch_rows=run.order.batch_rows,
            started=started,
            evaluation=evaluation,
            kept_step=_kept_step(trainer, best=plan.load_best),
            test=tested.metrics,
            details=run.judge.details(),
        )
        files = tuple(_save_model(trainer, staging / "model", report))
        client.model(RankModel(files=files, step=trainer.state.global_step, evaluation=told))
    return Trained(trainer.state.global_step, told)


class _Run:
    """What the Trainer is built from."""

    def __init__(
        self, config: RunConfig, plan: defaults.Plan, prepared: Prepared, arguments: Any, world: World
    ) -> None:
        self._task = tasks.find(config.task)
        self._config = config
        self._plan, self._prepared, self._arguments = plan, prepared, arguments
        folder = to_local(prepared.data)
        self._train_rows = Rows.from_file(folder / "train.arrow")
        validation = folder / "validation.arrow"
        self._validation = Rows.from_file(validation) if validation.is_file() else None
        self.order = GlobalOrder(
            lengths=self._train_rows.lengths,
            batch_rows=arguments.train_batch_size * arguments.gradient_accumulation_steps * world.size,
            seed=arguments.data_seed if arguments.data_seed is not None else arguments.seed,
            strategy=plan.strategy,
            drop_last=arguments.dataloader_drop_last,
        )

    def trainer(self, batches: MicroBatches, pulse: Pulse, callback: RankCallback) -> RankTrainer:
        from transformers import set_seed

        arguments = self._arguments
        set_seed(arguments.seed)  # the head's weights are drawn while loading
        model, tokenizer = self._task.load(to_local(self._prepared.model), self._prepared, self._config, {})
        # The loss is computed here, from logits: a forward that takes **kwargs and ignores the count of items would
        # have it scaled by the number of ranks and accumulation steps.
        model.accepts_loss_kwargs = False
        defaults.require_supported(arguments, model)
        arguments.load_best_model_at_end = False  # the best one is launch's to find, on the volume
        takes = {*inspect.signature(model.forward).parameters, *self._task.collates}
        run = Training(
            self._config, self._prepared, arguments, model, tokenizer, half_precision=self._plan.precision != "fp32"
        )
        validation = self._validation
        rows = validation.reading(takes).ordered(by_length(validation.lengths)) if validation else None
        self.judge = Judge(self._task, run, rows)
        try:
            return RankTrainer(
                batches=batches,
                pulse=pulse,
                note=resume.note(self.order),
                model=model,
                args=arguments,
                train_dataset=self._train_rows.reading(takes),
                eval_dataset=rows,
                data_collator=Collator(self._task.collator(run), keep_draw=self._task.draws),
                processing_class=tokenizer,
                compute_loss_func=self._task.loss(run),
                compute_metrics=self.judge,
                preprocess_logits_for_metrics=self._task.reduce(run),
                generate=self._task.generate(run),
                callbacks=[callback],
            )
        except ValueError as error:
            raise TrainError(Reason.ARGUMENTS_INVALID, Cause.USER, f"trainingArguments: {error}") from error


def _load_best(trainer: RankTrainer, client: LaunchClient) -> None:
    """The weights of the best checkpoint, from the volume."""
    best = trainer.state.best_global_step
    if best is None or best == trainer.state.global_step:
        return
    folder = client.sealed(best)
    if folder is None:
        raise TrainError(
            Reason.RANK_FAILED, Cause.ERROR, f"The best checkpoint, of step {best}, is not on the volume (any more)."
        )
    trainer.state.best_model_checkpoint = str(folder)
    trainer._load_best_model()


def _kept_step(trainer: RankTrainer, *, best: bool) -> int:
    """Step of the weights that the model has at the end."""
    found = trainer.state.best_global_step if best else None
    return int(trainer.state.global_step if found is None else found)


def _last_evaluation(trainer: RankTrainer, callback: RankCallback, *, best: bool) -> dict[str, float] | None:
    """Of the weights that are kept: run again unless the newest evaluation was of them."""
    if trainer.eval_dataset is None:
        return None
    step = trainer.state.global_step
    if callback.evaluated_step == step == _kept_step(trainer, best=best) and callback.evaluation is not None:
        return callback.evaluation
    return plain(trainer.evaluate())


def _save_model(trainer: RankTrainer, folder: Path, report: TrainingReport) -> list[str]:
    """Model and tokenizer, and the report: what else the Trainer saves (its arguments, pickled) is nothing to publish."""
    trainer.accelerator.unwrap_model(trainer.model).save_pretrained(folder)
    trainer.processing_class.save_pretrained(folder)
    (folder / REPORT_FILE).write_text(report.to_json() + "\n", encoding="utf-8")
    print(f"saved the model of step {trainer.state.global_step}", file=sys.stderr, flush=True)  # noqa: T201
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
