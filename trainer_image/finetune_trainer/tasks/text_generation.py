"""Continuing text: plain texts, prompts with their completions, conversations. Loss and metrics are of each next token.

What `next_tokens` makes of rows of the data is learnt here; each position's label is compared with the position before.
For a test split nothing is packed: every row of the data gets a loss and a perplexity of its own, over all of its text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from finetune_trainer.config import Cause, Prepared, Reason, RunConfig
from finetune_trainer.prepare.errors import PrepareError, names
from finetune_trainer.prepare.model import Model
from finetune_trainer.prepare.source import Split
from finetune_trainer.tasks import chat, next_tokens, packing, plain_text
from finetune_trainer.tasks.base import (
    Checked,
    Evaluated,
    Limits,
    Reading,
    Task,
    Tokenised,
    Training,
    make_generation_savable,
    pad_with_what_there_is,
)
from finetune_trainer.tasks.next_tokens import COMPLETION, DEFAULT_TOKENS, MESSAGES, PROMPT, TEXT

ENCODERS = ("xlm", "xlnet")
"""Kinds that read both ways though `is_decoder` or their other heads do not tell."""


def kind_of_rows(config: RunConfig) -> str:
    """`text`, `prompt` or `messages`: which columns were named."""
    named = [role for role in (TEXT, PROMPT, COMPLETION, MESSAGES) if role in config.dataset.columns]
    kinds = {PROMPT if role == COMPLETION else role for role in named}
    if len(kinds) > 1:
        raise PrepareError(
            Reason.COLUMN_NOT_FOUND,
            f"spec.dataset.columns names {names(named)}: rows are either texts (text), or prompts with completions "
            "(prompt, completion), or conversations (messages). Name the columns of one kind.",
        )
    if kinds == {PROMPT} and len(named) == 1:
        missing = COMPLETION if named == [PROMPT] else PROMPT
        raise PrepareError(
            Reason.COLUMN_NOT_FOUND,
            f"spec.dataset.columns names {named[0]} but not {missing}: name both, or text for text without a prompt.",
        )
    return kinds.pop() if kinds else TEXT


class TextGeneration(Task):
    """Cross entropy on the logits of AutoModelForCausalLM, perplexity and token accuracy."""

    heads = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"
    head = "text generation"
    reads_labels = False

    # --- preparing ---

    def columns(self, config: RunConfig) -> list[str]:
        kind, columns = kind_of_rows(config), config.dataset.columns
        if kind == PROMPT:
            if columns[PROMPT] == columns[COMPLETION]:
                raise PrepareError(
                    Reason.COLUMN_NOT_FOUND, f"spec.dataset.columns names {columns[PROMPT]} for two roles."
                )
            return [columns[PROMPT], columns[COMPLETION]]
        return [columns.get(kind, kind)]

    def text_columns(self, config: RunConfig) -> list[str]:
        return [] if kind_of_rows(config) == MESSAGES else self.columns(config)

    def check(self, splits: dict[str, Split], config: RunConfig) -> Checked:
        """Blank texts are left out, as corpora are full of them; half a pair or conversation is a mistake."""
        kind, columns = kind_of_rows(config), self.columns(config)
        if kind == MESSAGES:
            return Checked({role: chat.conversations(split, columns[0]) for role, split in splits.items()})
        if kind == TEXT:
            return plain_text.texts(splits, columns[0])
        tables = {
            role: pa.table(
                {
                    PROMPT: plain_text.required(split, columns[0]),
                    COMPLETION: plain_text.required(split, columns[1]),
                }
            )
            for role, split in splits.items()
        }
        return Checked(tables, messages=_unseparated(tables["train"]))

    def check_model(self, model: Model, config: RunConfig) -> None:
        super().check_model(model, config)
        _require_one_way(model)
        if model.tokenizer.eos_token_id is None:
            raise PrepareError(
                Reason.MODEL_NOT_FOUND,
                f"{model.name}: its tokenizer has no token for the end of a text, so the model could not learn to stop. "
                "Set one and save it beside the model: tokenizer.eos_token = ..., tokenizer.save_pretrained().",
            )
        if kind_of_rows(config) == MESSAGES:
            chat.require_template(model)

    def special_tokens(self, model: Model, config: RunConfig) -> int:
        return len(packing.affixes(model.tokenizer).begin) + 1

    def limits(self, config: RunConfig, model: Model) -> tuple[Limits, tuple[str, ...]]:
        """Without a wish no more than `DEFAULT_TOKENS`."""
        limits, said = super().limits(config, model)
        if config.preprocessing.max_length is not None or (limits.tokens or DEFAULT_TOKENS + 1) <= DEFAULT_TOKENS:
            return limits, said
        reads = f"{limits.tokens} tokens" if limits.tokens else "texts of any length"
        return Limits(DEFAULT_TOKENS), (
            *said,
            f"preprocessing.maxLength is not given: {DEFAULT_TOKENS} tokens a row are used. The model reads {reads}.",
        )

    def tokenise(self, rows: pa.Table, reading: Reading) -> Iterator[Tokenised]:
        """Token ids and labels without padding; in rows of the test split, which row of the data they belong to."""
        return next_tokens.tokenised(rows, kind_of_rows(reading.config), reading)

    # --- training ---

    def load(self, folder: Path, prepared: Prepared, config: RunConfig, options: dict[str, Any]) -> tuple[Any, Any]:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from finetune_trainer.train.failures import TrainError

        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        try:
            model = AutoModelForCausalLM.from_pretrained(
                folder, **{"dtype": torch.float32, "local_files_only": True, **options}
            )
        except (ValueError, KeyError) as error:
            raise TrainError(Reason.MODEL_NOT_FOUND, Cause.USER, f"The model cannot write text: {error}") from error
        pad_with_what_there_is(model, tokenizer)
        make_generation_savable(model)
        if model.generation_config.pad_token_id is None:
            model.generation_config.pad_token_id = tokenizer.pad_token_id
        return model, tokenizer

    def collator(self, run: Training) -> Any:
        """Pads on the right: what comes after a token changes nothing for it."""
        return plain_text.Padded.of(run, DEFAULT_TOKENS)

    def loss(self, run: Training) -> Callable[..., Any]:
        from finetune_trainer.tasks import token_loss

        return token_loss.loss(shifted=True, label_smoothing=run.label_smoothing)

    def reduce(self, run: Training) -> Callable[..., Any]:
        from finetune_trainer.tasks import token_loss

        return token_loss.reduce(shifted=True)

    def metrics(self, run: Training, evaluated: Evaluated) -> dict[str, float]:
        from finetune_trainer.tasks import token_loss

        return token_loss.metrics(evaluated)

    def predictions(self, run: Training, evaluated: Evaluated) -> Iterable[dict[str, Any]]:
        """Each row of the data with its loss, perplexity and accuracy."""
        return plain_text.scored(evaluated, self._shown)

    @staticmethod
    def _shown(example: dict[str, Any]) -> dict[str, Any]:
        import json

        if MESSAGES in example:
            return {MESSAGES: json.loads(example[MESSAGES])}
        return example


# --- what is refused ---------------------------------------------------------------------------------------------


def _require_one_way(model: Model) -> None:
    """A model that sees the words to come has nothing to learn from them."""
    from importlib import import_module

    both_ways = import_module("transformers.models.auto.modeling_auto").MODEL_FOR_MASKED_LM_MAPPING_NAMES
    kind = model.config.model_type
    if getattr(model.config, "is_encoder_decoder", False):
        raise PrepareError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name} is of kind {kind!r}, an encoder with a decoder, of which text-generation would leave the "
            "encoder behind. Choose task summarization or translation for it, or a model that only decodes: gpt2, llama, "
            "qwen3, ...",
        )
    if kind in ENCODERS or (kind in both_ways and not getattr(model.config, "is_decoder", False)):
        raise PrepareError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name} is of kind {kind!r}, which reads a text in both directions and would see the words that it "
            "is to predict. Choose task fill-mask for it, or a model that reads in one: gpt2, llama, qwen3, ...",
        )


def _unseparated(train: pa.Table) -> tuple[str, ...]:
    """Words that stick together are seldom meant."""
    import pyarrow.compute as pc

    apart = pc.or_(pc.match_substring_regex(train[PROMPT], r"\s$"), pc.match_substring_regex(train[COMPLETION], r"^\s"))
    together = len(apart) - (pc.sum(apart).as_py() or 0)
    if together * 2 <= len(apart):
        return ()
    return (
        f"{together} of {len(apart)} training rows have no white space between prompt and completion: they are joined as "
        "they are. End prompts with a space or a new line, or begin completions with one, if words should not touch.",
    )


TASK = TextGeneration()
