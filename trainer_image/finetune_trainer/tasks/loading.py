"""A model with the head of a task, and its tokenizer. Ranks alone call this: it imports torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_trainer.config import Cause, Reason
from finetune_trainer.tasks.base import pad_with_what_there_is


def load(
    head: str,
    folder: Path,
    purpose: str,
    options: Mapping[str, Any],
    tokenizer_options: Mapping[str, Any] | None = None,
) -> tuple[Any, Any]:
    """Model and tokenizer; `head` is a class of transformers, `purpose` says what a model that has none cannot do.

    Weights are in fp32 whatever they were saved in, unless `options` say otherwise.
    """
    import torch
    import transformers

    from finetune_trainer.train.failures import TrainError

    tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, **(tokenizer_options or {}))
    wanted = {"dtype": torch.float32, "local_files_only": True, **options}
    try:
        model = getattr(transformers, head).from_pretrained(folder, **wanted)
    except (ValueError, KeyError) as error:
        raise TrainError(Reason.MODEL_NOT_FOUND, Cause.USER, f"The model cannot {purpose}: {error}") from error
    pad_with_what_there_is(model, tokenizer)
    return model, tokenizer
