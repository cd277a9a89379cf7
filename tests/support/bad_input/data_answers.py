"""Questions whose answers are not at the given places, or are not given in a way that could be learnt."""

from __future__ import annotations

import json
from typing import Any

from tests.support.bad_input.place import NOTICE, Mistake, in_train

_DATA, _ARGUMENTS = "DataInvalid", "ArgumentsInvalid"
_NONE: dict[str, list[Any]] = {"text": [], "answer_start": []}
_GOOD = {"text": ["fresh"], "answer_start": [13]}
_CONTEXT = "the soup was fresh and the bread was cold"


def _answers(
    name: str, what: str, message: str, *answers: object, reason: str = _DATA, context: str = _CONTEXT, **spec: Any
) -> Mistake:
    rows = [{"question": "how was the soup", "context": context, "answers": answer} for answer in answers]
    content = "".join(json.dumps(row) + "\n" for row in rows)
    fixed = {"task": "question-answering", "dataset__columns": None, "dataset__files__validation": None}
    return in_train(name, what, reason, message, content, "jsonl", **fixed, **spec)


ANSWERS: tuple[Mistake, ...] = (
    _answers(
        "answer-not-in-context",
        "an answer that does not occur in its context",
        "/data/train.jsonl, line 2: the answer 'stale' in column 'answers' is not at character 13 of the context, where "
        "'fresh' stands, and it does not occur in the context. Mend 'answer_start' or leave the row out.",
        *(_GOOD, {"text": ["stale"], "answer_start": [13]}),
    ),
    _answers(
        "answer-at-another-place",
        "an answer whose place is wrong, and which occurs twice",
        "/data/train.jsonl, line 2: the answer 'was' in column 'answers' is not at character 0 of the context, where "
        "'the' stands, and it occurs in the context more than once.",
        *(_GOOD, {"text": ["was"], "answer_start": [0]}),
    ),
    _answers(
        "answer-found-elsewhere",
        "an answer whose place is wrong, and which occurs once",
        "1 row of the train data: an answer is not at its answer_start but once elsewhere in the context, which is used "
        "(the first is /data/train.jsonl, line 2).",
        *(_GOOD, {"text": ["bread"], "answer_start": [28]}),
        reason=NOTICE,
    ),
    _answers(
        "answer-without-place",
        "answers without the place at which they begin",
        "/data/train.jsonl, line 1: column 'answers' has no 'answer_start'; question-answering takes answers with the "
        'character of the context at which each begins, as {"text": ["the answer"], "answer_start": [17]}.',
        *({"text": ["fresh"]}, {"text": ["cold"]}),
    ),
    _answers(
        "answer-as-text",
        "answers that are plain text",
        "/data/train.jsonl, line 1: column 'answers' holds 'fresh'; question-answering takes answers with the character of "
        "the context",
        *("fresh", "cold"),
    ),
    _answers(
        "answer-null",
        "a question whose answers are null",
        "/data/train.jsonl, line 2: no answers in column 'answers'. A question without an answer has "
        '{"text": [], "answer_start": []}.',
        *(_GOOD, None),
    ),
    _answers(
        "answer-blank",
        "an answer of white space",
        "/data/train.jsonl, line 2: an answer in column 'answers' is ' '. A question without an answer has",
        *(_GOOD, {"text": [" "], "answer_start": [3]}),
    ),
    _answers(
        "answers-none-at-all",
        "training data without a single answer",
        "/data/train.jsonl, line 1: no question of the training data has an answer in column 'answers' (and 1 more row).",
        *(_NONE, _NONE),
    ),
    _answers(
        "stride-too-large",
        "windows that share so much that they hardly move on",
        "preprocessing.stride is 60: windows of 64 tokens, of which 3 are special tokens of the model and 60 are shared with "
        "the window before, leave too little room for a question and its context. Choose a stride of at most 45, or a "
        "larger preprocessing.maxLength.",
        *(_GOOD, _GOOD),
        reason=_ARGUMENTS,
        preprocessing__stride=60,
    ),
)
