"""Rows of tokens to continue: which of them are learnt, in texts, in prompts with completions, in conversations.

Labels stand under their own token. The first of a row is always ignored, so that a count with it and one without it are the
same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from finetune_trainer.data.column_request import IGNORED_LABEL, LABELS, LENGTH
from finetune_trainer.tasks import chat_template, packing, plain_text
from finetune_trainer.tasks.encoding import SpecialTokens, unmarked, without_offsets
from finetune_trainer.tasks.task import Reading, Tokenised, require_known
from finetune_trainer.tasks.token_task import DEFAULT_TOKENS

TEXT, PROMPT, COMPLETION, MESSAGES = "text", "prompt", "completion", "messages"
EXAMPLE = "_example"
CUT_AWAY = {
    PROMPT: "their completion lies behind preprocessing.maxLength",
    MESSAGES: "all that the assistant says lies behind preprocessing.maxLength",
    TEXT: "they are too short to learn from",
}


def tokenised(rows: pa.Table, kind: str, reading: Reading) -> Iterator[Tokenised]:
    """Yield the rows of a part of a split; those of the test split say which row of the data they belong to."""
    wanted, judged = reading.config.preprocessing.packing, reading.role == "test"
    if kind == TEXT and wanted is not False and not judged:
        yield from _packed_texts(rows, reading)
        return
    first = 0
    for batch in plain_text.batches(rows):
        read = _READERS[kind](batch, reading)
        if wanted and not judged:
            packed = list(packing.joined(read.rows, reading.limits.tokens or DEFAULT_TOKENS))
            yield _tokenised(packed, read)
        else:
            numbers = [first + number for number in read.numbers] if judged else None
            yield _tokenised(read.rows, read, numbers)
        first += batch.num_rows


@dataclass
class _TokenRows:
    """Rows of token ids and labels, and what was lost."""

    kind: str
    rows: list[packing.Row] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """For each row, the number of the row of the part that it came from."""
    truncated: int = 0
    dropped: int = 0

    def add(self, number: int, ids: list[int], labels: list[int], reading: Reading, begin: int) -> None:
        """Add one row, cut to the limit; none where nothing is left to learn."""
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
    """Yield texts one after the other, each with its end, in rows that are all full but the last."""
    limit = reading.limits.tokens or DEFAULT_TOKENS
    packer = packing.Packer(limit)
    for batch in plain_text.batches(rows):
        texts = [packing.row(ids) for ids in _text_ids(batch, reading)]
        yield _tokenised([_with_labels(row) for row in packer.add(texts)], _TokenRows(TEXT))
    yield _tokenised([_with_labels(row) for row in packer.finish()], _TokenRows(TEXT))


def _single_texts(batch: pa.RecordBatch, reading: Reading) -> _TokenRows:
    """Make a row of each text; in the test split as many rows as the text needs."""
    read, limit = _TokenRows(TEXT), reading.limits.tokens or DEFAULT_TOKENS
    begin = len(packing.affixes(reading.tokenizer).begin)
    for number, ids in enumerate(_text_ids(batch, reading)):
        if reading.role == "test":
            read.rows += (pieces := [_with_labels(row) for row in packing.cut(packing.row(ids), limit)])
            read.numbers += [number] * len(pieces)
        else:
            read.add(number, ids, list(ids), reading, begin)
    return read


def _text_ids(batch: pa.RecordBatch, reading: Reading) -> Iterator[list[int]]:
    tokenizer = reading.tokenizer
    begin, end = packing.affixes(tokenizer).begin, tokenizer.eos_token_id
    marks = SpecialTokens.of(tokenizer)
    texts = unmarked(batch[TEXT].to_pylist(), marks.begin, (tokenizer.eos_token, *marks.end))
    for ids in _encoded(texts, reading):
        yield [*begin, *ids, end]


def _pairs(batch: pa.RecordBatch, reading: Reading) -> _TokenRows:
    """Make rows in which the prompt is read, and the completion and its end are learnt.

    Both are tokenised as one text where the prompt's tokens stay what they are alone, as generation will have them;
    where a token would reach across the border, each is tokenised by itself.
    """
    read, tokenizer = _TokenRows(PROMPT), reading.tokenizer
    begin, end = packing.affixes(tokenizer).begin, tokenizer.eos_token_id
    prompts = unmarked(batch[PROMPT].to_pylist(), SpecialTokens.of(tokenizer).begin, ())
    completions = unmarked(batch[COMPLETION].to_pylist(), (), (tokenizer.eos_token,))
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


def _chats(batch: pa.RecordBatch, reading: Reading) -> _TokenRows:
    """Make rows in which every token that holds a character of the assistant's is learnt."""
    read, model = _TokenRows(MESSAGES), reading.model
    conversations = list(chat_template.rendered(batch, model))
    encoded = reading.tokenizer(
        [text for text, _ in conversations], add_special_tokens=False, return_offsets_mapping=True, verbose=False
    )
    require_known(encoded["input_ids"], model)
    begin = packing.affixes(reading.tokenizer).begin
    for number, (ids, offsets, (_, spans)) in enumerate(
        zip(encoded["input_ids"], encoded["offset_mapping"], conversations, strict=True)
    ):
        starts, ends = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
        assistant = np.zeros(len(ids), dtype=bool)
        for start, end in spans:
            assistant |= (ends > start) & (starts < end) & (ends > starts)
        labels = np.where(assistant, ids, IGNORED_LABEL)
        opens = len(begin) if tuple(ids[: len(begin)]) == begin else 0
        read.add(number, ids, labels.tolist(), reading, opens)
    return read


_READERS: dict[str, Callable[[pa.RecordBatch, Reading], _TokenRows]] = {
    TEXT: _single_texts,
    PROMPT: _pairs,
    MESSAGES: _chats,
}


def _encoded(texts: list[str], reading: Reading) -> list[list[int]]:
    if not texts:
        return []
    with without_offsets(reading.tokenizer) as tokenizer:
        encoded = tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
    ids: list[list[int]] = encoded["input_ids"]
    require_known(ids, reading.model)
    return ids


def _with_labels(row: packing.Row) -> packing.Row:
    labels = row.copy()
    labels[0, :1] = IGNORED_LABEL
    return np.concatenate([row, labels])


def _tokenised(rows: list[packing.Row], read: _TokenRows, numbers: list[int] | None = None) -> Tokenised:
    arrays = {
        "input_ids": packing.lists(rows, 0, pa.int32()),
        LABELS: packing.lists(rows, 1, pa.int32()),
        LENGTH: packing.lengths(rows),
    }
    if numbers is not None:
        arrays[EXAMPLE] = pa.array(numbers, pa.int32())
    dropped = {CUT_AWAY[read.kind]: read.dropped} if read.dropped else {}
    return Tokenised(pa.RecordBatch.from_pydict(arrays), read.truncated, dropped=dropped)
