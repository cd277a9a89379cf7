"""A program as a user writes it: two ranks train a small network, and say when the first step was over and how long the others took.

Imports nothing of this project but `report`, and runs without that as well.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

STEPS = 400
WIDTH = 384


def main() -> None:
    """Train, and write a JSON object to the file of RESULT."""
    dist.init_process_group("gloo")
    torch.manual_seed(0)
    layers = [torch.nn.Linear(WIDTH, WIDTH) for _ in range(4)]
    model = DistributedDataParallel(torch.nn.Sequential(*layers))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    ends = []
    for step in range(1, STEPS + 1):
        rows = torch.randn(64, WIDTH)
        loss = (model(rows) - rows).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        ends.append(time.monotonic())
        if os.environ.get("REPORTS"):
            from finetune_trainer import report

            report(step=step, total=STEPS, loss=float(loss))
    if dist.get_rank() == 0:
        measured = {
            "first_step_seconds": ends[0] - float(os.environ["STARTED"]),
            "steps_per_second": (STEPS - 1) / (ends[-1] - ends[0]),
        }
        Path(os.environ["RESULT"]).write_text(json.dumps(measured))
        Path(os.environ.get("OUTPUT_DIR", ".")).joinpath("config.json").write_text("{}")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
