"""A loop of the user's own in plain torch: ranks average their gradients, rank 0 saves, and it looks for its newest checkpoint itself."""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist

import finetune_trainer

STEPS, SAVE_STEPS, MOMENTUM, RATE = 10, 2, 0.9, 0.05


def newest(output: Path) -> Path | None:
    return max(output.glob("step_*"), key=lambda folder: int(folder.name.removeprefix("step_")), default=None)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--hang_at", type=int, default=0, help="hang in the middle of this step's checkpoint")
    arguments = parser.parse_args()

    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 2)
    velocity = [torch.zeros_like(weights) for weights in model.parameters()]
    done, checkpoint = 0, newest(arguments.output_dir)
    if checkpoint is not None:
        state = torch.load(checkpoint / "state.pt")
        model.load_state_dict(state["model"])
        velocity, done = state["velocity"], state["step"]
    print(f"rank {rank} of {world} goes on from step {done}: {checkpoint and checkpoint.name}", flush=True)

    for step in range(done + 1, STEPS + 1):
        rows = torch.randn(4, 8, generator=torch.Generator().manual_seed(step * world + rank))
        loss = (model(rows) - rows[:, :2].tanh()).square().mean()
        model.zero_grad()
        loss.backward()
        with torch.no_grad():
            for weights, speed in zip(model.parameters(), velocity, strict=True):
                dist.all_reduce(weights.grad)
                speed.mul_(MOMENTUM).add_(weights.grad, alpha=1 / world)
                weights.sub_(speed, alpha=RATE)
        finetune_trainer.report(step=step, total=STEPS, loss=loss.item(), metrics={"error": loss.item()})
        if step % SAVE_STEPS == 0 and rank == 0:
            folder = arguments.output_dir / f"step_{step}"
            folder.mkdir(exist_ok=True)
            if step == arguments.hang_at:
                (folder / "state.pt.tmp").write_bytes(b"half of it")
                time.sleep(3600)
            torch.save({"model": model.state_dict(), "velocity": velocity, "step": step}, folder / "state.pt")
        dist.barrier()
    if rank == 0:
        torch.save(model.state_dict(), Path(os.environ["OUTPUT_DIR"]) / "model.pt")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
