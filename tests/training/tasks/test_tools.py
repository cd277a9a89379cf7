"""Conversations with tools and calls, and with whatever else stands beside the content: read, or said that it is not."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import datasets
import pytest

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.data.column_request import IGNORED_LABEL
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.failures import ExpectedError
from tests.support.tiny_llama import CALLING_TEMPLATE, MARKED_TEMPLATE, TEMPLATE, TEXT_CALLING_TEMPLATE, tiny_llama
from tests.support.token_runs import prepared_rows, token_config

CHAT = {"messages": "messages"}
USER, SAID = {"role": "user", "content": "old"}, {"role": "assistant", "content": "king"}
TIDE = {
    "type": "function",
    "function": {"name": "tide", "parameters": {"type": "object", "properties": {"harbour": {"type": "string"}}}},
}
CLOCK = {
    "type": "function",
    "function": {"name": "clock", "parameters": {"type": "object", "properties": {"zone": {"type": "integer"}}}},
}
Models = dict[str, Path]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Models:
    templates = {"calling": CALLING_TEMPLATE, "text-calling": TEXT_CALLING_TEMPLATE, "marked": MARKED_TEMPLATE}
    folder = tmp_path_factory.mktemp("models")
    return {
        name: tiny_llama(folder / name, template=template, positions=2048, hidden=8, layers=1)
        for name, template in {**templates, "plain": TEMPLATE}.items()
    }


def chat(folder: Path, model: Path, rows: Sequence[dict[str, Any]]) -> TaskConfig:
    return token_config(folder, "text-generation", model=model, train=rows, columns=CHAT)


def texts(config: TaskConfig, *, learnt: bool = False) -> list[str]:
    """Return the rows as the model reads them, or that of them which it learns."""
    return _texts(config, prepare(config), learnt=learnt)


def _texts(config: TaskConfig, prepared: PreparedTask, *, learnt: bool) -> list[str]:
    from transformers import AutoTokenizer

    tokenizer, rows = AutoTokenizer.from_pretrained(config.model.name), prepared_rows(prepared)
    return [
        tokenizer.decode([
            token
            for token, label in zip(rows[index]["input_ids"], rows[index]["labels"], strict=True)
            if not learnt or label != IGNORED_LABEL
        ])
        for index in range(len(rows))
    ]  # fmt: skip


def calling(calls: Any, **message: Any) -> dict[str, Any]:
    """Make a conversation in which the assistant calls."""
    return {"messages": [USER, {"role": "assistant", **message, "tool_calls": calls}]}


def function(arguments: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": "tide", "arguments": arguments}}


CALLS: dict[str, tuple[Any, str]] = {
    # How a call is written in the data -> what the model is to learn of its arguments.
    "object": ([function({"harbour": "Ostend", "day": 2})], '{"harbour": "Ostend", "day": 2}'),
    "json-text": ([function('{"harbour":"Ostend","day":2}')], '{"harbour": "Ostend", "day": 2}'),
    "without-arguments": ([function("")], "{}"),
    "arguments-missing": ([{"type": "function", "function": {"name": "tide"}}], "{}"),
    "bare": ([{"name": "tide", "arguments": {"harbour": "Ostend"}}], '{"harbour": "Ostend"}'),
    "calls-as-text": (json.dumps([function('{"harbour": "Ostend"}')]), '{"harbour": "Ostend"}'),
    "null-in-object": ([function({"harbour": "Ostend", "day": None})], '{"harbour": "Ostend"}'),
    "null-in-text": ([function('{"harbour": null}')], '{"harbour": null}'),
    "unicode": ([function('{"harbour": "Z\\u00fcrich"}')], '{"harbour": "Zürich"}'),
}


@pytest.mark.parametrize("kind", CALLS)
def test_arguments_are_learnt_as_an_object(kind: str, models: Models, tmp_path: Path) -> None:
    calls, arguments = CALLS[kind]
    learnt_texts = texts(chat(tmp_path, models["calling"], [calling(calls, content=None)]), learnt=True)
    assert learnt_texts == [f'<call>{{"name": "tide", "arguments": {arguments}}}</call><|done|>']


@pytest.mark.parametrize("arguments", ['{"harbour":"Ostend"}', {"harbour": "Ostend"}], ids=["text", "object"])
def test_a_template_that_takes_arguments_as_text_gets_them_so(arguments: Any, models: Models, tmp_path: Path) -> None:
    learnt_texts = texts(chat(tmp_path, models["text-calling"], [calling([function(arguments)])]), learnt=True)
    as_text = arguments if isinstance(arguments, str) else '{"harbour": "Ostend"}'
    assert learnt_texts == [f"<call>tide {as_text}</call><|done|>"]


def test_calls_of_different_functions_keep_their_own_arguments(models: Models, tmp_path: Path) -> None:
    rows = [calling([function({"harbour": "Ostend"})]), calling([function({"harbour": 7, "zone": ["a"]})])]
    first, second = texts(chat(tmp_path, models["calling"], rows), learnt=True)
    assert '"arguments": {"harbour": "Ostend"}' in first
    assert '"arguments": {"harbour": 7, "zone": ["a"]}' in second


@pytest.mark.parametrize(
    ("calls", "message"),
    [
        ([function("{'harbour': 'Ostend'}")], "call 1 (tide): its arguments hold \"{'harbour': 'Ostend'}\", which is no JSON"),
        ([function("[1]")], "call 1 (tide): its arguments are '[1]', no object with a value for each name"),
        ([function('"{}"')], "its arguments are '\"{}\"', no object"),
        ([function([1])], "its arguments are [1], no object"),
        ([function('{"harbour": "\\ud83d"}')], "call 1 (tide) holds half a character"),
        ([{"type": "function"}], "call 1 is {'type': 'function'}, which has no function with a name: write tool_calls:"),
        ("tide()", "its key tool_calls holds 'tide()', which is no JSON"),
        ({"name": "tide"}, "its key tool_calls holds {'name': 'tide'}; write tool_calls:"),
    ],
)  # fmt: skip
def test_calls_that_are_none(calls: Any, message: str, models: Models, tmp_path: Path) -> None:
    with pytest.raises(ExpectedError) as caught:
        prepare(chat(tmp_path, models["calling"], [{"messages": [USER, SAID]}, calling(calls)]))
    assert caught.value.reason is Reason.DATA_INVALID
    assert "train.jsonl, line 2: column 'messages', message 2" in str(caught.value)
    assert message in str(caught.value)


# --- tools beside the messages -----------------------------------------------------------------------------------

OFFERS: list[list[Any]] = [[TIDE], [CLOCK, TIDE], []]
MESSAGES = [USER, SAID]
PROMPT = "<|turn|>tools\n{}\n<|done|>\n"


def _write(kind: str, path: Path) -> Path:
    """Write three conversations and the tools that each may call, as a file of some kind."""
    as_text = [json.dumps(offers) for offers in OFFERS]
    if kind == "csv":
        with path.with_suffix(".csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["messages", "tools"], *([json.dumps(MESSAGES), text] for text in as_text)])
        return path.with_suffix(".csv")
    columns: dict[str, Any] = {
        "objects": OFFERS,
        "text": as_text,
        "items-as-text": [[json.dumps(tool) for tool in offers] for offers in OFFERS],
        "bare": [[tool["function"] for tool in offers] for offers in OFFERS],
        "json": OFFERS,
    }
    name, _, kept = kind.partition("-")
    rows = [{"messages": MESSAGES, "tools": tools} for tools in columns[kept]]
    if name == "jsonl":
        path.with_suffix(".jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path.with_suffix(".jsonl")
    features = None
    if kept == "json":
        text = datasets.Value("string")
        messages = datasets.List({"role": text, "content": text})
        features = datasets.Features(messages=messages, tools=datasets.List(datasets.Json()))
    made = datasets.Dataset.from_list(rows, features=features)
    made.to_parquet(str(path.with_suffix(".parquet")))
    return path.with_suffix(".parquet")


@pytest.mark.parametrize(
    "kind",
    [
        *("jsonl-objects", "jsonl-text", "jsonl-items-as-text", "jsonl-bare", "csv"),
        *("parquet-objects", "parquet-text", "parquet-json"),
    ],
)
def test_tools_are_written_as_they_were_given(kind: str, models: Models, tmp_path: Path) -> None:
    made = chat(tmp_path, models["calling"], [{"messages": MESSAGES}])
    source = {"files": {"train": (str(_write(kind, tmp_path / "data")),)}}
    prompts = texts(made.model_copy(update={"dataset": made.dataset.model_copy(update=source)}))
    turns = "<|turn|>user\nold<|done|>\n<|turn|>assistant\nking<|done|>\n"
    written = ["\n".join(json.dumps(tool) for tool in offers) for offers in OFFERS]
    assert prompts == [f"<|begin|>{PROMPT.format(tools) if tools else ''}{turns}" for tools in written]


def test_tools_have_the_name_that_is_given(models: Models, tmp_path: Path) -> None:
    made = chat(tmp_path, models["calling"], [{"messages": MESSAGES, "functions": [TIDE["function"]]}])
    notice = "The data has a column 'functions' beside messages: it is there and is not read."
    assert prepare(made).messages.count(notice) == 1
    named = made.dataset.model_copy(update={"columns": {**CHAT, "tools": "functions"}})
    prepared = prepare(made.model_copy(update={"dataset": named}))
    assert notice not in prepared.messages
    assert '"name": "tide"' in _texts(made, prepared, learnt=False)[0]
    missing = made.dataset.model_copy(update={"columns": {**CHAT, "tools": "function"}})
    with pytest.raises(ExpectedError, match="has no column 'function'"):
        prepare(made.model_copy(update={"dataset": missing}))


@pytest.mark.parametrize(
    ("offered", "message"),
    [
        ("[{'name': 'tide'}]", "column 'tools' holds \"[{'name': 'tide'}]\", which is no JSON"),
        ({"name": "tide"}, "column 'tools' holds '{\"name\": \"tide\"}'; tools are a list of objects, or JSON text of that"),
        ([{"description": "x"}], "column 'tools', tool 1 has the keys description; a tool has type and function"),
    ],
)  # fmt: skip
def test_tools_that_are_none(offered: Any, message: str, models: Models, tmp_path: Path) -> None:
    with pytest.raises(ExpectedError) as caught:
        prepare(chat(tmp_path, models["calling"], [{"messages": MESSAGES, "tools": offered}]))
    assert caught.value.reason is Reason.DATA_INVALID
    assert f"train.jsonl, line 1: {message}" in str(caught.value)


# --- what else stands beside the content -------------------------------------------------------------------------


def test_what_a_template_writes_is_read_and_the_rest_is_named_once(models: Models, tmp_path: Path) -> None:
    spoken = {**SAID, "reasoning_content": "hm", "tool_calls": [function({})]}
    result = {"role": "tool", "name": "tide", "tool_call_id": "1", "content": "2 m"}
    asked = {**USER, "tools": "[]"}
    rows = [{"messages": [asked, spoken, result, SAID], "tools": [TIDE]}] * 2
    files: dict[str, tuple[str, ...]] = {
        "calling": ("Messages have name, tool_call_id, tools beside role and content",),
        "plain": (
            "The conversations have tools, which are there and are not read: the model's chat template writes none.",
            "Messages have name, reasoning_content, tool_call_id, tool_calls, tools beside role and content",
        ),
    }
    for model, expected in files.items():
        (tmp_path / model).mkdir()
        messages = prepare(chat(tmp_path / model, models[model], rows)).messages
        unread = [message for message in messages if "not read" in message]
        assert len(unread) == len(expected), unread
        assert all(message.startswith(start) for message, start in zip(unread, expected, strict=True))


@pytest.mark.parametrize("template", ["plain", "marked"])
@pytest.mark.parametrize("mark", [{"weight": 0}, {"train": False}, {"loss": False}], ids=lambda mark: next(iter(mark)))
def test_a_message_that_is_marked_so_is_not_learnt(
    mark: dict[str, Any], template: str, models: Models, tmp_path: Path
) -> None:
    on = {key: not value if isinstance(value, bool) else 1 for key, value in mark.items()}
    messages = [USER, {"role": "assistant", "content": "tales", **mark}, USER, {**SAID, **on}]
    made = chat(tmp_path, models[template], [{"messages": messages}])
    prepared = prepare(made)
    assert _texts(made, prepared, learnt=True) == ["king<|done|>"]
    assert "tales" in _texts(made, prepared, learnt=False)[0]
    assert not [message for message in prepared.messages if "not read" in message]


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        ({**SAID, "weight": 0.5}, "message 2: its weight is 0.5. A message is learnt (1) or not (0)"),
        ({**SAID, "weight": 0}, "marks all that the assistant says as not to be learnt (weight): there is nothing to learn"),
        (
            {"role": "assistant", "function_call": {"name": "tide", "arguments": "{}"}},
            "message 2 has function_call, which is the older form: write tool_calls:",
        ),
    ],
)  # fmt: skip
def test_marks_that_mean_nothing(message: dict[str, Any], refusal: str, models: Models, tmp_path: Path) -> None:
    with pytest.raises(ExpectedError) as caught:
        prepare(chat(tmp_path, models["plain"], [{"messages": [USER, message]}]))
    assert refusal in str(caught.value)


@pytest.mark.parametrize("content", ["", None, "absent"])
@pytest.mark.parametrize("role", ["system", "developer", "tool"])
def test_an_empty_turn_of_system_or_tool_is_one(role: str, content: Any, models: Models, tmp_path: Path) -> None:
    empty = {"role": role} if content == "absent" else {"role": role, "content": content}
    before, after = ([empty, USER], [SAID]) if role != "tool" else ([USER, SAID, empty], [SAID])
    prompts = texts(chat(tmp_path, models["plain"], [{"messages": [*before, *after]}]))
    assert f"<|turn|>{role}\n<|done|>\n" in prompts[0]
