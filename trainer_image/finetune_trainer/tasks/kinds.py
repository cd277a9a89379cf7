"""Kinds of models that have a head for a task and still can't be trained here: known before an accelerator is taken.

transformers lists heads by the name of a kind. It does not list which of them need more than text.
"""

from __future__ import annotations

from typing import Any

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.model import ModelDescription
from finetune_trainer.shared.failures import ExpectedError

NOT_BY_TEXT_ALONE = {
    "bros": "where each word stands on a page",
    "gemma4_assistant": "what another model, which it drafts for, makes of it",
    "gemma4_unified_assistant": "what another model, which it drafts for, makes of it",
    "layoutlmv2": "the picture of a page",
    "lxmert": "what was seen in a picture",
}
"""Kind -> input that it needs beside a text."""


def require_text_alone(model: ModelDescription) -> None:
    """Raise ExpectedError for a model that reads more than text, or not as it is configured."""
    config, kind = model.config, model.config.model_type
    if kind in NOT_BY_TEXT_ALONE:
        raise ExpectedError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name} is of kind {kind!r}, which reads {NOT_BY_TEXT_ALONE[kind]} beside a text: with texts alone it can't be "
            "trained. Choose a model of text: bert, roberta, deberta-v2, ...",
        )
    if kind == "mra":
        raise ExpectedError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name} is of kind 'mra': transformers leaves its attention out, without a word, where its kernels are not "
            "compiled. Choose a model of another kind.",
        )
    if kind == "reformer" and config.axial_pos_embds:
        raise ExpectedError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name} is of kind 'reformer' with axial_pos_embds in its config.json: it is trained only on rows of exactly "
            f"{_product(config.axial_pos_shape)} tokens (axial_pos_shape). Choose a model of another kind.",
        )
    if kind == "xmod" and config.default_language is None:
        raise ExpectedError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name} has parts for each of its languages, and config.json has no default_language that chooses one. Set it, "
            f"to one of {', '.join(config.languages)}, and save the model again.",
        )


def require_decoder_start(model: ModelDescription) -> None:
    """Raise ExpectedError for an encoder-decoder that is to judge a text and does not know how its decoder begins."""
    config = model.config
    if config.model_type in ("t5", "mt5", "umt5") and getattr(config, "decoder_start_token_id", None) is None:
        raise ExpectedError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name}: config.json has no decoder_start_token_id, without which the decoder cannot begin. Set it to the id "
            "of the token for padding and save the model again.",
        )


def _product(sizes: Any) -> int:
    product = 1
    for size in sizes:
        product *= int(size)
    return product
