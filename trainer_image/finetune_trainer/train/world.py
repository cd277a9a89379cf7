"""The rank's place in the world, and the process group, made before the Trainer could make its own."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.shared import device_memory
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.train import device_messages


@dataclass(frozen=True)
class World:
    """The place of a rank in the world."""

    rank: int
    local_rank: int
    size: int
    cuda: bool
    messages: tuple[str, ...] = ()
    """Messages about the devices of this rank's pod."""

    @classmethod
    def from_environment(cls, accelerators: bool) -> World:
        """Read torchrun's variables. An accelerator that was given but can't be used is an error, not a slow run."""
        seen = torch.cuda.device_count() if torch.cuda.is_available() else 0
        ranks = int(os.environ["LOCAL_WORLD_SIZE"])
        if accelerators and not seen:
            raise ExpectedError(
                Reason.RANK_FAILED,
                "The job was given accelerators, but torch finds no usable CUDA device: is the driver of the node "
                f"older than CUDA {torch.version.cuda} needs?",
                cause=Cause.ERROR,
            )
        if accelerators and (problem := device_messages.too_few(seen=seen, ranks=ranks)) is not None:
            raise ExpectedError(Reason.RANK_FAILED, problem, cause=Cause.ERROR)
        return cls(
            rank=int(os.environ["RANK"]),
            local_rank=int(os.environ["LOCAL_RANK"]),
            size=int(os.environ["WORLD_SIZE"]),
            cuda=accelerators,
            messages=device_messages.messages(accelerators=accelerators, seen=seen, ranks=ranks),
        )

    def require_room(self, config: TaskConfig, model: Path) -> None:
        """Raise ExpectedError where this rank's device can't hold what the training of this model takes."""
        if not self.cuda:
            return
        size = int(torch.cuda.get_device_properties(self.local_rank).total_memory)
        if (problem := device_memory.problem(config, model, size)) is not None:
            raise ExpectedError(Reason.MODEL_TOO_LARGE, problem)

    def form(self, timeout_seconds: float) -> None:
        """Build the process group. On the CPU the Trainer would leave its timeout at 30 minutes, whatever is set."""
        timeout = timedelta(seconds=timeout_seconds)
        if self.cuda:
            torch.cuda.set_device(self.local_rank)
            dist.init_process_group("nccl", timeout=timeout, device_id=torch.device("cuda", self.local_rank))
        elif self.size > 1:
            dist.init_process_group("gloo", timeout=timeout)

    def control_group(self, timeout_seconds: float) -> Any:
        """Return a group over the CPUs for decisions: through the accelerators they would wait for each other."""
        if self.size == 1:
            return None
        if not self.cuda:
            return dist.group.WORLD
        return dist.new_group(backend="gloo", timeout=timedelta(seconds=timeout_seconds))

    def share(self, make: Callable[[], Any], group: Any) -> Any:
        """Return on every rank what rank 0 makes; the others wait for it."""
        values = [make() if self.rank == 0 else None]
        if self.size > 1:
            dist.broadcast_object_list(values, src=0, group=group)
        return values[0]

    def on_any(self, holds: bool, group: Any) -> bool:
        """Return whether something holds on any rank. All ranks must ask."""
        if self.size == 1:
            return holds
        shared = torch.tensor(int(holds))
        dist.all_reduce(shared, op=dist.ReduceOp.MAX, group=group)
        return bool(shared.item())

    def has_bf16(self) -> bool:
        """Return whether every rank's accelerator computes in bfloat16 itself, because all must train in the same precision."""
        if not self.cuda:
            return False
        has = torch.tensor(int(torch.cuda.is_bf16_supported(including_emulation=False)), device="cuda")
        if self.size > 1:
            dist.all_reduce(has, op=dist.ReduceOp.MIN)
        return bool(has.item())

    def check(self, arguments: Any) -> None:
        """Check that the Trainer sees the world that torchrun made: else each rank would train alone without a message."""
        from transformers.training_args import ParallelMode

        together = arguments.parallel_mode is ParallelMode.DISTRIBUTED or self.size == 1
        if arguments.world_size != self.size or not together or arguments.n_gpu > 1:
            raise ExpectedError(
                Reason.WORLD_SIZE_MISMATCH,
                f"torchrun started {self.size} ranks, the Trainer sees {arguments.world_size} "
                f"({arguments.parallel_mode}).",
                cause=Cause.ERROR,
            )
