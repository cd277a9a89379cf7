"""Conversations: what a good one is, and which characters of a rendered one are the assistant's.

The tokenizer's chat template decides how a conversation is written. Knows nothing of tokens.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from finetune_trainer.config import Reason
from finetune_trainer.prepare.errors import PrepareError, half_a_character, half_character, names, shown
from finetune_trainer.prepare.model import Model
from finetune_trainer.prepare.source import Split

ASSISTANT = "assistant"
ROLES = ("system", "developer", "user", ASSISTANT, "tool")
MESSAGES, PLACE = "messages", "place"
"""Columns of checked conversations: the messages as JSON, and where they came from."""
SAYS_ITSELF = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""What a template has that marks itself what the assistant generates."""
BATCH_ROWS = 1000
Message = dict[str, Any]
Spans = list[tuple[int, int]]


# --- what a conversation is --------------------------------------------------------------------------------------


def conversations(split: Split, column: str) -> pa.Table:
    """All conversations of a split, each looked at."""
    parts, first = [], 0
    for batch in split.table.select([column]).to_batches(max_chunksize=BATCH_ROWS):
        places = [split.place(first + row) for row in range(batch.num_rows)]
        read = [
            _conversation(value, f"{at}: column {column!r}")
            for at, value in zip(places, batch[0].to_pylist(), strict=True)
        ]
        texts = [json.dumps(messages, ensure_ascii=False) for messages in read]
        parts.append(pa.record_batch({MESSAGES: pa.array(texts, pa.string()), PLACE: pa.array(places, pa.string())}))
        first += batch.num_rows
    return pa.Table.from_batches(parts, pa.schema({MESSAGES: pa.string(), PLACE: pa.string()}))


def _conversation(value: Any, where: str) -> list[Message]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise _bad(
                f"{where} holds {shown(value)}, which is no JSON: {error.msg}. In Python json.dumps writes it, str does not."
            ) from error
        except RecursionError as error:
            raise _bad(f"{where} holds lists and objects within each other, too deep to read.") from error
        if (half := half_character(value)) is not None:
            raise half_a_character(where, half)
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise _bad(f"{where} holds {shown(value)}; a conversation is a list of objects with the keys role and content.")
    messages = [_message(message, f"{where}, message {number}") for number, message in enumerate(value, start=1)]
    if not any(message["role"] == ASSISTANT for message in messages):
        raise _bad(
            f"{where} has no message of the role assistant: there is nothing to learn from it. Leave such rows out."
        )
    return messages


def _message(found: Message, where: str) -> Message:
    message: Message = _without_nulls(found)
    role = message.get("role")
    if role is None:
        raise _bad(f"{where} has the keys {names(list(message))}; a message has role and content. Rename them.")
    if role not in ROLES:
        raise _bad(f"{where} has the role {shown(role)}; roles are {names(list(ROLES))}. Rename it.")
    content = message.get("content")
    if isinstance(content, list):
        message["content"] = content = _joined(content, where)
    if content is not None and not isinstance(content, str):
        raise _bad(f"{where}: its content is {shown(content)}, not text.")
    if not (content or "").strip() and not (role == ASSISTANT and message.get("tool_calls")):
        raise _bad(f"{where} (role {role}) has no content. Give it some, or leave such rows out.")
    return message


def _joined(parts: list[Any], where: str) -> str:
    """Content in parts, as it is written for models that see images too."""
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise _bad(f"{where} holds {shown(part)}, which is no text: only text can be trained on.")
    return "".join(part["text"] for part in parts)


def _without_nulls(value: Any) -> Any:
    """Arrow gives every message the keys of all."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    return [_without_nulls(item) for item in value] if isinstance(value, list) else value


def _bad(message: str) -> PrepareError:
    return PrepareError(Reason.DATA_INVALID, message)


# --- what a template makes of it ---------------------------------------------------------------------------------


def require_template(model: Model) -> None:
    """The tokenizer can write conversations, and tell where each of its tokens came from."""
    if not model.tokenizer.chat_template:
        raise PrepareError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name}: its tokenizer has no chat template, so conversations (columns.messages) cannot be written "
            "for it. Choose the variant of the model that was made for chat (often called Instruct or Chat), or set "
            "tokenizer.chat_template and save the tokenizer beside the model.",
        )
    if not model.tokenizer.is_fast:
        raise PrepareError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name}: its tokenizer ({type(model.tokenizer).__name__}) cannot tell which tokens are the "
            "assistant's. Choose a model with a fast tokenizer (tokenizer.json), or give the data as prompt and completion.",
        )


def rendered(checked: pa.RecordBatch, model: Model) -> Iterator[tuple[str, Spans]]:
    """Each conversation as the template writes it, and the characters in it that are the assistant's."""
    from jinja2.exceptions import TemplateError

    template = model.tokenizer.get_chat_template()
    spans = _marked if SAYS_ITSELF.search(template) else _compared
    for text, place in zip(checked[MESSAGES].to_pylist(), checked[PLACE].to_pylist(), strict=True):
        try:
            yield spans(json.loads(text), template, model, place)
        except (TemplateError, TypeError, ValueError) as error:
            raise _bad(
                f"{place}: the chat template of {model.name} refuses this conversation: {error or type(error).__name__}. "
                "Change it to what the template takes, or leave such rows out."
            ) from error


def _marked(messages: list[Message], template: str, model: Model, place: str) -> tuple[str, Spans]:
    """As the template marks it."""
    texts, spans = _render(messages, template, model, return_assistant_tokens_mask=True)
    return texts[0], [(start, end) for start, end in spans[0]]


def _compared(messages: list[Message], template: str, model: Model, place: str) -> tuple[str, Spans]:
    """What is added when an assistant's message is, compared with the same conversation about to be answered."""
    text = _render(messages, template, model)[0][0]
    spans = []
    for index in (number for number, message in enumerate(messages) if message["role"] == ASSISTANT):
        if index == 0:
            raise PrepareError(
                Reason.DATA_INVALID,
                f"{place}: the conversation begins with the assistant, and the chat template of {model.name} does not "
                f"mark what is the assistant's. {_WAY_OUT}, or let conversations begin with system or user.",
            )
        before = _render(messages[:index], template, model, add_generation_prompt=True)[0][0]
        after = _render(messages[: index + 1], template, model)[0][0]
        end = _turn_end(text, before, after, messages[index].get("content"), model)
        if end is None:
            raise PrepareError(
                Reason.DATA_INVALID,
                f"{place}: the chat template of {model.name} writes message {index + 1} in another way once more "
                f"messages follow, so that it cannot be told what of the text is the assistant's. {_WAY_OUT}, or keep one "
                "message of the assistant in each conversation, the last.",
            )
        spans.append((len(before), end))
    return text, spans


def _turn_end(text: str, before: str, after: str, content: str | None, model: Model) -> int | None:
    """Where a turn that begins behind `before` ends in the whole text; `after` is how it ends when it is the last.

    Some templates put more around the last turn than around earlier ones (an empty thought): then the content and what
    follows it decide. None where that is not there either.
    """
    if not text.startswith(before):
        return None
    if text.startswith(after) and after.startswith(before):
        return _end(after, len(before), model)
    said = (content or "").strip()
    place = after.rfind(said)
    if not said or place < 0:
        return None
    closing = after[place + len(said) :]
    found = text.find(said + closing, len(before))
    # The content of a later turn may be the same; then this one's end lies between.
    if not closing.strip() or found < 0 or closing.strip() in text[len(before) : found]:
        return None
    return _end(text[: found + len(said) + len(closing)], len(before), model)


_WAY_OUT = "Put {% generation %} ... {% endgeneration %} around it in tokenizer.chat_template and save the tokenizer"


def _end(text: str, start: int, model: Model) -> int:
    """Without the white space behind the mark that ends a turn: who generates stops at that mark."""
    stripped = text[start:].rstrip()
    ends = tuple(token.content for token in model.tokenizer.added_tokens_decoder.values() if token.special)
    return start + len(stripped) if ends and stripped.endswith(ends) else len(text)


def _render(
    messages: Sequence[Message], template: str, model: Model, **options: bool
) -> tuple[list[str], list[list[Sequence[int]]]]:
    from transformers.utils.chat_template_utils import render_jinja_template

    found: Any = render_jinja_template(
        [list(messages)], chat_template=template, **model.tokenizer.special_tokens_map, **options
    )
    texts, spans = found
    return texts, spans
