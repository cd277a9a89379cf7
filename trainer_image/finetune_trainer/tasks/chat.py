"""Conversations of the data: what is wrong with them, and what of them is kept.

This module knows neither how a chat template writes them (`chat_template`), nor what calls and tools look like (`tools`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from finetune_trainer.data import nested
from finetune_trainer.data.data_errors import half_a_character, half_character, names, shown
from finetune_trainer.data.split import Split
from finetune_trainer.tasks import tools
from finetune_trainer.tasks.tools import CALLS, FUNCTION_CALL, bad

ASSISTANT = "assistant"
ROLES = ("system", "developer", "user", ASSISTANT, "tool")
MAY_BE_EMPTY = ("system", "developer", "tool")
"""Roles whose turns may say nothing: a prompt that was left empty, a function that gives nothing back."""
MESSAGES, TOOLS, PLACE = "messages", "tools", "place"
"""Columns of checked conversations: the messages and the tools as JSON, and where they came from."""
BESIDE = (
    *(
        "functions",
        "system",
        "system_prompt",
        "documents",
        "chat_template_kwargs",
        "tool_choice",
        "parallel_tool_calls",
    ),
    *("image", "images", "video", "videos", "audio", "audios", "weight", "loss_weight"),
)
"""Columns that the common formats of conversations put beside the messages, and that are not read."""
WEIGHTS, SWITCHES = ("weight", "loss_weight"), ("train", "training", "loss")
"""Keys of a message that say whether it is learnt: 0 or 1, false or true."""
SAMPLES = 8
"""Conversations with a key that are written with and without it, to see whether a template writes the key."""
BATCH_ROWS = 1000
Message = dict[str, Any]


@dataclass
class Seen:
    """Keys that messages have beside role and content, and rows that have them."""

    rows: dict[str | None, list[int]] = field(default_factory=dict)
    """Key of a message, None for tools beside the messages -> the first rows that have it."""

    def add(self, row: int, messages: Sequence[Message], has_tools: bool) -> None:
        """Note the keys of a conversation."""
        keys = {key: None for message in messages for key, value in message.items() if not _is_read(key, value)}
        for key in (*([None] if has_tools else []), *sorted(keys)):
            rows = self.rows.setdefault(key, [])
            if len(rows) < SAMPLES:
                rows.append(row)


@dataclass(frozen=True)
class Conversations:
    """The conversations of a split, each checked."""

    table: pa.Table
    seen: Seen


def conversations(split: Split, column: str, tools_column: str) -> Conversations:
    """Read all conversations of a split, with the tools that each may call."""
    seen, parts = Seen(), []
    schema = pa.schema({MESSAGES: pa.string(), TOOLS: pa.string(), PLACE: pa.string()})
    for first, places, batch in _batches(split, column, tools_column):
        read: list[tuple[str, str, str]] = []
        for at, value, offered in zip(places, nested.values(batch[0]), nested.values(batch[1]), strict=True):
            messages = _conversation(value, f"{at}: column {column!r}")
            offers = tools.offered(offered, f"{at}: column {tools_column!r}")
            seen.add(first + len(read), messages, bool(offers))
            read.append((json.dumps(messages, ensure_ascii=False), json.dumps(offers, ensure_ascii=False), at))
        arrays = [pa.array(list(values), pa.string()) for values in zip(*read, strict=True)]
        parts.append(pa.RecordBatch.from_arrays(arrays, schema=schema))
    return Conversations(pa.Table.from_batches(parts, schema), seen)


def _batches(split: Split, *columns: str) -> Iterator[tuple[int, list[str], pa.RecordBatch]]:
    """Yield some rows at a time: the number of the first, where each stands in the data, and the columns."""
    first = 0
    for batch in split.table.select(list(columns)).to_batches(max_chunksize=BATCH_ROWS):
        if batch.num_rows:
            yield first, [split.place(first + row) for row in range(batch.num_rows)], batch
            first += batch.num_rows


def _is_read(key: str, value: Any) -> bool:
    return key in ("role", "content", *WEIGHTS) or (key in SWITCHES and isinstance(value, bool))


def is_learnt(message: Message) -> bool:
    """Tell whether what the assistant says in a message is learnt: the data may say that it is not."""
    weights = [message[key] for key in WEIGHTS if key in message]
    return all(weights) and not any(message.get(key) is False for key in SWITCHES)


def _conversation(value: Any, where: str) -> list[Message]:
    if isinstance(value, str):
        value = tools.parsed(value, where)
        if (half := half_character(value)) is not None:
            raise half_a_character(where, half)
    if not isinstance(value, list) or not all(isinstance(message, dict) for message in value):
        raise bad(f"{where} holds {shown(value)}; a conversation is a list of objects with the keys role and content.")
    messages = [_message(message, f"{where}, message {number}") for number, message in enumerate(value, start=1)]
    spoken = [message for message in messages if message["role"] == ASSISTANT]
    if not spoken:
        raise bad(
            f"{where} has no message of the role assistant: there is nothing to learn from it. Leave such rows out."
        )
    if not any(is_learnt(message) for message in spoken):
        marks = dict.fromkeys(key for message in spoken for key in (*WEIGHTS, *SWITCHES) if key in message)
        raise bad(
            f"{where} marks all that the assistant says as not to be learnt ({names(marks)}): there is nothing to "
            "learn from it. Leave such rows out."
        )
    return messages


def _message(raw: Message, where: str) -> Message:
    message = {key: value for key, value in raw.items() if value is not None}
    role = message.get("role")
    if role is None:
        raise bad(f"{where} has the keys {names(list(message))}; a message has role and content. Rename them.")
    if role not in ROLES:
        raise bad(f"{where} has the role {shown(role)}; roles are {names(list(ROLES))}. Rename it.")
    content = message.get("content")
    if isinstance(content, list):
        message["content"] = content = _joined(content, where)
    if content is not None and not isinstance(content, str):
        raise bad(f"{where}: its content is {shown(content)}, not text.")
    if CALLS in message:
        calls = tools.calls(message.pop(CALLS), where)
        message |= {CALLS: calls} if calls else {}  # most templates ask for the key, not for what it holds
    _require_content(message, where)
    _require_weight(message, where)
    return message


def _require_content(message: Message, where: str) -> None:
    """Raise where a turn says nothing that should. One that may gets an empty content: templates differ over a missing one."""
    role = message["role"]
    if role in MAY_BE_EMPTY:
        message.setdefault("content", "")
        return
    if (message.get("content") or "").strip() or (role == ASSISTANT and CALLS in message):
        return
    if FUNCTION_CALL in message:
        raise bad(f"{where} has {FUNCTION_CALL}, which is the older form: write {tools.FORM}.")
    raise bad(f"{where} (role {role}) has no content. Give it some, or leave such rows out.")


def _require_weight(message: Message, where: str) -> None:
    for key in WEIGHTS:
        if key in message and message[key] not in (0, 1):
            raise bad(
                f"{where}: its {key} is {shown(message[key])}. A message is learnt (1) or not (0): write one of them, or leave "
                "the key out."
            )


def _joined(parts: list[Any], where: str) -> str:
    """Join content that comes in parts, as it is written for models that see images too."""
    for part in parts:
        if not isinstance(part, dict) or not isinstance(part.get("text"), str):
            raise bad(f"{where} holds {shown(part)}, which is no text: only text can be trained on.")
    return "".join(part["text"] for part in parts)
