"""Data and models as people have them, small: what must come of each. Every case stands for a kind of fault.

What a case is and what is right, its docstring says. Those of manifests alone are in `tests/unit/test_cases.py`.
"""

from __future__ import annotations

import decimal
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune_trainer import tasks
from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Cause, Failure, Reason
from finetune_trainer.contract.run_config import Peft, TaskConfig
from finetune_trainer.prepare.prepare_command import attempt
from tests.support import global_step
from tests.support.labelled import config
from tests.support.ranks import run_ranks
from tests.support.tiny import Row, reviews, tiny_bert, write_rows
from tests.support.tiny_llama import CALLING_TEMPLATE, tiny_llama
from tests.support.tiny_translators import sentences, tiny_bart

REVIEW = {"text": "review", "label": "stars"}


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("models") / "llama", positions=256)


def job(folder: Path, model: Path, task: str, columns: dict[str, str], **fields: Any) -> TaskConfig:
    """Make a run on the files that are in a folder, each called after its split."""
    files = {path.stem: path for path in sorted(folder.iterdir()) if path.stem in ("train", "validation", "test")}
    return config(folder / "output", task=task, model=model, files=files, columns=columns, **fields)


def classified(folder: Path, model: Path, name: str, content: str, columns: dict[str, str]) -> PreparedTask | Failure:
    """Prepare a file for text classification; returns what that comes to."""
    (folder / name).write_text(content, encoding="utf-8")
    return attempt(job(folder, model, "text-classification", columns))


def labels(outcome: PreparedTask | Failure) -> dict[str, int]:
    """Count the training rows that have each label."""
    assert isinstance(outcome, PreparedTask), outcome
    return outcome.splits["train"].labels


def test_columns_of_a_spreadsheet_without_a_name(bert: Path, tmp_path: Path) -> None:
    """Two named columns, three without a name that hold nothing. Right: the named columns are read."""
    rows = ['ham,"see you, at the station"', "spam,win a free boat", "ham,the soup was cold", "spam,you have won"]
    content = "v1,v2,,,\n" + "".join(f"{row},,,\n" for row in rows)
    assert labels(classified(tmp_path, bert, "train.csv", content, {"text": "v2", "label": "v1"})) == {
        "ham": 2,
        "spam": 2,
    }


def test_labels_are_text_of_digits(bert: Path, tmp_path: Path) -> None:
    """Star ratings "1" to "5" as JSON strings. Right: five classes of these names."""
    content = "".join(json.dumps({"review": f"soup {stars}", "stars": stars}) + "\n" for stars in "1234512345")
    assert labels(classified(tmp_path, bert, "train.jsonl", content, REVIEW)) == dict.fromkeys("12345", 2)


def test_labels_are_codes_with_zeros(bert: Path, tmp_path: Path) -> None:
    """Codes 00, 01, 02 in csv, where everything is text. Right: classes of these names."""
    content = "review,stars\nbread,01\nshoes,02\na table,00\nrolls,01\nboots,02\na chair,00\n"
    assert labels(classified(tmp_path, bert, "train.csv", content, REVIEW)) == {"00": 2, "01": 2, "02": 2}


@pytest.mark.parametrize(
    ("task", "columns", "line"),
    [
        ("text-classification", REVIEW, r'{"review": "cut off \ud83d", "stars": "bad"}'),
        (
            "text-generation",
            {"messages": "messages"},
            r'{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "well \ud83d"}]}',
        ),
        (
            "text-generation",
            {"messages": "messages"},
            r'{"messages": "[{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", \"content\": \"w \\ud83d\"}]"}',
        ),
    ],
    ids=["text", "chat", "chat-as-text"],
)
def test_half_an_emoji(task: str, columns: dict[str, str], line: str, bert: Path, llama: Path, tmp_path: Path) -> None:
    """Text was cut in the middle of an emoji: json.dumps writes a lone surrogate, which is no character of UTF-8. Right:
    DataInvalid with file and line; not a crash, not another try.
    """
    good = line.replace(r" \ud83d", "").replace(r" \\ud83d", "")
    (tmp_path / "train.jsonl").write_text(f"{good}\n{line}\n")
    outcome = attempt(job(tmp_path, bert if task == "text-classification" else llama, task, columns))
    assert isinstance(outcome, Failure), outcome
    assert (outcome.reason, outcome.cause) == (Reason.DATA_INVALID, Cause.USER)
    assert f"{tmp_path}/train.jsonl, line 2: " in outcome.message
    assert "half a character" in outcome.message


@pytest.mark.parametrize(
    "table",
    [
        {"review": {"0": "a station", "1": "a boat"}, "stars": {"0": "ham", "1": "spam"}},
        {"review": ["a station", "a boat"], "stars": ["ham", "spam"]},
    ],
    ids=["numbered", "lists"],
)
@pytest.mark.parametrize("indent", [None, 2], ids=["one-line", "lines"])
def test_json_by_columns(table: Any, indent: int | None, bert: Path, tmp_path: Path) -> None:
    """What DataFrame.to_json() writes by default. Right: refused with the reason and the way out."""
    outcome = classified(tmp_path, bert, "train.json", json.dumps(table, indent=indent), REVIEW)
    assert isinstance(outcome, Failure), outcome
    assert outcome.reason is Reason.DATA_INVALID
    assert "a key for each column" in outcome.message
    assert 'df.to_json(path, orient="records", lines=True)' in outcome.message


@pytest.mark.parametrize("seventh", ["a kind waiter", 'a 12" pizza'], ids=["even", "odd"])
def test_tabs_and_quotes(seventh: str, bert: Path, tmp_path: Path) -> None:
    """Values between tabs as corpora have them: a quote is a character like any other. Right: as many rows as lines, each with
    its own label; wrong are fewer, because a quote at the beginning of a line swallows what is up to the next one.
    """
    texts = [
        "good food",
        '"Never again',
        "an hour",
        '"What a place',
        'they said "soon" and meant it',
        "cold",
        seventh,
        "stale",
    ]
    content = "review\tstars\n" + "".join(f"{text}\t{'np'[number % 2]}\n" for number, text in enumerate(texts))
    outcome = classified(tmp_path, bert, "train.tsv", content, REVIEW)
    assert labels(outcome) == {"n": 4, "p": 4}
    assert isinstance(outcome, PreparedTask)
    assert any("are read as characters like any other" in message for message in outcome.messages)


def test_words_without_tokens(bert: Path, tmp_path: Path) -> None:
    """Words that a tokenizer's normaliser drops as a whole (zero width space, soft hyphen, control character) between others.
    Right: trains, and each row has as many predictions as words, none where a word has no token.
    """
    rows: list[Row] = [
        {"tokens": ["ada", "went", "to", "ghent"], "ner_tags": ["B-PER", "O", "O", "B-LOC"]},
        {"tokens": ["\u200b", "ben", "in", "\ufe0f", "oslo"], "ner_tags": ["O", "B-PER", "O", "B-LOC", "I-LOC"]},
        {"tokens": ["the", "\u00ad", "train"], "ner_tags": ["O", "O", "O"]},
        {"tokens": ["\u0007", "cleo"], "ner_tags": ["B-PER", "I-PER"]},
    ]
    for role in ("train", "validation"):
        write_rows(tmp_path / f"{role}.jsonl", rows)
    made = job(tmp_path, bert, "token-classification", {"words": "tokens", "tags": "ner_tags"})
    prepared = attempt(made)
    assert isinstance(prepared, PreparedTask), prepared
    run = global_step.training(made, prepared)
    assert np.isfinite([step.loss for step in global_step.steps(run, ranks=2, accumulation=1)]).all()
    predictions = list(tasks.find(made.task).predictions(run, global_step.evaluated(run)))
    assert [row["words"] for row in predictions] == [row["tokens"] for row in rows]
    assert [[tag is None for tag in row["prediction"]] for row in predictions] == [
        [False] * 4,
        [True, False, False, True, False],
        [False, True, False],
        [True, False],
    ]
    assert [row["reference"] for row in predictions] == [row["ner_tags"] for row in rows]


def test_a_question_longer_than_a_window(bert: Path, tmp_path: Path) -> None:
    """A question that is longer than what the model reads, and one that begins with white space. Right: the long one is cut,
    which is said, and its window holds some context.
    """
    context = "ada said that the river would rise. ben did not agree, and cleo went home."
    long = (
        "which of the many people who were named in the report that was read out on the first day was it who said so "
        * 2
    )
    questions = [(long, "ada"), ("   \n who went home?", "cleo"), ("who did not agree?", "ben")]
    write_rows(
        tmp_path / "train.jsonl",
        [
            {
                "question": question,
                "context": context,
                "answers": {"text": [answer], "answer_start": [context.index(answer)]},
            }
            for question, answer in questions
        ],
    )
    columns = {name: name for name in ("question", "context", "answers")}
    outcome = attempt(job(tmp_path, bert, "question-answering", columns))
    assert isinstance(outcome, PreparedTask), outcome
    assert outcome.splits["train"].truncated == 1
    assert any(
        message.startswith("1 of 3 train rows are longer than 64 tokens and are cut") for message in outcome.messages
    )


def test_tools_of_a_conversation(tmp_path: Path) -> None:
    """Tools beside the messages, a call without content, and what it gave back. Right: the tools are in the prompt."""
    properties = {"harbour": {"type": "string"}}
    tide = {"name": "get_tide", "description": "Height of the tide", "parameters": {"properties": properties}}
    call = {"type": "function", "function": {"name": "get_tide", "arguments": '{"harbour": "Ostend"}'}}
    messages = [
        {"role": "user", "content": "how high is the water?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "name": "get_tide", "content": "2 m"},
        {"role": "assistant", "content": "It stands at 2 m."},
    ]
    row = {"tools": [{"type": "function", "function": tide}], "messages": messages}
    write_rows(tmp_path / "train.jsonl", [row] * 2)
    model = tiny_llama(tmp_path / "calling", template=CALLING_TEMPLATE, positions=1024)
    outcome = attempt(job(tmp_path, model, "text-generation", {"messages": "messages"}))
    assert isinstance(outcome, PreparedTask), outcome
    example = outcome.splits["train"].example or ""
    assert "Height of the tide" in example
    assert '"arguments": {"harbour": "Ostend"}' in example


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "system", "content": ""}, {"role": "user", "content": "name a bird"}],
        [
            {"role": "user", "content": "delete it"},
            {"role": "assistant", "content": None, "tool_calls": [{"function": {"name": "delete", "arguments": {}}}]},
            {"role": "tool", "content": ""},
        ],
    ],
    ids=["system", "tool"],
)
def test_empty_turns(messages: list[dict[str, Any]], llama: Path, tmp_path: Path) -> None:
    """An empty system prompt, and a tool that gave nothing back. Right: accepted."""
    write_rows(tmp_path / "train.jsonl", [{"messages": [*messages, {"role": "assistant", "content": "done"}]}] * 2)
    outcome = attempt(job(tmp_path, llama, "text-generation", {"messages": "messages"}))
    assert isinstance(outcome, PreparedTask), outcome


TEXTS, KINDS = ["a good day", "a bad day", "good bread", "bad soup"], ["good", "bad", "good", "bad"]
TABLES: dict[str, tuple[Any, Any, dict[str, int] | str]] = {
    # Name -> texts, labels, and the labels that are read or the type that is named.
    "categories": (
        pa.array(TEXTS).dictionary_encode(),
        pa.array(KINDS).dictionary_encode(),
        {"bad": 2, "good": 2},
    ),
    "large": (pa.array(TEXTS, pa.large_string()), pa.array([1, 0, 1, 0], pa.uint8()), {"0": 2, "1": 2}),
    "bytes": (pa.array([text.encode() for text in TEXTS]), KINDS, "binary"),
    "decimals": (TEXTS, pa.array([decimal.Decimal(bit) for bit in (1, 0, 1, 0)], pa.decimal128(10, 0)), "decimal128"),
    "floats": (TEXTS, pa.array([1.0, 0.0, 1.0, 0.0]), "decimal point"),
    "halves": (TEXTS, pa.array([1.0, 0.0, 1.0, 0.0], pa.float16()), "decimal point"),
}


@pytest.mark.parametrize("kind", TABLES)
def test_columns_as_pandas_writes_them(kind: str, bert: Path, tmp_path: Path) -> None:
    """Categories, wide text, bytes, decimals, whole numbers as floats. Right: read, or refused with the type's name."""
    texts, values, expected = TABLES[kind]
    pq.write_table(pa.table({"review": texts, "stars": values}), tmp_path / "train.parquet")
    outcome = attempt(job(tmp_path, bert, "text-classification", REVIEW))
    if isinstance(expected, dict):
        assert labels(outcome) == expected
    else:
        assert isinstance(outcome, Failure), outcome
        assert outcome.cause is Cause.USER
        assert expected in outcome.message


@pytest.mark.parametrize("reentrant", [False, True], ids=["newer-way", "reentrant"])
def test_an_adapter_learns_with_activations_computed_again(reentrant: bool, llama: Path, tmp_path: Path) -> None:
    """LoRA with gradient_checkpointing on two ranks: elsewhere it ends with "element 0 of tensors does not require grad", with
    "Expected to mark a variable ready only once" where the older way was asked for, or no gradient reaches the adapters.
    Right: trains, and every matrix that begins at zero has moved away from it; what was not had as asked for is said.
    """
    from safetensors.numpy import load_file

    write_rows(tmp_path / "train.jsonl", [{"text": f"cold soup and a rude waiter {number}"} for number in range(8)])
    arguments = {
        "max_steps": 2,
        "per_device_train_batch_size": 1,
        "learning_rate": 1e-2,
        "activation_checkpointing": True,
        **({"activation_checkpointing_kwargs": {"use_reentrant": True}} if reentrant else {}),
    }
    made = job(
        tmp_path,
        llama,
        "text-generation",
        {"text": "text"},
        preprocessing={"maxLength": 16},
        training_arguments=arguments,
        peft=Peft(r=4),
        processes=2,
    )
    finished = run_ranks(tmp_path / "ranks", made, world=2)
    assert finished.returncode == 0, finished.output
    moved = {
        name: float(abs(value).max())
        for name, value in load_file(finished.model / "adapter_model.safetensors").items()
        if "lora_B" in name
    }
    assert moved
    assert [name for name, size in moved.items() if size == 0.0] == []
    assert any(message.startswith("use_reentrant: true cannot") for message in finished.heard.messages()) is reentrant


def test_layers_left_out_at_random_on_two_ranks(tmp_path: Path) -> None:
    """A model whose configuration leaves out whole layers in a step (M2M100), with gradient_checkpointing, on two ranks. Elsewhere
    "Expected to have finished reduction in the prior iteration". Right: trains.
    """
    model = tiny_bart(tmp_path / "model")
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "encoder_layerdrop": 0.5, "decoder_layerdrop": 0.5}))
    write_rows(tmp_path / "train.jsonl", sentences(24))
    arguments = {"max_steps": 6, "per_device_train_batch_size": 2, "logging_steps": 1, "activation_checkpointing": True}
    columns = {"source": "en", "target": "de"}
    made = job(tmp_path, model, "translation", columns, training_arguments=arguments, processes=2)
    finished = run_ranks(tmp_path / "ranks", made, world=2)
    assert finished.returncode == 0, finished.output
    refused = made.model_copy(update={"training_arguments": {**arguments, "ddp_static_graph": True}})
    outcome = attempt(refused)
    assert isinstance(outcome, Failure), outcome
    assert (outcome.reason, outcome.cause) == (Reason.ARGUMENTS_INVALID, Cause.USER)
    assert "the model leaves out layers at random (decoder_layerdrop 0.5, encoder_layerdrop 0.5" in outcome.message


def test_a_classifier_of_a_model_without_padding(tmp_path: Path) -> None:
    """A model that continues text and has no token for padding (Llama 3, GPT-2) as a classifier. Right: trains, and the saved
    model says of texts in a batch what it says of each alone, as a plain pipeline loads it.
    """
    import torch
    from transformers import pipeline

    model = tiny_llama(tmp_path / "model")
    for name, key in (("config.json", "pad_token_id"), ("tokenizer_config.json", "pad_token")):
        settings = json.loads((model / name).read_text())
        settings.pop(key, None)
        (model / name).write_text(json.dumps(settings))
    rows = reviews(48)
    write_rows(tmp_path / "train.jsonl", rows)
    made = job(tmp_path, model, "text-classification", REVIEW)
    prepared = attempt(made)
    assert isinstance(prepared, PreparedTask), prepared
    run = global_step.training(made, prepared)
    task, data = tasks.find(made.task), global_step.rows_of(run)
    optimizer = torch.optim.AdamW(run.model.parameters(), lr=1e-2)
    collate, loss = task.collator(run), task.loss(run)
    for start in [*range(0, len(rows), 8)] * 6:
        batch = collate([data[index] for index in range(start, start + 8)])
        wanted = batch.pop("labels")
        loss(run.model(**batch), wanted).backward()
        optimizer.step()
        optimizer.zero_grad()
    run.model.save_pretrained(tmp_path / "saved")
    run.tokenizer.save_pretrained(tmp_path / "saved")

    classify = pipeline("text-classification", model=str(tmp_path / "saved"), device="cpu")
    texts = [row["review"] for row in rows]
    alone = [classify(text)[0] for text in texts]
    together = classify(texts, batch_size=8)
    assert len({len(text.split()) for text in texts}) > 3, "some are filled up"
    assert [result["label"] for result in alone] == [result["label"] for result in together]
    assert np.allclose([result["score"] for result in alone], [result["score"] for result in together], atol=1e-4)
    assert sum(result["label"] == row["stars"] for result, row in zip(alone, rows, strict=True)) > 40


def test_more_epochs_for_a_finished_model(bert: Path, tmp_path: Path) -> None:
    """Whoever trained one epoch wants another one: a job goes on from the last checkpoint of a finished one, with more epochs.
    Right: it trains the steps that are missing, neither none nor from the beginning.
    """
    write_rows(tmp_path / "train.csv", reviews(24))
    arguments = {"num_train_epochs": 1, "per_device_train_batch_size": 8, "save_strategy": "epoch", "logging_steps": 1}
    made = job(tmp_path, bert, "text-classification", REVIEW, training_arguments=arguments)
    first = run_ranks(tmp_path / "first", made)
    assert first.returncode == 0, first.output
    more = made.model_copy(update={"training_arguments": {**arguments, "num_train_epochs": 2}})
    second = run_ranks(tmp_path / "second", more, resume=first.checkpoint(3))
    assert second.returncode == 0, second.output
    assert [entry["step"] for entry in second.log() if "loss" in entry] == [1, 2, 3, 4, 5, 6]
    seen = [report["step"] for report in second.heard.progress if "step" in report]
    assert (min(seen), max(seen)) >= (3, 6)
    assert not (second.sealed / "checkpoint-3").exists(), "it was not trained anew"
