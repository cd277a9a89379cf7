"""A script with the Trainer, of the shape of transformers' examples: it looks into its output folder for a checkpoint by itself."""

from __future__ import annotations

import os
import signal
import sys
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers import HfArgumentParser, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_utils import get_last_checkpoint


@dataclass
class Extra:
    die_after: int = field(default=0, metadata={"help": "step after which the machine takes the process away"})


class Regression(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.head = torch.nn.Linear(4, 1)

    def forward(self, x: torch.Tensor, labels: torch.Tensor) -> dict[str, torch.Tensor]:
        answers = self.head(x).squeeze(-1)
        return {"loss": (answers - labels).square().mean(), "logits": answers}


class Death(TrainerCallback):
    def __init__(self, step: int) -> None:
        self.step = step

    def on_step_end(self, _: Any, state: Any, *__: Any, **___: Any) -> None:
        if state.global_step == self.step:
            sys.stdout.flush()
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    arguments, extra = HfArgumentParser((TrainingArguments, Extra)).parse_args_into_dataclasses()
    rows = torch.randn(64, 4, generator=torch.Generator().manual_seed(1))
    data = [{"x": row, "labels": row.sum()} for row in rows]
    torch.manual_seed(arguments.seed)
    trainer = Trainer(Regression(), arguments, train_dataset=data, callbacks=[Death(extra.die_after)])
    newest = get_last_checkpoint(arguments.output_dir)
    print("newest checkpoint:", newest, flush=True)
    trainer.train(resume_from_checkpoint=newest)
    trainer.save_model()
    trainer.save_state()


if __name__ == "__main__":
    main()
