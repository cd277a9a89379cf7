"""The training of one rank, from the prepared data to the sealed model. Read it from top to bottom: `train` is all of it."""

from __future__ import annotations

import inspect
import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any

from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging

from finetune_trainer import tasks
from finetune_trainer.contract.launch_protocol import RankEnv, RankModel
from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import PodPhase, Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.contract.training_report import REPORT_FILE, TrainingReport
from finetune_trainer.data.prepared_dataset import Collator, PreparedDataset
from finetune_trainer.data.sampler import GlobalBatchOrder, MicroBatchSampler, by_length
from finetune_trainer.shared import host, startup
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.launch_client import LaunchClient, LaunchError
from finetune_trainer.shared.paths import to_local
from finetune_trainer.tasks.task import Training
from finetune_trainer.train import balance, defaults, precision, resume_check, towers, unused_weights
from finetune_trainer.train.callback import RankCallback, plain
from finetune_trainer.train.early_stopping import EarlyStopper
from finetune_trainer.train.predict import Judge, Tested, kept_without
from finetune_trainer.train.progress_reporter import Reporter
from finetune_trainer.train.pulse import Pulse
from finetune_trainer.train.report_of_training import training_report
from finetune_trainer.train.startup_timer import StartupTimer
from finetune_trainer.train.trainer import RankTrainer, takes_use_cache
from finetune_trainer.train.volume_trouble import Save, until_written
from finetune_trainer.train.world import World

if TYPE_CHECKING:
    from finetune_trainer.train.adapters import Adapters

DEFAULT_TIMEOUT_SECONDS = 1800.0
PROCESSOR_FILES = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")
"""Files that say how pictures and sounds become what a model reads. Training does not change them."""


@dataclass(frozen=True)
class Trained:
    """Result of a training."""

    step: int
    evaluation: dict[str, float] | None


def train(config: TaskConfig, client: LaunchClient, reporter: Reporter) -> Trained:
    """Train as one rank; every rank of the world runs this."""
    started = datetime.now(UTC)
    startup_timer = StartupTimer()
    transformers_logging.disable_progress_bar()
    staging = Path(os.environ[RankEnv.STAGING])
    checkpoint = Path(os.environ[RankEnv.RESUME]) if os.environ.get(RankEnv.RESUME) else None
    world = World.from_environment(config.accelerators)
    # Everything that needs no data comes first, imports too: where node 0 prepares inline, both happen at the same time.
    tasks.find(config.task)
    startup_timer.done("imports")
    timeout_seconds = _timeout_seconds(config)
    world.form(timeout_seconds)
    cores = host.cores() // config.processes_per_node
    plan = defaults.plan(config, cuda=world.cuda, bf16=world.has_bf16(), cores=cores)
    arguments = defaults.training_arguments(plan, str(staging))
    world.check(arguments)
    startup_timer.done("process group")
    prepared = client.prepared(PreparedTask)
    startup_timer.done("data")
    world.require_room(config, to_local(prepared.model))
    reporter.tell(*world.messages, *plan.messages, precision=plan.precision, phase=PodPhase.STARTING)

    run = _Run(config, plan, prepared, arguments, world, reporter.tell)
    if checkpoint is not None:
        run.order = resume_check.order_of(checkpoint, run.order)
        resume_check.check(checkpoint, run.order, prepared)
    control = world.control_group(timeout_seconds)
    pulse = Pulse(
        world.size,
        world.rank,
        control,
        save_seconds=config.checkpoint_interval_seconds if plan.timed else None,
        scaled=plan.precision == "fp16",
    )
    batches = MicroBatchSampler(run.order, batch_size=arguments.train_batch_size, world_size=world.size)
    save = Save()
    callback = RankCallback(
        world, client, reporter, pulse, batches, save, startup_timer=startup_timer, scaled=plan.precision == "fp16"
    )
    trainer = run.trainer(batches, pulse, save, [callback, *_early_stopping(config, plan, reporter)], control)
    startup_timer.done("model")
    if world.rank == 0:
        print(startup_timer, file=sys.stderr, flush=True)  # noqa: T201
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    run.judge.over = True
    on_any = partial(world.on_any, group=control)
    trainer.fails_together = on_any
    if plan.load_best:
        _load_best(trainer, client, reporter, on_any)
    evaluation, tested = _last_scores(trainer, run.judge, callback, staging / "model", reporter, best=plan.load_best)
    evaluation_and_test = tested.beside(evaluation)
    reporter.tell(phase=PodPhase.SAVING, step=trainer.state.global_step, evaluation=evaluation_and_test)
    if world.rank == 0:
        report = training_report(
            task=config.task,
            plan=plan,
            user_arguments=config.training_arguments,
            prepared=prepared,
            state=trainer.state,
            world=world,
            batch_rows=run.order.batch_rows,
            started=started,
            evaluation=evaluation,
            kept_step=_kept_step(trainer, best=plan.load_best),
            test=tested.metrics,
            details=run.judge.details(),
            packages=startup.packages_of(config),
        )
        folder, base = staging / "model", to_local(prepared.model)
        files = until_written(
            lambda: tuple(_save_model(trainer, run.adapters, base, folder, report)), staging, reporter.tell
        )
        client.model(RankModel(files=files, step=trainer.state.global_step, evaluation=evaluation_and_test))
    return Trained(trainer.state.global_step, evaluation_and_test)


def _timeout_seconds(config: TaskConfig) -> float:
    """Return the timeout of an exchange between ranks."""
    timeout = config.training_arguments.get("ddp_timeout")
    return float(timeout) if isinstance(timeout, int | float) else DEFAULT_TIMEOUT_SECONDS


class _Run:
    """The parts that the Trainer is built from."""

    def __init__(
        self,
        config: TaskConfig,
        plan: defaults.Plan,
        prepared: PreparedTask,
        arguments: Any,
        world: World,
        tell: Callable[[str], None],
    ) -> None:
        self._task, self._tell = tasks.find(config.task), tell
        self._config, self._world = config, world
        self._plan, self._prepared, self._arguments = plan, prepared, arguments
        folder = to_local(prepared.data)
        self._train_rows = PreparedDataset.from_file(folder / "train.arrow")
        validation = folder / "validation.arrow"
        self._validation = PreparedDataset.from_file(validation) if validation.is_file() else None
        self.order = GlobalBatchOrder(
            lengths=self._train_rows.lengths,
            batch_rows=arguments.train_batch_size * arguments.gradient_accumulation_steps * world.size,
            seed=arguments.data_seed if arguments.data_seed is not None else arguments.seed,
            strategy=plan.strategy,
            drop_last=arguments.dataloader_drop_last,
        )
        self.adapters: Adapters | None = None
        if config.peft is not None:
            from finetune_trainer.train.adapters import Adapters

            self.adapters = Adapters(self._task, config, prepared, plan.precision, world.local_rank)

    def trainer(
        self, batches: MicroBatchSampler, pulse: Pulse, save: Save, callbacks: list[TrainerCallback], control: Any
    ) -> RankTrainer:
        from transformers import set_seed

        arguments = self._arguments
        set_seed(arguments.seed)  # the weights of head and adapters are drawn here
        options = self.adapters.options() if self.adapters else {}
        model, tokenizer = self._task.load(to_local(self._prepared.model), self._prepared, self._config, options)
        # The loss is computed here, from logits. Without this the Trainer would scale it by ranks and accumulation steps where a
        # forward takes **kwargs and ignores the count of items.
        model.accepts_loss_kwargs = False
        if frozen := towers.freeze(model):
            self._tell(towers.message(frozen))
        defaults.require_supported(arguments, model)
        if (message := unused_weights.adjust_arguments(arguments, self._config, model)) is not None:
            self._tell(message)
        arguments.load_best_model_at_end = False  # launch finds the best one, on the volume
        arguments.dataloader_drop_last = False  # the order of training handles it; evaluations would lose rows too
        columns = {*inspect.signature(model.forward).parameters, *self._task.collates}
        checkpointing = bool(arguments.activation_checkpointing)
        trained = self.adapters.wrap(model, checkpointing=checkpointing) if self.adapters else model
        if self.adapters and self._world.rank == 0:
            print(self.adapters.summary(trained), file=sys.stderr, flush=True)  # noqa: T201
        run = Training(
            self._config, self._prepared, arguments, model, tokenizer, half_precision=self._plan.precision != "fp32"
        )
        validation = self._validation
        rows = validation.reading(columns).ordered(by_length(validation.lengths)) if validation else None
        self.judge = Judge(self._task, run, rows, partial(self._world.share, group=control), self._tell)
        try:
            return RankTrainer(
                batches=batches,
                pulse=pulse,
                save=save,
                note=resume_check.note(self.order, self._prepared),
                reduce=self._task.reduce(run),
                generate=self._task.generate(run),
                reads_labels=self._task.reads_labels,
                keep_best=self._plan.load_best,
                no_cache=takes_use_cache(model),
                balance=balance.weight(model),
                model=trained,
                args=arguments,
                train_dataset=self._train_rows.reading(columns),
                eval_dataset=rows,
                data_collator=Collator(self._task.collator(run), keep_draw=self._task.draws),
                processing_class=tokenizer,
                compute_loss_func=self._task.loss(run),
                compute_metrics=self.judge,
                callbacks=callbacks,
            )
        except ValueError as error:
            raise ExpectedError(Reason.ARGUMENTS_INVALID, f"trainingArguments: {error}") from error


def _early_stopping(config: TaskConfig, plan: defaults.Plan, reporter: Reporter) -> list[TrainerCallback]:
    if config.early_stopping is None:
        return []
    return [
        EarlyStopper(
            patience=config.early_stopping.patience,
            threshold=config.early_stopping.threshold,
            metric=plan.arguments["metric_for_best_model"],
            greater=plan.arguments["greater_is_better"],
            tell=reporter.tell,
        )
    ]


def _load_best(trainer: RankTrainer, client: LaunchClient, reporter: Reporter, on_any: Callable[[bool], bool]) -> None:
    """Load the weights of the best checkpoint from the volume, or keep those of the last step where a node can't use it."""
    best = trainer.state.best_global_step
    if best is None:
        metric = trainer.args.metric_for_best_model
        reporter.tell(f"No evaluation gave a finite number for {metric}: the weights of the last step are kept.")
    if best is None or best == trainer.state.global_step:
        return
    problem = None
    try:
        trainer.state.best_model_checkpoint = str(client.sealed(best))
    except LaunchError as error:
        if error.status != HTTPStatus.NOT_FOUND:
            raise
        problem = error.answer
    if on_any(problem is not None):
        trainer.state.best_global_step = trainer.state.best_model_checkpoint = None
        why = "another rank can't read it" if problem is None else problem
        reporter.tell(
            f"The best checkpoint, of step {best}, can't be used: {why}. The weights of the last step are kept."
        )
        return
    trainer._load_best_model()


def _kept_step(trainer: RankTrainer, *, best: bool) -> int:
    """Return the step of the weights that the model has at the end."""
    best_step = trainer.state.best_global_step if best else None
    return int(trainer.state.global_step if best_step is None else best_step)


def _last_scores(
    trainer: RankTrainer, judge: Judge, callback: RankCallback, folder: Path, reporter: Reporter, *, best: bool
) -> tuple[dict[str, float] | None, Tested]:
    """Return the evaluation of the kept weights, and the test, whose predictions go into `folder`.

    The model is kept without them where they fail, for example for lack of memory after a training that had enough. A batch
    that fails on one rank fails on all, so that none waits for it.
    """

    def evaluated() -> dict[str, float] | None:
        return _last_evaluation(trainer, callback, best=best)

    def tested() -> Tested:
        return judge.test(trainer, folder)

    evaluation = kept_without("metrics of the last evaluation", evaluated, None, reporter.tell)
    test = kept_without("metrics of the test split", tested, Tested(), reporter.tell)
    reporter.tell_left_out("The test split", test.metrics or {})
    return evaluation, test


def _last_evaluation(trainer: RankTrainer, callback: RankCallback, *, best: bool) -> dict[str, float] | None:
    """Evaluate the kept weights, unless the newest evaluation was of them."""
    if trainer.eval_dataset is None:
        return None
    step = trainer.state.global_step
    if callback.evaluated_step == step == _kept_step(trainer, best=best) and callback.evaluation is not None:
        return callback.evaluation
    return plain(trainer.evaluate())


def _save_model(
    trainer: RankTrainer, adapters: Adapters | None, base: Path, folder: Path, report: TrainingReport
) -> list[str]:
    """Save model, tokenizer, processor and report; return the files.

    Other files that the Trainer saves (its arguments, pickled) are not to be published. `base` is the folder of the model
    that this one was made from.
    """
    model = trainer.accelerator.unwrap_model(trainer.model)
    if adapters is None:
        precision.as_in(base, model)
        model.save_pretrained(folder)
    else:
        adapters.save(model, folder)
    trainer.processing_class.save_pretrained(folder)
    for name in PROCESSOR_FILES:
        if (base / name).is_file():
            shutil.copyfile(base / name, folder / name)
    (folder / REPORT_FILE).write_text(report.to_json() + "\n", encoding="utf-8")
    print(f"saved the model of step {trainer.state.global_step}", file=sys.stderr, flush=True)  # noqa: T201
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
