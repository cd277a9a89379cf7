"""Continuing text: plain texts, prompts with their completions, conversations. Loss and metrics are of each next token.

Labels stand under their own token, the first of a row always ignored, so that who counts them with and who without it
counts the same; the loss compares each with the position before. For a test split nothing is packed: every row of the
data gets a loss and a perplexity of its own, over all of its text.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from finetune_trainer.config import Cause, Prepared, Reason, RunConfig
from finetune_trainer.prepare.errors import PrepareError, names
from finetune_trainer.prepare.model import Model
from finetune_trainer.prepare.source import Split
from finetune_trainer.tasks import chat, packing, plain_text
from finetune_trainer.tasks.base import (
    IGNORED_LABEL,
    LABELS,
    LENGTH,
    Checked,
    Evaluated,
    Limits,
    Reading,
    Task,
    Tokenised,
    Training,
    make_generation_savable,
    pad_with_what_there_is,
    require_known,
)

TEXT, PROMPT, COMPLETION, MESSAGES = "text", "prompt", "completion", "messages"
EXAMPLE = "_example"
DEFAULT_TOKENS = 1024
"""Models read up to millions of tokens; rows that long are for who asks for them."""
ENCODERS = ("xlm", "xlnet")
"""Kinds that read both ways though `is_decoder` or their other heads do not tell."""
CUT_AWAY = {
    PROMPT: "their completion lies behind preprocessing.maxLength",
    MESSAGES: "all that the assistant says lies behind preprocessing.maxLength",
    TEXT: "they are too short to learn from",
}


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
        kind = kind_of_rows(reading.config)
        wanted, judged = reading.config.preprocessing.packing, reading.role == "test"
        if kind == TEXT and wanted is not False and not judged:
            yield from _packed_texts(rows, reading)
            return
        first = 0
        for batch in plain_text.batches(rows):
            read = _READ[kind](batch, reading)
            if wanted and not judged:
                together = list(packing.joined(read.rows, reading.limits.tokens or DEFAULT_TOKENS))
                yield _tokenised(together, read)
            else:
                numbers = [first + number for number in read.numbers] if judged else None
                yield _tokenised(read.rows, read, numbers)
            first += batch.num_rows

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


# --- rows of tokens ----------------------------------------------------------------------------------------------


@dataclass
class _Read:
    """Rows of token ids and labels, and what was lost."""

    kind: str
    rows: list[packing.Row] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """Of each row, the row of the part that it came from."""
    truncated: int = 0
    dropped: int = 0

    def add(self, number: int, ids: list[int], labels: list[int], reading: Reading, begin: int) -> None:
        """One row, cut to the limit; none where nothing is left to learn."""
        whole = packing.row(ids, labels)
        side = reading.tokenizer.truncation_side
        row = packing.fit(whole, reading.limits.tokens, side, begin)
        row[1, :1] = IGNORED_LABEL
        if (row[1] == IGNORED_LABEL).all():
            self.dropped += 1
            return
        self.truncated += row.shape[1] < whole.shape[1]
        self.rows.append(row)
        self.numbers.append(number)


def _packed_texts(rows: pa.Table, reading: Reading) -> Iterator[Tokenised]:
    """Texts one after the other, each with its end, in rows that are all full but the last."""
    limit = reading.limits.tokens or DEFAULT_TOKENS
    packer = packing.Packer(limit)
    for batch in plain_text.batches(rows):
        texts = [packing.row(ids) for ids in _text_ids(batch, reading)]
        yield _tokenised([_with_labels(row) for row in packer.add(texts)], _Read(TEXT))
    yield _tokenised([_with_labels(row) for row in packer.finish()], _Read(TEXT))


def _single_texts(batch: pa.RecordBatch, reading: Reading) -> _Read:
    """A row for each text; of the test split, as many as it needs."""
    read, limit = _Read(TEXT), reading.limits.tokens or DEFAULT_TOKENS
    begin = len(packing.affixes(reading.tokenizer).begin)
    for number, ids in enumerate(_text_ids(batch, reading)):
        if reading.role == "test":
            read.rows += (found := [_with_labels(row) for row in packing.cut(packing.row(ids), limit)])
            read.numbers += [number] * len(found)
        else:
            read.add(number, ids, list(ids), reading, begin)
    return read


def _text_ids(batch: pa.RecordBatch, reading: Reading) -> Iterator[list[int]]:
    tokenizer = reading.tokenizer
    begin, end = packing.affixes(tokenizer).begin, tokenizer.eos_token_id
    for ids in _encoded(batch[TEXT].to_pylist(), reading):
        yield [*begin, *ids, end]


def _pairs(batch: pa.RecordBatch, reading: Reading) -> _Read:
    """The prompt is read, the completion and its end are learnt.

    Both are tokenised as one text where the prompt's tokens stay what they are alone, as generation will have them;
    where a token would reach across the border, each by itself.
    """
    read, tokenizer = _Read(PROMPT), reading.tokenizer
    begin, end = packing.affixes(tokenizer).begin, tokenizer.eos_token_id
    prompts, completions = batch[PROMPT].to_pylist(), batch[COMPLETION].to_pylist()
    texts = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
    alone, joint = _encoded(prompts, reading), _encoded(texts, reading)
    apart = [number for number, prompt in enumerate(alone) if joint[number][: len(prompt)] != prompt]
    behind = dict(zip(apart, _encoded([completions[number] for number in apart], reading), strict=True))
    for number, (prompt, both) in enumerate(zip(alone, joint, strict=True)):
        learnt = behind.get(number, both[len(prompt) :])
        read_only = [*begin, *prompt]
        learnt = [*learnt, end]
        ignored = [IGNORED_LABEL] * len(read_only)
        read.add(number, [*read_only, *learnt], [*ignored, *learnt], reading, len(begin))
    return read


def _chats(batch: pa.RecordBatch, reading: Reading) -> _Read:
    """Every token that holds a character of the assistant's is learnt."""
    read, model = _Read(MESSAGES), reading.model
    found = list(chat.rendered(batch, model))
    encoded = reading.tokenizer(
        [text for text, _ in found], add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    require_known(encoded["input_ids"], model)
    begin = packing.affixes(reading.tokenizer).begin
    for number, (ids, offsets, (_, spans)) in enumerate(
        zip(encoded["input_ids"], encoded["offset_mapping"], found, strict=True)
    ):
        starts, ends = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
        assistant = np.zeros(len(ids), dtype=bool)
        for start, end in spans:
            assistant |= (ends > start) & (starts < end) & (ends > starts)
        labels = np.where(assistant, ids, IGNORED_LABEL)
        opens = len(begin) if tuple(ids[: len(begin)]) == begin else 0
        read.add(number, ids, labels.tolist(), reading, opens)
    return read


_READ: dict[str, Callable[[pa.RecordBatch, Reading], _Read]] = {TEXT: _single_texts, PROMPT: _pairs, MESSAGES: _chats}


def _encoded(texts: list[str], reading: Reading) -> list[list[int]]:
    if not texts:
        return []
    found = reading.tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
    ids: list[list[int]] = found["input_ids"]
    require_known(ids, reading.model)
    return ids


def _with_labels(row: packing.Row) -> packing.Row:
    labels = row.copy()
    labels[0, :1] = IGNORED_LABEL
    return np.concatenate([row, labels])


def _tokenised(rows: list[packing.Row], read: _Read, numbers: list[int] | None = None) -> Tokenised:
    arrays = {
        "input_ids": packing.lists(rows, 0, pa.int32()),
        LABELS: packing.lists(rows, 1, pa.int32()),
        LENGTH: packing.lengths(rows),
    }
    if numbers is not None:
        arrays[EXAMPLE] = pa.array(numbers, pa.int32())
    dropped = {CUT_AWAY[read.kind]: read.dropped} if read.dropped else {}
    return Tokenised(pa.RecordBatch.from_pydict(arrays), read.truncated, dropped=dropped)


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
