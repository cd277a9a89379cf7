"""Common part of the tasks that predict tokens: how wrong a model is, token by token."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.data.model import ModelDescription
from finetune_trainer.tasks.task import Evaluated, Limits, Task, Training

DEFAULT_TOKENS = 1024
"""Limit of rows where the job gives none: models read more, but only a job that asks for longer rows gets them."""


class TokenTask(Task):
    """Cross entropy over the vocabulary; perplexity and token accuracy."""

    shifted: ClassVar[bool] = False
    """Whether a position's label is the token after it."""
    reads_labels = False

    def loss(self, run: Training) -> Callable[..., Any]:
        from finetune_trainer.tasks import token_loss

        return token_loss.loss(shifted=self.shifted, label_smoothing=run.label_smoothing)

    def reduce(self, run: Training) -> Callable[..., Any]:
        from finetune_trainer.tasks import token_loss

        return token_loss.reduce(shifted=self.shifted)

    def metrics(self, run: Training, evaluated: Evaluated) -> dict[str, float]:
        from finetune_trainer.tasks import token_loss

        return token_loss.metrics(evaluated)

    def limits_by_default(self, config: TaskConfig, model: ModelDescription) -> tuple[Limits, tuple[str, ...]]:
        """Return the tokens at most: without a wish no more than `DEFAULT_TOKENS`, which a message says."""
        limits, messages = super().limits(config, model)
        if config.preprocessing.max_length is not None or (limits.tokens or DEFAULT_TOKENS + 1) <= DEFAULT_TOKENS:
            return limits, messages
        reads = f"{limits.tokens} tokens" if limits.tokens else "texts of any length"
        return Limits(DEFAULT_TOKENS), (
            *messages,
            f"preprocessing.maxLength is not given: {DEFAULT_TOKENS} tokens a row are used. The model reads {reads}.",
        )
