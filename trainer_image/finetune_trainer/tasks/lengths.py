"""Limits of the tokens of source and target, and the tokenising of both.

Where positions are embedded by number a model cannot read beyond them; T5's relative ones have no end, so that a limit
in its tokenizer is only advice. No torch in here.
"""

from __future__ import annotations

from typing import Any

from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.contract.task_facts import TASKS
from finetune_trainer.data.data_errors import shown
from finetune_trainer.data.model import ModelDescription, max_tokens
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks import languages
from finetune_trainer.tasks.encoding import SpecialTokens, unmarked, without_offsets
from finetune_trainer.tasks.task import Limits

SOURCE_TOKENS, TARGET_TOKENS = 1024, 128
"""Limits where the user says nothing; a model with fewer positions has its own."""
TEXT_KINDS = ("t5", "bart", "mbart", "pegasus", "marian", "m2m_100", "mt5", "led", "longt5", "umt5", "encoder-decoder")
START_OF_THEIR_OWN = ("mbart", "plbart", "fsmt", "t5gemma", "t5gemma2")
"""Kinds whose decoder starts with a token that is not `decoder_start_token_id`."""
LOOKS_AHEAD = {"prophetnet": 2}
"""Kind -> positions that its decoder lacks: it numbers them from behind the padding index on, and reads the next one, too."""


def source_limit(config: TaskConfig, model: Any, tokenizer: Any) -> int:
    """Return the tokens of a source at most; `model` is the model's configuration."""
    usual = min(max_tokens(model, tokenizer) or SOURCE_TOKENS, SOURCE_TOKENS)
    return _within(config.preprocessing.max_source_length or usual, _positions(model, "encoder", tokenizer))


def target_limit(config: TaskConfig, model: Any, tokenizer: Any) -> int:
    """Return the tokens of a target at most."""
    return _within(config.preprocessing.max_target_length or TARGET_TOKENS, _positions(model, "decoder", tokenizer))


def limits(config: TaskConfig, model: ModelDescription) -> tuple[Limits, tuple[str, ...]]:
    """Return both limits, and messages about them, and about a missing prefix or missing languages."""
    tokenizer, preprocessing = model.tokenizer, config.preprocessing
    languages.set_languages(tokenizer, config)
    bounds = Limits(source_limit(config, model.config, tokenizer), target_limit(config, model.config, tokenizer))
    before = len(tokenizer(languages.prefix(tokenizer, config))["input_ids"])
    _require_room("maxSourceLength", bounds.tokens, before, "the prefix and special tokens")
    special = int(tokenizer.num_special_tokens_to_add(pair=False))
    _require_room("maxTargetLength", bounds.target_tokens, special, "special tokens of the model")
    _check_generation(config, _positions(model.config, "decoder", tokenizer))
    messages = [
        f"preprocessing.{field} is {wanted}, the model has {taken} positions: {taken} is used."
        for field, wanted, taken in (
            ("maxSourceLength", preprocessing.max_source_length, bounds.tokens),
            ("maxTargetLength", preprocessing.max_target_length, bounds.target_tokens),
        )
        if wanted is not None and taken is not None and wanted > taken
    ]
    known = max_tokens(model.config, tokenizer)
    if known is not None and bounds.tokens is not None and bounds.tokens > known:
        messages.append(
            f"preprocessing.maxSourceLength is {bounds.tokens}; {model.name} was trained on {known} tokens at most. It "
            "reads longer texts too: it has to learn to."
        )
    if hasattr(model.config, "num_experts"):
        messages.append(
            f"{model.name} is a mixture of experts: the loss that spreads texts over them is not added here."
        )
    return bounds, (*messages, *_prefix_messages(config, model))


def encode(tokenizer: Any, texts: list[str], limit: int | None, *, target: bool = False) -> tuple[Any, int]:
    """Tokenise texts, and count the texts that were cut. Targets keep their beginning whichever end of sources is cut."""
    role, side = "text_target" if target else "text", tokenizer.truncation_side
    marks = SpecialTokens.of(tokenizer)
    texts = unmarked(texts, marks.begin, marks.end)
    if target:
        tokenizer.truncation_side = "right"
    with without_offsets(tokenizer):
        cut = {"truncation": limit is not None, "max_length": limit}
        wanted = {"return_attention_mask": False, **({"return_token_type_ids": False} if target else {})}
        encoded = tokenizer(**{role: texts}, **cut, **wanted)
    tokenizer.truncation_side = side
    if encoded.encodings:
        return encoded, sum(bool(encoding.overflowing) for encoding in encoded.encodings) if limit else 0
    # Tokenizers written in Python do not tell which texts were cut: a text that fills its limit may also just fit.
    full = [text for text, ids in zip(texts, encoded["input_ids"], strict=True) if len(ids) == limit]
    whole = tokenizer(**{role: full})["input_ids"] if full else []
    return encoded, sum(len(ids) > (limit or 0) for ids in whole)


def _within(tokens: int, positions: int | None) -> int:
    return tokens if positions is None else min(tokens, positions)


def _positions(config: Any, side: str, tokenizer: Any) -> int | None:
    """Return how many positions encoder or decoder have; None where their number has no end."""
    if getattr(config, "relative_attention_num_buckets", None):
        return None
    part = getattr(config, side, None)
    if part is not None and hasattr(part, "model_type"):
        return max_tokens(part, tokenizer)
    own = getattr(config, f"max_{side}_position_embeddings", None) or getattr(config, "max_position_embeddings", None)
    if not isinstance(own, int) or own <= 0:
        return None
    if side == "decoder" and config.model_type in LOOKS_AHEAD:
        own -= (config.pad_token_id or 0) + LOOKS_AHEAD[config.model_type]
    return own


def _require_room(field: str, limit: int | None, taken: int, takers: str) -> None:
    if limit is not None and limit <= taken:
        raise ExpectedError(
            Reason.ARGUMENTS_INVALID,
            f"preprocessing.{field} is {limit}, of which {takers} take {taken}: no room is left for text. "
            f"Choose at least {taken + 1}, or leave it out.",
        )


def _check_generation(config: TaskConfig, positions: int | None) -> None:
    length = config.training_arguments.get("generation_max_length")
    if not isinstance(length, int):
        return
    if length < 2:
        raise ExpectedError(
            Reason.ARGUMENTS_INVALID,
            f"trainingArguments.generation_max_length is {length}: the first token is the start, no text is left. "
            "Choose more, or leave it out for that of the targets.",
        )
    if positions is not None and length > positions:
        raise ExpectedError(
            Reason.ARGUMENTS_INVALID,
            f"trainingArguments.generation_max_length is {length}, the model writes {positions} tokens at most.",
        )


def _prefix_messages(config: TaskConfig, model: ModelDescription) -> tuple[str, ...]:
    if languages.unmarked(model.tokenizer, config):
        known = languages.codes(model.tokenizer)
        return (
            f"{model.name} writes {len(known)} languages ({', '.join(known[:8])}...) and takes the code of one at the "
            "start of each text: set preprocessing.targetLanguage, unless the texts begin with >>code<<.",
        )
    if model.config.model_type != "t5" or config.preprocessing.source_prefix:
        return ()
    tasks = getattr(model.config, "task_specific_params", None) or {}
    usual = next(
        (params["prefix"] for name, params in tasks.items() if name == config.task and "prefix" in params), None
    )
    return (
        f"{model.name} is a T5, which was trained with words before each text that say what to do, and "
        f"preprocessing.sourcePrefix is not set. Without them it learns more slowly: set it, to "
        f"{shown(usual or TASKS[config.task].prefix)} for example. It belongs before each text later on, too.",
    )
