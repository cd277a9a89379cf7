"""The loss of many tokens with its gradient, beside torch's own cross entropy: forward and backward, fp32, one CPU thread."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch.nn.functional import cross_entropy

from benchmarks.common import Figure, Table
from finetune_trainer.data.column_request import IGNORED_LABEL
from finetune_trainer.tasks import token_loss

RUNS = 5
VOCABULARY = 30_522
CASES = (
    (2048, 0.0, 0.0, "all learnt"),
    (2048, 0.0, 0.1, "all learnt, label smoothing 0.1"),
    (2048, 0.3, 0.0, "three in ten ignored"),
    (2048, 0.8, 0.0, "eight in ten ignored"),
    (80, 0.3, 0.0, "three in ten ignored"),
)
"""Tokens, share of ignored labels, label smoothing, and name of each case."""
Loss = Callable[[torch.Tensor], torch.Tensor]


def main(runs: int = RUNS) -> tuple[Table, ...]:
    """Run each case, with both losses in turn."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    figures = tuple(_compared(*case, runs) for case in CASES)
    return (Table(f"loss of tokens, vocabulary of {VOCABULARY:,}", figures, ("cross_entropy", "ours")),)


def _compared(tokens: int, ignored: float, smoothing: float, name: str, runs: int) -> Figure:
    logits, labels = torch.randn(1, tokens, VOCABULARY), torch.randint(0, VOCABULARY, (1, tokens))
    labels[torch.rand(labels.shape) < ignored] = IGNORED_LABEL
    compute = token_loss.loss(shifted=False, label_smoothing=smoothing)

    def theirs(scores: torch.Tensor) -> torch.Tensor:
        return cross_entropy(scores[0], labels[0], label_smoothing=smoothing, ignore_index=IGNORED_LABEL)

    def ours(scores: torch.Tensor) -> torch.Tensor:
        return torch.as_tensor(compute({"logits": scores}, labels))

    pairs = [(_seconds(theirs, logits), _seconds(ours, logits)) for _ in range(runs)]
    before, now = (median(side) for side in zip(*pairs, strict=True))
    return Figure(
        f"{tokens:,} tokens, {name}", f"{before * 1e3:.1f} ms", f"{now * 1e3:.1f} ms", before / now, at_least=True
    )


def _seconds(loss: Loss, logits: torch.Tensor) -> float:
    scores = logits.clone().requires_grad_()
    began = time.perf_counter()
    loss(scores).backward()
    return time.perf_counter() - began
