"""A loop with Accelerate that saves with `save_state`, and goes on from the checkpoint that `--resume_from_checkpoint` names."""

from __future__ import annotations

import argparse
import json
import os
import signal
from pathlib import Path

import torch
from accelerate import Accelerator

import finetune_trainer

STEPS, SAVE_STEPS = 8, 2


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output_dir", type=Path, required=True)
    parser.add_argument("--resume_from_checkpoint", type=Path)
    parser.add_argument("--die_after", type=int, default=0)
    arguments = parser.parse_args()

    accelerator = Accelerator()
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    model, optimizer = accelerator.prepare(model, optimizer)
    done = 0
    if arguments.resume_from_checkpoint is not None:
        accelerator.load_state(arguments.resume_from_checkpoint)
        done = int(arguments.resume_from_checkpoint.name.removeprefix("step_"))
    rank, world = accelerator.process_index, accelerator.num_processes
    seen = {"rank": rank, "world": world, "done": done, "node": int(os.environ["NODE_RANK"]), "momentum": 0.0}
    if done:
        seen["momentum"] = float(next(iter(optimizer.state.values()))["momentum_buffer"].abs().sum())
    (arguments.output_dir / f"seen-{rank}.json").write_text(json.dumps(seen))

    for step in range(done + 1, STEPS + 1):
        rows = torch.randn(4, 4, generator=torch.Generator().manual_seed(step * world + rank))
        loss = (model(rows).squeeze(-1) - rows.sum(-1)).square().mean()
        optimizer.zero_grad()
        accelerator.backward(loss)
        optimizer.step()
        finetune_trainer.report(step=step, total=STEPS, loss=loss.item())
        if step % SAVE_STEPS == 0:
            accelerator.save_state(arguments.output_dir / f"step_{step}")
            accelerator.wait_for_everyone()
        if step == arguments.die_after:
            os.kill(os.getpid(), signal.SIGKILL)
    accelerator.wait_for_everyone()
    accelerator.save_model(model, arguments.output_dir / "final")
    accelerator.end_training()


if __name__ == "__main__":
    main()
