"""Continuing text: plain texts, prompts with their completions, conversations. Loss and metrics are of each next token.

`next_tokens` makes the rows of tokens; each position's label is compared with the position before.
For a test split nothing is packed: every row of the data gets a loss and a perplexity of its own, over all of its text.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.data.column_request import ColumnRequest
from finetune_trainer.data.data_errors import names
from finetune_trainer.data.model import ModelDescription
from finetune_trainer.data.split import Split
from finetune_trainer.data.texts import require_text
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks import chat, chat_template, next_tokens, packing, plain_text
from finetune_trainer.tasks.loading import load
from finetune_trainer.tasks.next_tokens import COMPLETION, MESSAGES, PROMPT, TEXT
from finetune_trainer.tasks.task import (
    Checked,
    Evaluated,
    Limits,
    Reading,
    Tokenised,
    Training,
    make_generation_savable,
)
from finetune_trainer.tasks.token_task import DEFAULT_TOKENS, TokenTask

ENCODERS = ("xlm", "xlnet")
"""Kinds that read both ways, which neither `is_decoder` nor their other heads tell."""


def kind_of_rows(config: TaskConfig) -> str:
    """Return `text`, `prompt` or `messages`, by the columns that were named."""
    named = [role for role in (TEXT, PROMPT, COMPLETION, MESSAGES) if role in config.dataset.columns]
    kinds = {PROMPT if role == COMPLETION else role for role in named}
    if len(kinds) > 1:
        raise ExpectedError(
            Reason.COLUMN_NOT_FOUND,
            f"spec.dataset.columns names {names(named)}: rows are either texts (text), or prompts with completions "
            "(prompt, completion), or conversations (messages). Name the columns of one kind.",
        )
    if kinds == {PROMPT} and len(named) == 1:
        missing = COMPLETION if named == [PROMPT] else PROMPT
        raise ExpectedError(
            Reason.COLUMN_NOT_FOUND,
            f"spec.dataset.columns names {named[0]} but not {missing}: name both, or text for text without a prompt.",
        )
    return kinds.pop() if kinds else TEXT


class TextGeneration(TokenTask):
    """Cross entropy on the logits of AutoModelForCausalLM, perplexity and token accuracy."""

    name = "text-generation"
    heads = "MODEL_FOR_CAUSAL_LM_MAPPING_NAMES"
    head = "text generation"
    shifted = True

    # --- preparing ---

    def columns(self, config: TaskConfig) -> list[str]:
        kind, columns = kind_of_rows(config), config.dataset.columns
        if kind == PROMPT:
            if columns[PROMPT] == columns[COMPLETION]:
                raise ExpectedError(
                    Reason.COLUMN_NOT_FOUND, f"spec.dataset.columns names {columns[PROMPT]} for two roles."
                )
            return [columns[PROMPT], columns[COMPLETION]]
        if kind == MESSAGES:
            return [columns[MESSAGES], columns.get(chat.TOOLS, chat.TOOLS)]
        return [columns.get(kind, kind)]

    def text_columns(self, config: TaskConfig) -> list[str]:
        return [] if kind_of_rows(config) == MESSAGES else self.columns(config)

    def asked(self, config: TaskConfig) -> ColumnRequest:
        asked = super().asked(config)
        if kind_of_rows(config) != MESSAGES:
            return asked
        optional = () if chat.TOOLS in config.dataset.columns else (chat.TOOLS,)
        return replace(asked, nested=asked.columns, optional=optional, beside=chat.BESIDE)

    def check(self, splits: dict[str, Split], config: TaskConfig) -> Checked:
        """Drop blank texts, of which corpora are full; raise for half a pair or half a conversation, which is a mistake."""
        kind, columns = kind_of_rows(config), self.columns(config)
        if kind == MESSAGES:
            read = {role: chat.conversations(split, *columns) for role, split in splits.items()}
            tables = {role: part.table for role, part in read.items()}
            return Checked(tables, of_model=lambda model: chat_template.unread(tuple(read.values()), model))
        if kind == TEXT:
            hint = " Conversations are named in spec.dataset.columns.messages in place of text."
            return plain_text.texts(splits, columns[0], hint)
        tables = {
            role: pa.table(
                {
                    PROMPT: require_text(split, columns[0]),
                    COMPLETION: require_text(split, columns[1]),
                }
            )
            for role, split in splits.items()
        }
        return Checked(tables, messages=_unseparated(tables["train"]))

    def check_model(self, model: ModelDescription, config: TaskConfig) -> None:
        super().check_model(model, config)
        _require_one_way(model)
        if model.tokenizer.eos_token_id is None:
            raise ExpectedError(
                Reason.MODEL_NOT_FOUND,
                f"{model.name}: its tokenizer has no token for the end of a text, so the model could not learn to stop. "
                "Set one and save it beside the model: tokenizer.eos_token = ..., tokenizer.save_pretrained().",
            )
        if kind_of_rows(config) == MESSAGES:
            chat_template.require_template(model)

    def special_tokens(self, model: ModelDescription, config: TaskConfig) -> int:
        return len(packing.affixes(model.tokenizer).begin) + 1

    def limits(self, config: TaskConfig, model: ModelDescription) -> tuple[Limits, tuple[str, ...]]:
        return self.limits_by_default(config, model)

    def tokenise(self, rows: pa.Table, reading: Reading) -> Iterator[Tokenised]:
        """Yield token ids and labels without padding; rows of the test split say which row of the data they belong to."""
        return next_tokens.tokenised(rows, kind_of_rows(reading.config), reading)

    # --- training ---

    def load(
        self, folder: Path, prepared: PreparedTask, config: TaskConfig, options: dict[str, Any]
    ) -> tuple[Any, Any]:
        model, tokenizer = load(self.facts.model_class, folder, "write text", options)
        make_generation_savable(model)
        if model.generation_config.pad_token_id is None:
            model.generation_config.pad_token_id = tokenizer.pad_token_id
        return model, tokenizer

    def collator(self, run: Training) -> Any:
        """Return the collator, which pads on the right: later tokens change nothing for earlier ones."""
        return plain_text.PaddingCollator.of(run, DEFAULT_TOKENS)

    def predictions(self, run: Training, evaluated: Evaluated) -> Iterable[dict[str, Any]]:
        """Yield each row of the data with its loss, perplexity and accuracy."""
        return plain_text.scored(evaluated, self._shown)

    @staticmethod
    def _shown(example: dict[str, Any]) -> dict[str, Any]:
        import json

        if MESSAGES not in example:
            return example
        tools = json.loads(example[chat.TOOLS])
        return {MESSAGES: json.loads(example[MESSAGES]), **({chat.TOOLS: tools} if tools else {})}


# --- what is refused ---------------------------------------------------------------------------------------------


def _require_one_way(model: ModelDescription) -> None:
    """Raise for a model that sees the words to come: it would copy them."""
    from importlib import import_module

    both_ways = import_module("transformers.models.auto.modeling_auto").MODEL_FOR_MASKED_LM_MAPPING_NAMES
    kind = model.config.model_type
    if getattr(model.config, "is_encoder_decoder", False):
        raise ExpectedError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name} is of kind {kind!r}, an encoder with a decoder, of which text-generation would leave the "
            "encoder behind. Choose task summarization or translation for it, or a model that only decodes: gpt2, llama, "
            "qwen3, ...",
        )
    if kind in ENCODERS or (kind in both_ways and not getattr(model.config, "is_decoder", False)):
        raise ExpectedError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name} is of kind {kind!r}, which reads a text in both directions and would see the words that it "
            "is to predict. Choose task fill-mask for it, or a model that reads in one: gpt2, llama, qwen3, ...",
        )


def _unseparated(train: pa.Table) -> tuple[str, ...]:
    """Tell the user of prompts and completions that stick together: that is seldom meant."""
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
