"""The stock Trainer, but for four things: the order of rows, its loss told to the pulse, a note in each checkpoint, and
text that is generated in evaluation.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import DataLoader
from transformers import Trainer
from transformers.trainer_utils import seed_worker

from finetune_trainer.train.order import MicroBatches
from finetune_trainer.train.pulse import Pulse

NOTE = "finetune.json"
"""Beside the Trainer's own files in a checkpoint: what a resume must agree with."""


class RankTrainer(Trainer):
    """The Trainer of one rank."""

    def __init__(
        self,
        *,
        batches: MicroBatches,
        pulse: Pulse,
        note: dict[str, Any],
        generate: Callable[..., Any] | None = None,
        **kwargs: Any,
    ) -> None:
        reduce = kwargs.get("preprocess_logits_for_metrics")
        # What is kept of a batch is decided in `prediction_step` where text is generated: not once more in the loop.
        super().__init__(**(kwargs | {"preprocess_logits_for_metrics": None} if generate else kwargs))
        self._generate, self._reduce = generate, reduce
        self._batches = batches
        self._pulse = pulse
        self._note = note

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Micro-batches in the order of the global batch; accelerate deals them out to the ranks in turn."""
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
            batch_sampler=self._batches,  # any iterable with a length will do
            collate_fn=self.data_collator,
            num_workers=args.dataloader_num_workers,
            pin_memory=args.dataloader_pin_memory,
            **workers,
        )
        prepared: DataLoader[Any] = self.accelerator.prepare(loader)
        return prepared

    def training_step(self, *args: Any, **kwargs: Any) -> torch.Tensor:
        loss: torch.Tensor = super().training_step(*args, **kwargs)
        self._pulse.add(loss)
        return loss

    def prediction_step(
        self, model: Any, inputs: dict[str, Any], prediction_loss_only: bool, ignore_keys: list[str] | None = None
    ) -> tuple[Any, Any, Any]:
        """Loss and what metrics need of a batch; with `generate` the text that the model writes comes first."""
        if self._generate is None or self._reduce is None or prediction_loss_only:
            scored: tuple[Any, Any, Any] = super().prediction_step(model, inputs, prediction_loss_only, ignore_keys)
            return scored
        # One forward pass scores the labels; its keys and values would only take memory from the generation.
        inputs = {**self._prepare_inputs(inputs), "use_cache": False}
        labels = inputs["labels"]
        with torch.no_grad(), self.compute_loss_context_manager():
            loss, outputs = self.compute_loss(model, inputs, return_outputs=True)
            kept = self._reduce(outputs["logits"], labels)
            written = self._generate(self.model, inputs, outputs)
        return loss.detach().mean(), (written, *(kept if isinstance(kept, tuple) else (kept,))), labels

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        super()._save_checkpoint(*args, **kwargs)
        if self.args.should_save:
            folder = Path(self.args.output_dir) / f"checkpoint-{self.state.global_step}"
            (folder / NOTE).write_text(json.dumps(self._note), encoding="utf-8")


class _SeedWorker:
    """Seeds a loader's worker; an object, because spawned workers need to unpickle it."""

    def __init__(self, workers: int, rank: int) -> None:
        self._workers, self._rank = workers, rank

    def __call__(self, worker: int) -> None:
        seed_worker(worker, num_workers=self._workers, rank=self._rank)
