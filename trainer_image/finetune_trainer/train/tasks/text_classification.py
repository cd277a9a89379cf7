"""A class for each text: cross entropy on the logits of AutoModelForSequenceClassification, accuracy and macro F1."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding

from finetune_trainer.config import Cause, Prepared, Reason
from finetune_trainer.train.failures import TrainError
from finetune_trainer.train.rows import IGNORED_LABEL


def load(folder: Path, prepared: Prepared) -> tuple[Any, Any]:
    """The model with fp32 weights whatever it was saved in, a head for the labels, and its tokenizer."""
    names = prepared.label_names
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    try:
        model = AutoModelForSequenceClassification.from_pretrained(
            folder,
            dtype=torch.float32,
            num_labels=len(names),
            id2label=dict(enumerate(names)),
            label2id={name: index for index, name in enumerate(names)},
            problem_type="single_label_classification",
            ignore_mismatched_sizes=True,  # a head for other classes is left behind
            local_files_only=True,
        )
    except (ValueError, KeyError) as error:
        raise TrainError(Reason.MODEL_NOT_FOUND, Cause.USER, f"The model cannot classify text: {error}") from error
    if tokenizer.pad_token is None:
        # Models that continue text have no padding; which token stands for it does not matter, the mask hides it.
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    if model.config.pad_token_id is None:
        model.config.pad_token_id = tokenizer.pad_token_id
    # The loss is computed here, from logits: a forward that takes **kwargs and ignores the count of items would have
    # it scaled by the number of ranks and accumulation steps.
    model.accepts_loss_kwargs = False
    return model, tokenizer


def collator(tokenizer: Any, *, half_precision: bool) -> Any:
    """Pads to the longest row of the batch; on tensor cores to a multiple of 8."""
    return DataCollatorWithPadding(tokenizer, pad_to_multiple_of=8 if half_precision else None)


def loss(label_smoothing: float) -> Callable[..., torch.Tensor]:
    """Cross entropy of the rows that count, divided by how many the global batch has of them."""

    def compute(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        logits = outputs["logits"] if isinstance(outputs, dict) else outputs[0]
        total = _row_losses(logits, labels, label_smoothing).sum()
        return total / (num_items_in_batch if num_items_in_batch is not None else len(labels))

    return compute


def reduce(label_smoothing: float) -> Callable[..., tuple[torch.Tensor, torch.Tensor]]:
    """The class that was chosen and the loss of each row: all that the metrics need, a small part of the logits."""

    def compute(outputs: Any, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        logits = outputs[0] if isinstance(outputs, tuple) else outputs
        return logits.argmax(dim=-1), _row_losses(logits, labels, label_smoothing)

    return compute


def _row_losses(logits: torch.Tensor, labels: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    return cross_entropy(
        logits.float(), labels, ignore_index=IGNORED_LABEL, label_smoothing=label_smoothing, reduction="none"
    )


def metrics(predictions: Any) -> dict[str, float]:
    """Loss, accuracy, and F1 as the plain mean over the classes that occur.

    The loss is the mean over the rows. The Trainer's own counts rows twice that it repeats to give all ranks as many.
    """
    (chosen, losses), labels = predictions.predictions, predictions.label_ids
    return {
        "loss": float(losses.mean(dtype=np.float64)),
        "accuracy": float((chosen == labels).mean()),
        "f1": macro_f1(labels, chosen),
    }


def macro_f1(labels: npt.NDArray[np.int64], chosen: npt.NDArray[np.int64]) -> float:
    """As scikit-learn's `f1_score(average="macro")`, whose import takes longer than a small evaluation."""
    classes = max(labels.max(), chosen.max()) + 1
    hits = np.bincount(labels[labels == chosen], minlength=classes)
    occurrences = np.bincount(labels, minlength=classes) + np.bincount(chosen, minlength=classes)
    occurring = occurrences > 0
    return float((2 * hits[occurring] / occurrences[occurring]).mean())
