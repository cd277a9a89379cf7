"""Cross entropy of many tokens over a large vocabulary, in no more memory than it needs.

Ranks alone import this: it imports torch. Tokens are taken a chunk at a time, so that beside the logits there is at most
their gradient; where most labels are ignored, only the other tokens are taken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from finetune_trainer.data.column_request import IGNORED_LABEL
from finetune_trainer.tasks.task import Evaluated

CHUNK_ELEMENTS = 1 << 24
"""Tokens x vocabulary of a chunk: 64 MiB in fp32."""
LARGEST_EXPONENT = 700.0
"""A perplexity beyond e^700 is no number that JSON can hold."""
Compute = Callable[..., Any]


def next_tokens(labels: torch.Tensor) -> torch.Tensor:
    """Return the label of each position: the one further on. (To shift the logits would copy them.)"""
    last = torch.full_like(labels[:, :1], IGNORED_LABEL)
    return torch.cat([labels[:, 1:], last], dim=1)


def loss(*, shifted: bool, label_smoothing: float) -> Compute:
    """Return `(outputs, labels, num_items_in_batch) -> loss`: the mean over the tokens of the global batch that count."""

    def compute(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        targets = next_tokens(labels) if shifted else labels
        total: torch.Tensor = _SummedLoss.apply(_logits(outputs), targets, label_smoothing)
        return total / (num_items_in_batch if num_items_in_batch is not None else (targets != IGNORED_LABEL).sum())

    return compute


def reduce(*, shifted: bool) -> Compute:
    """Return `(logits, labels) ->` for each row the summed loss, the tokens that were right, and the tokens that count.

    It applies no label smoothing: perplexity is that of the data as they are.
    """

    def compute(outputs: Any, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = _logits(outputs)
        targets = next_tokens(labels) if shifted else labels
        flat, flat_targets = logits.reshape(-1, logits.shape[-1]), targets.reshape(-1)
        losses = torch.zeros(len(targets), dtype=torch.float32, device=logits.device)
        hits = torch.zeros(len(targets), dtype=torch.long, device=logits.device)
        all_positions = torch.arange(len(flat_targets), device=logits.device)
        for positions in _chunks(flat_targets, flat.shape[1]):
            wanted, chosen = flat_targets[positions], flat[positions].float()
            rows = all_positions[positions] // targets.shape[1]
            losses.index_add_(0, rows, cross_entropy(chosen, wanted, reduction="none", ignore_index=IGNORED_LABEL))
            hits.index_add_(0, rows, (chosen.argmax(dim=-1) == wanted).long())
        return losses, hits, (targets != IGNORED_LABEL).sum(dim=1)

    return compute


def metrics(evaluated: Evaluated) -> dict[str, float]:
    """Compute the mean loss of a token over the whole split, its exponential, and the share of tokens that were right."""
    import numpy as np

    losses, hits, counts = evaluated.predictions
    tokens = max(int(counts.sum()), 1)
    mean = float(losses.sum(dtype=np.float64)) / tokens
    return {"loss": mean, "perplexity": perplexity(mean), "accuracy": int(hits.sum()) / tokens}


def perplexity(mean_loss: float) -> float:
    import math

    return math.exp(min(mean_loss, LARGEST_EXPONENT)) if math.isfinite(mean_loss) else mean_loss


class _SummedLoss(torch.autograd.Function):
    """Summed cross entropy whose gradient is made with the loss: softmax minus the labels.

    Of a large vocabulary every pass over the logits costs time: loss and gradient share one exponential, and where most tokens
    count and logits are fp32 the softmax is written straight into the gradient.
    """

    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor, label_smoothing: float) -> torch.Tensor:
        flat, flat_targets = logits.detach().reshape(-1, logits.shape[-1]), targets.reshape(-1)
        gradient = torch.zeros_like(flat) if ctx.needs_input_grad[0] else None
        total = torch.zeros((), dtype=torch.float32, device=logits.device)
        for positions in _chunks(flat_targets, flat.shape[1]):
            scores, labels = flat[positions].float(), flat_targets[positions, None]
            wanted, ignored = labels.clamp(min=0), labels == IGNORED_LABEL
            stays = gradient is not None and isinstance(positions, slice) and gradient.dtype == torch.float32
            shares = torch.softmax(scores, dim=-1, out=gradient[positions] if gradient is not None and stays else None)
            # The log of the sum of all exponentials: the largest share is never so small that its log would be inexact.
            log_total = scores.amax(dim=-1, keepdim=True) - shares.amax(dim=-1, keepdim=True).log()
            losses = (1 - label_smoothing) * (log_total - scores.gather(1, wanted))
            if label_smoothing:
                losses += label_smoothing * (log_total - scores.mean(dim=-1, keepdim=True))
            total += losses.masked_fill_(ignored, 0).sum()
            if gradient is None:
                continue
            shares.scatter_add_(1, wanted, shares.new_full(wanted.shape, label_smoothing - 1))
            if label_smoothing:
                shares -= label_smoothing / flat.shape[1]
            if isinstance(positions, slice):
                shares[ignored[:, 0]] = 0
            if not stays:
                gradient[positions] = shares.to(gradient.dtype)
        ctx.gradient = gradient.view_as(logits) if gradient is not None else None
        return total

    @staticmethod
    def backward(ctx: Any, *outer: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        gradient, ctx.gradient = ctx.gradient, None  # without this reference, autograd need not copy it
        return gradient.mul_(outer[0]), None, None


def _chunks(targets: torch.Tensor, vocabulary: int) -> Iterator[torch.Tensor | slice]:
    """Yield the indices of targets that count, some at a time; where most of them do, slices of all, which are no copies."""
    rows = max(1, CHUNK_ELEMENTS // vocabulary)
    positions = (targets != IGNORED_LABEL).nonzero().flatten()
    if 2 * len(positions) > len(targets):
        yield from (slice(start, start + rows) for start in range(0, len(targets), rows))
    elif len(positions):
        yield from positions.split(rows)


def _logits(outputs: Any) -> torch.Tensor:
    logits: torch.Tensor = outputs["logits"] if isinstance(outputs, dict) else outputs
    return logits[0] if isinstance(logits, tuple) else logits
