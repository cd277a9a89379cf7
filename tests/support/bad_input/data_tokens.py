"""Texts, pairs and conversations that nothing can be learnt from, and models that cannot learn from them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.bad_input.place import Mistake, Place, mistake
from tests.support.tiny_llama import TEMPLATE, tiny_llama

_DATA, _MODEL = "DataInvalid", "ModelNotFound"
_GOOD = [{"role": "user", "content": "soup?"}, {"role": "assistant", "content": "yes"}]
_TASKS: dict[str, dict[str, str]] = {
    "chat": {"messages": "messages"},
    "pairs": {"prompt": "question", "completion": "answer"},
    "text": {"text": "review"},
}


def _rows(place: Place, rows: list[dict[str, Any]], template: str | None = TEMPLATE) -> None:
    place.write("/data/train.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    tiny_llama(place.models / "mine", template=template)


def _generation(
    name: str,
    what: str,
    message: str,
    kind: str,
    *rows: dict[str, Any],
    reason: str = _DATA,
    template: str | None = TEMPLATE,
) -> Mistake:
    """Return a mistake in the training rows of a job that trains a model to continue text."""
    return mistake(
        name,
        what,
        reason,
        message,
        lambda place: _rows(place, list(rows), template),
        task="text-generation",
        model__name="/models/mine",
        dataset__columns=_TASKS[kind],
        dataset__files={"train": ["/data/train.jsonl"]},
    )


def _chat(name: str, what: str, message: str, *messages: dict[str, Any], **more: Any) -> Mistake:
    """Return the mistake of a conversation on the second line."""
    place = "/data/train.jsonl, line 2: " if more.get("reason") is None else ""
    rows = ({"messages": _GOOD}, {"messages": list(messages)})
    return _generation(name, what, f"{place}{message}", "chat", *rows, **more)


def _base(name: str, what: str, message: str, spoil: Callable[[Path], object] | None = None, **spec: Any) -> Mistake:
    """Return the good job's model, for another task."""

    def make(place: Place) -> None:
        folder = place.own_model()
        if spoil is not None:
            spoil(folder)

    return mistake(
        name, what, _MODEL, message, make, model__name="/models/mine", dataset__columns=_TASKS["text"], **spec
    )


def _without_mask(folder: Path) -> None:
    path = folder / "tokenizer_config.json"
    kept = {key: value for key, value in json.loads(path.read_text()).items() if key != "mask_token"}
    path.write_text(json.dumps(kept))


TOKENS: tuple[Mistake, ...] = (
    _chat(
        "chat-without-assistant",
        "a conversation in which the assistant says nothing",
        "column 'messages' has no message of the role assistant: there is nothing to learn from it. Leave such rows out.",
        _GOOD[0],
    ),
    _chat(
        "chat-unknown-role",
        "a message of an unknown role",
        "column 'messages', message 2 has the role 'bot'; roles are system, developer, user, assistant, tool. Rename it.",
        _GOOD[0],
        {"role": "bot", "content": "yes"},
    ),
    _chat(
        "chat-empty-content",
        "a message without content",
        "column 'messages', message 2 (role assistant) has no content. Give it some, or leave such rows out.",
        _GOOD[0],
        {"role": "assistant", "content": ""},
    ),
    _chat(
        "chat-arguments-not-json",
        "a call with arguments that are no JSON",
        "column 'messages', message 2, call 1 (tide): its arguments hold \"{'harbour': 'Ostend'}\", which is no JSON: Expecting "
        "property name enclosed in double quotes. In Python json.dumps writes it, str does not.",
        _GOOD[0],
        {
            "role": "assistant",
            "tool_calls": [{"function": {"name": "tide", "arguments": "{'harbour': 'Ostend'}"}}],
        },
    ),
    _chat(
        "chat-weight-of-a-half",
        "a message that is to be learnt by half",
        "column 'messages', message 2: its weight is 0.5. A message is learnt (1) or not (0): write one of them, or leave the "
        "key out.",
        _GOOD[0],
        {"role": "assistant", "content": "yes", "weight": 0.5},
    ),
    _generation(
        "tools-not-json",
        "tools as text that is no JSON",
        "/data/train.jsonl, line 1: column 'tools' holds \"[{'name': 'tide'}]\", which is no JSON: ",
        "chat",
        {"messages": _GOOD, "tools": "[{'name': 'tide'}]"},
    ),
    _chat(
        "chat-other-keys",
        "messages with other keys",
        "column 'messages', message 1 has the keys from, value; a message has role and content. Rename them.",
        {"from": "human", "value": "soup?"},
    ),
    _generation(
        "chat-not-json",
        "conversations as text that is no JSON",
        "/data/train.jsonl, line 1: column 'messages' holds 'soup? yes', which is no JSON: Expecting value.",
        "chat",
        {"messages": "soup? yes"},
    ),
    _chat(
        "chat-template-missing",
        "conversations for a tokenizer without a chat template",
        "The model /models/mine: its tokenizer has no chat template, so conversations (columns.messages) cannot be written "
        "for it. Choose the variant of the model that was made for chat",
        *_GOOD,
        reason=_MODEL,
        template=None,
    ),
    _generation(
        "completion-empty",
        "a completion without text",
        "/data/train.jsonl, line 2: column 'answer' holds ' ', no text. Leave such rows out.",
        "pairs",
        {"question": "soup?", "answer": " yes"},
        {"question": "bread?", "answer": " "},
    ),
    _generation(
        "texts-all-blank",
        "no text in any row",
        "/data/train.jsonl: column 'review' holds no text in any of its 2 rows. Name the column with the text in "
        "spec.dataset.columns.",
        "text",
        {"review": ""},
        {"review": None},
    ),
    _base(
        "encoder-continues-text",
        "a model that reads both ways, to continue text",
        "is of kind 'bert', which reads a text in both directions and would see the words that it is to predict. Choose "
        "task fill-mask for it, or a model that reads in one: gpt2, llama, qwen3, ...",
        task="text-generation",
    ),
    _base(
        "mask-token-missing",
        "a tokenizer without a token for masking",
        "its tokenizer has no token for masking, so there is nothing to fill in. Choose a model that was trained with masks",
        _without_mask,
        task="fill-mask",
    ),
)
