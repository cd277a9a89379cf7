"""Windows of long contexts: the tokens of each, and which of them are the answer.

Part of the preparation for question answering: the tokenizers library gives the characters of tokens. No torch in here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from finetune_trainer.data.column_request import LABELS, LENGTH
from finetune_trainer.data.model import ModelDescription
from finetune_trainer.tasks import answers, spans
from finetune_trainer.tasks.task import Reading

CONTEXT_SEQUENCE = 1
NO_ANSWER_TOKEN = 0
"""The token that stands for no answer, which models that read text in both directions begin with: `[CLS]`, `<s>`."""
NOWHERE = (NO_ANSWER_TOKEN, NO_ANSWER_TOKEN)


def shortened(questions: Sequence[str], room: int, model: ModelDescription) -> tuple[list[str], int]:
    """Cut questions so that they leave room for their context, and count the questions that were cut."""
    kept = [question.strip() for question in questions]
    # A token is at least a byte, but for characters that a tokenizer spells out.
    long = [index for index, question in enumerate(kept) if len(question.encode()) > room]
    if not long:
        return kept, 0
    encoded = model.tokenizer([kept[index] for index in long], add_special_tokens=False, verbose=False)
    cut = [(index, encoding) for index, encoding in zip(long, encoded.encodings, strict=True) if len(encoding) > room]
    for index, encoding in cut:
        kept[index] = kept[index][: encoding.offsets[room - 1][1]]
    return kept, len(cut)


def windows(batch: pa.RecordBatch, encoded: Any, reading: Reading, done: int) -> tuple[pa.RecordBatch, int]:
    """Return what the model reads of each window and where the answer is in it; and count the answers that no window holds whole.

    `done` rows came before those of the batch.
    """
    arrays = {
        name: pa.array(encoded[name], type=pa.list_(pa.int32() if name == "input_ids" else pa.int8()))
        for name in reading.model.tokenizer.model_input_names
        if name in encoded
    }
    rows, encodings = encoded["overflow_to_sample_mapping"], encoded.encodings
    answered = [_first_answer(answer) for answer in batch.column("answers").to_pylist()]
    answer_tokens = [_answer_tokens(encoding, answered[row]) for row, encoding in zip(rows, encodings, strict=True)]
    arrays[LABELS] = pa.array(answer_tokens, pa.list_(pa.int32()))
    arrays[LENGTH] = pa.array([len(encoding) for encoding in encodings], pa.int32())
    if reading.role != "train":
        kept = [_characters(encoding) for encoding in encodings]
        arrays[spans.EXAMPLE] = pa.array([done + row for row in rows], pa.int64())
        arrays[spans.FIRST] = pa.array([first for first, _ in kept], pa.int32())
        arrays[spans.OFFSETS] = pa.array([offsets for _, offsets in kept], pa.list_(pa.int32()))
    whole = {row for row, tokens in zip(rows, answer_tokens, strict=True) if tokens != NOWHERE}
    lost = sum(row not in whole for row, answer in enumerate(answered) if answer is not None)
    return pa.RecordBatch.from_pydict(arrays), lost


def _first_answer(answer: dict[str, list[Any]]) -> tuple[int, int] | None:
    """Return where the answer that is learnt begins and ends in its context, without white space around it."""
    if not answer[answers.TEXT]:
        return None
    text, start = answer[answers.TEXT][0], answer[answers.START][0]
    begin = start + len(text) - len(text.lstrip())
    return begin, begin + len(text.strip())


def _answer_tokens(encoding: Any, answer: tuple[int, int] | None) -> tuple[int, int]:
    """Return the first and last token of the answer, if all of it is in the window."""
    if answer is None:
        return NOWHERE
    begin, end = answer
    first = encoding.char_to_token(begin, CONTEXT_SEQUENCE)
    last = encoding.char_to_token(end - 1, CONTEXT_SEQUENCE)
    if first is not None and last is not None:
        return first, last
    # The answer may begin or end with characters that the tokenizer leaves out, or reach beyond the window.
    context_start, bounds = _characters(encoding)
    if not bounds or begin < bounds[0] or end > bounds[-1]:
        return NOWHERE
    tokens = [token for token in range(len(bounds) // 2) if bounds[2 * token] < end and bounds[2 * token + 1] > begin]
    return (context_start + tokens[0], context_start + tokens[-1]) if tokens else NOWHERE


def _characters(encoding: Any) -> tuple[int, list[int]]:
    """Return the first token of the context, and begin and end of each of its tokens in characters of the context."""
    sequences = encoding.sequence_ids
    if CONTEXT_SEQUENCE not in sequences:
        return 0, []
    first, count = sequences.index(CONTEXT_SEQUENCE), sequences.count(CONTEXT_SEQUENCE)
    return first, [character for token in encoding.offsets[first : first + count] for character in token]
