"""Parts of the tasks that tell classes apart: a model with a head for them, weights of classes, rows in their order.

Knows neither texts nor words.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.data.model import ModelDescription
from finetune_trainer.tasks.loading import load
from finetune_trainer.tasks.task import Evaluated

BATCH_ROWS = 1000
SHOWN_CLASSES = 100
"""Classes of a confusion matrix at most: a larger one is not for people."""


def load_with_labels(
    head: str, folder: Path, purpose: str, labels: tuple[str, ...], config: TaskConfig, options: Mapping[str, Any]
) -> tuple[Any, Any]:
    """Load model and tokenizer with a head for the labels; a head for other classes is left behind."""
    named = {
        "id2label": dict(enumerate(labels)),
        "label2id": {name: index for index, name in enumerate(labels)},
    }
    model, tokenizer = load(
        head, folder, purpose, {"ignore_mismatched_sizes": True, **(named if labels else {}), **options}
    )
    if config.preprocessing.truncation_side is not None:
        tokenizer.truncation_side = config.preprocessing.truncation_side
    return model, tokenizer


def head_message(model: ModelDescription, head: str, outputs: int) -> tuple[str, ...]:
    """Tell the user what becomes of the head of a model that tells classes apart already."""
    architectures = model.config.architectures or []
    if not any(str(name).endswith(head) for name in architectures) or model.config.num_labels == outputs:
        return ()
    return (
        f"{model.name} tells {model.config.num_labels} classes apart, the data has {outputs}: "
        "its head is left behind and a new one is trained.",
    )


def truncated(encoded: Any, limit: int | None) -> int:
    """Count the rows that lost tokens."""
    return sum(bool(encoding.overflowing) for encoding in encoded.encodings or ()) if limit else 0


def balanced(counts: Sequence[int]) -> list[float]:
    """Return weights by which all classes have the same share of the loss; their mean over the rows is 1.

    As scikit-learn's `balanced`; a class without training rows weighs 1.
    """
    present = sum(count > 0 for count in counts)
    total = sum(counts)
    return [total / (present * count) if count else 1.0 for count in counts]


def in_order(evaluated: Evaluated) -> list[int]:
    """Return for each row of the data its index among the predictions."""
    indices = [0] * len(evaluated.rows)
    for index in range(len(evaluated.rows)):
        indices[evaluated.rows.number(index)] = index
    return indices


def examples(evaluated: Evaluated) -> Iterator[dict[str, Any]]:
    """Yield the rows as they were before tokenising, in the order of the data."""
    assert evaluated.examples is not None, "kept beside each split that is evaluated"
    for batch in evaluated.examples.to_batches(max_chunksize=BATCH_ROWS):
        yield from batch.to_pylist()


def scores(names: Sequence[str], values: tuple[Any, Any, Any, Any]) -> dict[str, dict[str, float]]:
    """Return precision, recall, F1 and number of rows by label, from what scikit-learn gives."""
    keys = ("precision", "recall", "f1", "support")
    return {
        name: {key: float(column[index]) for key, column in zip(keys, values, strict=True)}
        for index, name in enumerate(names)
    }
