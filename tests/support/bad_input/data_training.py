"""Ways of training that this model, this data or this machine cannot do."""

from __future__ import annotations

from typing import Any

from tests.support.bad_input.place import Mistake, mistake

_ARGUMENTS = "ArgumentsInvalid"


def _trained(name: str, what: str, message: str, **spec: Any) -> Mistake:
    """Return a mistake in how the good job's files are trained on."""
    return mistake(name, what, _ARGUMENTS, message, lambda place: None, **spec)


TRAINING: tuple[Mistake, ...] = (
    _trained(
        "adapter-module-missing",
        "an adapter for a module that the model does not have",
        "spec.peft.targetModules: The model /models/base has no module q_proj. Choose from dense, key, "
        "position_embeddings, query, token_type_embeddings, value, word_embeddings, or say all-linear.",
        peft__method="lora",
        peft__targetModules=["query", "q_proj"],
    ),
    _trained(
        "early-stopping-without-validation",
        "early stopping, and nothing to evaluate",
        "spec.earlyStopping needs validation data, and there is none. Name it in spec.dataset.files.validation or "
        "spec.dataset.splits.validation, or set spec.dataset.validationFraction.",
        dataset__files={"train": ["/data/train.csv"]},
        earlyStopping__patience=2,
    ),
)
