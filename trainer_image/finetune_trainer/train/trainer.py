"""The Trainer of a rank: the stock Trainer with a few changes.

The order of rows is ours, and the loss goes to the pulse. Each checkpoint has a note, and every step that is the best so far
has a checkpoint. Evaluation keeps what metrics need, including text that the model generates.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from accelerate import DistributedType
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import seed_worker

from finetune_trainer.data.sampler import MicroBatchSampler
from finetune_trainer.shared.checkpoints.training_note import NOTE
from finetune_trainer.train.pulse import Pulse
from finetune_trainer.train.strict_json import make_strict
from finetune_trainer.train.volume_trouble import Save, volume_trouble


class BatchFailedError(Exception):
    """A batch of an evaluation failed, on this rank or another one."""


class RankTrainer(Trainer):
    """The Trainer of one rank."""

    def __init__(
        self,
        *,
        batches: MicroBatchSampler,
        pulse: Pulse,
        save: Save,
        note: dict[str, Any],
        reduce: Callable[..., Any],
        generate: Callable[..., Any] | None = None,
        reads_labels: bool = True,
        keep_best: bool = False,
        no_cache: bool = False,
        balance: float = 0.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._batches, self._pulse, self._note = batches, pulse, note
        self._own_save, self._saving = save, False
        self._reduce, self._generate, self._reads_labels = reduce, generate, reads_labels
        self._keep_best = keep_best
        self.fails_together: Callable[[bool], bool] | None = None
        """Returns whether a batch failed on any rank; set once training is over, when evaluations may fail."""
        self._balance = balance
        # Keys and values of all layers would be kept for tokens that nobody generates.
        self._always = {"use_cache": False} if no_cache else {}
        if self.args.world_size == 1 and self.accelerator.distributed_type is DistributedType.MULTI_CPU:
            # On an accelerator accelerate sees no world in one rank; on a CPU the rank would exchange gradients with
            # itself.
            self.accelerator.state.distributed_type = DistributedType.NO
        # Labels stand where their predictions do, for causal models too: every label that is not ignored counts.
        self._loss_shifts_labels = False

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return micro-batches in the order of the global batch; accelerate deals them out to the ranks in turn."""
        args = self.args
        workers: dict[str, Any] = {}
        if args.dataloader_num_workers > 0:
            workers = {
                "persistent_workers": args.dataloader_persistent_workers,
                "prefetch_factor": args.dataloader_prefetch_factor,
                "multiprocessing_context": args.dataloader_multiprocessing_context,
                "worker_init_fn": _SeedWorker(args.dataloader_num_workers, args.process_index),
            }
        loader: DataLoader[Any] = DataLoader(
            self.train_dataset,
            batch_sampler=self._batches,  # any iterable with a length is accepted
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            **workers,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        return self._pulse.add(loss)

    def compute_loss(
        self,
        model: Any,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Any:
        """Compute the task's loss and, for a model that spreads tokens over its experts, the loss that balances them."""
        loss, outputs = super().compute_loss(model, {**inputs, **self._always}, True, num_items_in_batch)
        if self._balance and outputs.get("aux_loss") is not None:
            # The balancing loss is that of a micro-batch, the task's that of the global batch: the division makes it a mean.
            loss = loss + self._balance * outputs["aux_loss"].to(loss.device) / self.current_gradient_accumulation_steps
        return (loss, outputs) if return_outputs else loss

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Any, Any, Any]:
        """Return what metrics need of a batch.

        Once training is over, a batch that fails on one rank raises BatchFailedError on all.
        """
        if self.fails_together is None:
            return self._predicted(model, inputs)
        predicted, failure = None, None
        try:
            predicted = self._predicted(model, inputs)
        except Exception as error:  # noqa: BLE001 - the other ranks wait to hear of it, whatever it is
            failure = error
        if not self.fails_together(failure is not None):
            assert predicted is not None
            return predicted
        if failure is None:
            raise BatchFailedError("it failed on another rank")
        raise BatchFailedError(f"{type(failure).__name__}: {failure}") from failure

    def _predicted(self, model: Any, inputs: dict[str, Any]) -> tuple[Any, Any, Any]:
        """Return the predictions for a batch, and the loss of its rows among them; text that the model writes comes first.

        Logits are reduced here, before those of all ranks are padded to one shape: with a large vocabulary there would be two
        copies.
        """
        inputs = self._prepare_inputs(inputs)
        labels = inputs["labels"]
        forward = {name: value for name, value in inputs.items() if name != "labels"} | self._always
        with torch.no_grad(), self.compute_loss_context_manager():
            outputs = model(**forward)
            kept = self._reduce(_logits(outputs), labels)
            if not self._reads_labels:
                labels = labels[:, :1]
            if self._generate is None:
                return None, kept, labels
            with self.accelerator.autocast():  # `generate` bypasses the forward that computes in half precision
                written = self._generate(self.model, forward, outputs)
        return None, (written, *(kept if isinstance(kept, tuple) else (kept,))), labels

    def _determine_best_metric(self, *args: Any, **kwargs: Any) -> bool:
        """Save a step that is the best so far, or there would be nothing to load at the end."""
        best: bool = super()._determine_best_metric(*args, **kwargs)
        self.control.should_save = self.control.should_save or (best and self._keep_best)
        return best

    def _run_epoch(self, **kwargs: Any) -> None:
        """Run no epoch where training is over before it begins: the stock loop would take one step first."""
        if not self.control.should_training_stop:
            super()._run_epoch(**kwargs)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint. Where the volume does not accept it, this rank writes none, but takes part in what all ranks do
        together.
        """
        self._own_save.begin()
        self._saving = True
        try:
            self._written(super()._save_checkpoint, *args, **kwargs)
            if self.args.should_save:
                self._written(self._write_note)
                self._written(self._write_strict_state)
        finally:
            self._saving = False
        if self._own_save.is_full():
            self._own_save.size_bytes = self._checkpoint_bytes()

    def save_model(self, *args: Any, **kwargs: Any) -> None:
        self._written(super().save_model, *args, **kwargs)

    def _save_optimizer_and_scheduler(self, *args: Any, **kwargs: Any) -> None:
        self._written(super()._save_optimizer_and_scheduler, *args, **kwargs)

    def _save_scaler(self, *args: Any, **kwargs: Any) -> None:
        self._written(super()._save_scaler, *args, **kwargs)

    def _save_rng_state(self, *args: Any, **kwargs: Any) -> None:
        self._written(super()._save_rng_state, *args, **kwargs)

    def _written(self, write: Callable[..., None], *args: Any, **kwargs: Any) -> None:
        """Write a part of a checkpoint, unless the volume refused another part of it."""
        if not self._saving:
            write(*args, **kwargs)
            return
        if self._own_save.refused():
            return
        try:
            write(*args, **kwargs)
        except Exception as error:
            if self._own_save.refused():
                return  # the error follows from what was not written before
            trouble = volume_trouble(error, Path(self.args.output_dir))
            if trouble is None:
                raise
            self._own_save.trouble = trouble

    def _write_note(self) -> None:
        folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
        (folder / NOTE).write_text(json.dumps(self._note), encoding="utf-8")

    def _write_strict_state(self) -> None:
        make_strict(Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}" / TRAINER_STATE_NAME)

    def _checkpoint_bytes(self) -> int:
        """Estimate the size of a checkpoint: trained weights, and what the optimizer keeps of them."""
        weights = [weight for weight in self.model.parameters() if weight.requires_grad]
        kept = [
            value
            for state in (self.optimizer.state.values() if self.optimizer is not None else ())
            for value in state.values()
            if isinstance(value, torch.Tensor)
        ]
        return sum(tensor.numel() * tensor.element_size() for tensor in (*weights, *kept))


class _SeedWorker:
    """The seeding of a loader's worker; a class, because spawned workers must unpickle it."""

    def __init__(self, workers: int, rank: int) -> None:
        self._workers, self._rank = workers, rank

    def __call__(self, worker: int) -> None:
        seed_worker(worker, num_workers=self._workers, rank=self._rank)


def takes_use_cache(model: Any) -> bool:
    """Return whether a model can be told to keep no keys and values.

    It has an option for that, or it passes options on to what writes text or to its part for text.
    """
    parameters = inspect.signature(model.forward).parameters
    hands_on = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    to_its_text = hasattr(getattr(model.config, "text_config", None), "use_cache")
    return "use_cache" in parameters or (hands_on and (model.can_generate() or to_its_text))


def _logits(outputs: Any) -> Any:
    """Return the outputs that a task scores, by name: models put other outputs before or after them."""
    if "logits" in outputs:
        return outputs["logits"]
    return outputs["start_logits"], outputs["end_logits"]
