"""Conversations as the model's chat template writes them, and the characters that are the assistant's.

Templates differ in what they take: the form of calls is tried out once, and keys that a template leaves out are found by
comparison.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import pyarrow as pa
from jinja2.exceptions import TemplateError

from finetune_trainer.contract.records import Reason
from finetune_trainer.data.data_errors import names
from finetune_trainer.data.model import ModelDescription
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks.chat import ASSISTANT, MESSAGES, PLACE, TOOLS, Conversations, Message, is_learnt
from finetune_trainer.tasks.tools import CALLS, FUNCTION, Call, bad, with_arguments

GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")
"""Tag of templates that mark themselves what the assistant generates."""
REFUSALS = (TemplateError, TypeError, ValueError, AttributeError)
"""Exceptions by which a template refuses a conversation."""
Spans = list[tuple[int, int]]


def require_template(model: ModelDescription) -> None:
    """Raise where the tokenizer cannot write conversations, or cannot tell where each of its tokens came from."""
    if not model.tokenizer.chat_template:
        raise ExpectedError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name}: its tokenizer has no chat template, so conversations (columns.messages) cannot be written "
            "for it. Choose the variant of the model that was made for chat (often called Instruct or Chat), or set "
            "tokenizer.chat_template and save the tokenizer beside the model.",
        )
    if not model.tokenizer.is_fast:
        raise ExpectedError(
            Reason.MODEL_NOT_FOUND,
            f"{model.name}: its tokenizer ({type(model.tokenizer).__name__}) cannot tell which tokens are the "
            "assistant's. Choose a model with a fast tokenizer (tokenizer.json), or give the data as prompt and completion.",
        )


def rendered(checked: pa.RecordBatch, model: ModelDescription) -> Iterator[tuple[str, Spans]]:
    """Yield each conversation as the template writes it, and the spans of characters that are the assistant's."""
    writer_of = _writers(model)
    for text, tools, place in zip(*(checked[name].to_pylist() for name in (MESSAGES, TOOLS, PLACE)), strict=True):
        offered = json.loads(tools)
        try:
            yield writer_of(bool(offered)).with_spans(json.loads(text), offered, place)
        except REFUSALS as error:
            raise bad(
                f"{place}: the chat template of {model.name} refuses this conversation: {error or type(error).__name__}. "
                "Change it to what the template takes, or leave such rows out."
            ) from error


# --- what a template takes ---------------------------------------------------------------------------------------

_NAME, _KEY = "probe_of_calls", "probe_key"
_CALL = {"id": "call12345", "type": FUNCTION, FUNCTION: {"name": _NAME, "arguments": {_KEY: "probe"}}}
_PROBE: list[Message] = [{"role": "user", "content": "probe"}, {"role": ASSISTANT, CALLS: [_CALL]}]


@dataclass(frozen=True)
class _Writer:
    """A chat template, and the form in which it takes calls."""

    model: ModelDescription
    template: str
    arguments_as_text: bool = False
    null_content: bool = False
    """Whether a message with calls gets the content null, by which some templates know it; others would write "None"."""

    @classmethod
    def of(cls, model: ModelDescription, has_tools: bool) -> _Writer:
        """Find the form of calls in which the template writes name and arguments; the usual form where it writes none."""
        template = model.tokenizer.get_chat_template(tools=[{}] if has_tools else None)
        writers = [cls(model, template, text, null) for text in (False, True) for null in (False, True)]
        return next((writer for writer in writers if writer._writes_calls()), writers[0])

    def _writes_calls(self) -> bool:
        try:
            text = self.text(_PROBE, [])
        except REFUSALS:
            return False
        # With a quote of Python's around the key, the object was written as Python does, which is no JSON.
        return _NAME in text and _KEY in text and f"'{_KEY}'" not in text

    def text(self, messages: Sequence[Message], tools: Sequence[Call], **options: Any) -> str:
        """Write the conversation as text."""
        return self._render(messages, tools, **options)[0][0]

    def with_spans(self, messages: list[Message], tools: list[Call], place: str) -> tuple[str, Spans]:
        """Write the conversation as text, and tell which spans of it are learnt."""
        if GENERATION_TAG.search(self.template):
            return self._marked(messages, tools, place)
        return self._compared(messages, tools, place)

    def _marked(self, messages: list[Message], tools: list[Call], place: str) -> tuple[str, Spans]:
        """Take the spans that the template marks."""
        texts, marks = self._render(messages, tools, return_assistant_tokens_mask=True)
        spans = [(start, end) for start, end in marks[0]]
        counts = [is_learnt(message) for message in messages if message["role"] == ASSISTANT]
        if all(counts):
            return texts[0], spans
        if len(counts) != len(spans):
            raise bad(
                f"{place}: some messages of the assistant are not to be learnt, and the chat template of {self.model.name} marks "
                f"{len(spans)} parts as the assistant's, which has {len(counts)} messages: which are which cannot be told. "
                "Leave such messages out, or what says that they are not learnt."
            )
        return texts[0], [span for span, learnt in zip(spans, counts, strict=True) if learnt]

    def _compared(self, messages: list[Message], tools: list[Call], place: str) -> tuple[str, Spans]:
        """Find what an assistant's message adds to the text of the same conversation just before the answer."""
        text = self.text(messages, tools)
        spans = []
        for index, message in enumerate(messages):
            if message["role"] != ASSISTANT or not is_learnt(message):
                continue
            if index == 0:
                raise bad(
                    f"{place}: the conversation begins with the assistant, and the chat template of {self.model.name} does "
                    f"not mark what is the assistant's. {_WAY_OUT}, or let conversations begin with system or user."
                )
            before = self.text(messages[:index], tools, add_generation_prompt=True)
            after = self.text(messages[: index + 1], tools)
            end = _turn_end(text, before, after, message.get("content"), self.model)
            if end is None:
                raise bad(
                    f"{place}: the chat template of {self.model.name} writes message {index + 1} in another way once more "
                    f"messages follow, so that it cannot be told what of the text is the assistant's. {_WAY_OUT}, or keep "
                    "one message of the assistant in each conversation, the last."
                )
            spans.append((len(before), end))
        return text, spans

    def _render(
        self, messages: Sequence[Message], tools: Sequence[Call], **options: Any
    ) -> tuple[list[str], list[list[Sequence[int]]]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        taken = [self._taken(message) if CALLS in message else message for message in messages]
        tokens = self.model.tokenizer.special_tokens_map
        rendered: Any = render_jinja_template(
            [taken], tools=list(tools) or None, chat_template=self.template, **tokens, **options
        )
        texts, spans = rendered
        return texts, spans

    def _taken(self, message: Message) -> Message:
        """Return a message with its calls in the form that this template takes."""
        calls = [with_arguments(call, as_text=self.arguments_as_text) for call in message[CALLS]]
        content = {"content": None} if self.null_content and not message.get("content") else {}
        return {**message, CALLS: calls, **content}


def _writers(model: ModelDescription) -> Callable[[bool], _Writer]:
    """Return the function that gives the writer for conversations with or without tools: a tokenizer may have a template for each."""
    return cache(partial(_Writer.of, model))


# --- what a template leaves out ----------------------------------------------------------------------------------


def unread(read: Sequence[Conversations], model: ModelDescription) -> tuple[str, ...]:
    """Tell the user of tools, and of keys of messages, that the data has and the template does not write."""
    keys = dict.fromkeys(key for part in read for key in part.seen.rows)
    silent = [key for key in keys if not any(_is_written(key, part, model) for part in read)]
    sentences = []
    if None in silent:
        sentences.append(
            f"The conversations have {TOOLS}, which are there and are not read: the model's chat template writes none."
        )
    of_messages = [key for key in silent if key is not None]
    if of_messages:
        sentences.append(
            f"Messages have {names(of_messages)} beside role and content, which is there and is not read: the model's chat "
            "template writes nothing of it."
        )
    return tuple(sentences)


def _is_written(key: str | None, part: Conversations, model: ModelDescription) -> bool:
    """Tell whether any conversation reads differently without this key; None stands for the tools."""
    writer_of = _writers(model)
    for row in part.seen.rows.get(key, ()):
        messages, tools = (json.loads(part.table[name][row].as_py()) for name in (MESSAGES, TOOLS))
        write = writer_of(bool(tools)).text
        without = [{name: value for name, value in message.items() if name != key} for message in messages]
        try:
            if write(messages, tools) != write(without, [] if key is None else tools):
                return True
        except REFUSALS:
            return True  # `rendered` says why
    return False


# --- where a turn ends -------------------------------------------------------------------------------------------

_WAY_OUT = "Put {% generation %} ... {% endgeneration %} around it in tokenizer.chat_template and save the tokenizer"


def _turn_end(text: str, before: str, after: str, content: str | None, model: ModelDescription) -> int | None:
    """Find where a turn that begins behind `before` ends in the whole text; `after` is the text where the turn is the last one.

    Some templates put more around the last turn than around earlier ones (an empty thought): then the content and the text
    that follows it decide. None where the whole text does not hold them either.
    """
    if not text.startswith(before):
        return None
    if text.startswith(after) and after.startswith(before):
        return _end(after, len(before), model)
    stripped = (content or "").strip()
    content_start = after.rfind(stripped)
    if not stripped or content_start < 0:
        return None
    closing = after[content_start + len(stripped) :]
    start = text.find(stripped + closing, len(before))
    # The content of a later turn may be the same; then this one's end lies between.
    if not closing.strip() or start < 0 or closing.strip() in text[len(before) : start]:
        return None
    return _end(text[: start + len(stripped) + len(closing)], len(before), model)


def _end(text: str, start: int, model: ModelDescription) -> int:
    """Cut the white space behind the mark that ends a turn: generation stops at that mark."""
    stripped = text[start:].rstrip()
    ends = tuple(token.content for token in model.tokenizer.added_tokens_decoder.values() if token.special)
    return start + len(stripped) if ends and stripped.endswith(ends) else len(text)
