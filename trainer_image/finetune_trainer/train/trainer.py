"""The stock Trainer, but for three things: the order of rows, its loss told to the pulse, a note in each checkpoint."""

from __future__ import annotations

import json
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

    def __init__(self, *, batches: MicroBatches, pulse: Pulse, note: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
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
