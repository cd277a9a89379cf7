"""Continuing text: which tokens are learnt of texts, pairs and conversations, what they score, and what is refused."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.contract.training_report import PREDICTIONS_FILE, REPORT_FILE, TrainingReport
from finetune_trainer.data.column_request import IGNORED_LABEL
from finetune_trainer.data.model import load as load_model
from finetune_trainer.data.prepared_dataset import PreparedDataset
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks import plain_text
from tests.support.ranks import Finished, run_ranks
from tests.support.tiny import tiny_bert
from tests.support.tiny_gpt2 import END, WORDS, stories, tiny_gpt2
from tests.support.tiny_llama import FORGETFUL_TEMPLATE, MARKED_TEMPLATE, THINKING_TEMPLATE, chats, pairs, tiny_llama
from tests.support.tiny_t5 import tiny_t5
from tests.support.token_runs import prepared_rows, ready, require_same_step, token_config

PAIR = {"prompt": "prompt", "completion": "completion"}
CHAT = {"messages": "messages"}
HELLO = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "after once"},
    {"role": "assistant", "content": "there"},
    {"role": "user", "content": "after old"},
    {"role": "assistant", "content": "king who"},
]


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_gpt2(tmp_path_factory.mktemp("models") / "gpt2")


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_llama(tmp_path_factory.mktemp("models") / "llama")


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., TaskConfig]:
    return lambda **options: token_config(tmp_path, "text-generation", **options)


def decoded(model: Path, ids: list[int]) -> list[str]:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    return [tokenizer.decode([token]) for token in ids]


def learnt(model: Path, row: dict[str, Any]) -> list[tuple[str, bool]]:
    """Return each token of a row, and whether it is learnt; a label is that of its own token."""
    for token, label in zip(row["input_ids"], row["labels"], strict=True):
        assert label in (token, IGNORED_LABEL)
    return list(zip(decoded(model, row["input_ids"]), (label >= 0 for label in row["labels"]), strict=True))


def taught(model: Path, row: dict[str, Any]) -> str:
    return "".join(token for token, counts in learnt(model, row) if counts)


def all_rows(prepared: PreparedTask, role: str = "train") -> list[dict[str, Any]]:
    rows: PreparedDataset = prepared_rows(prepared, role)
    return [rows[index] for index in range(len(rows))]


# --- texts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("max_length", [2, 7, 16, 64])
def test_packing_loses_nothing(config: Callable[..., TaskConfig], gpt2: Path, max_length: int) -> None:
    texts = stories(37)
    prepared = prepare(config(model=gpt2, train=[{"text": " "}, *texts, {"text": ""}], max_length=max_length))
    rows = all_rows(prepared)
    stream = [token for row in rows for token in row["input_ids"]]
    assert "".join(decoded(gpt2, stream)) == "".join(f"{row['text']}{END}" for row in texts)
    assert {len(row["input_ids"]) for row in rows[:-2]} == {max_length}
    for row in rows:
        assert row["labels"] == [IGNORED_LABEL, *row["input_ids"][1:]]
    report = prepared.splits["train"]
    assert (report.rows, report.sequences, report.truncated) == (37, len(rows), 0)
    assert report.dropped == {"they hold no text": 2}


def test_long_texts_are_tokenised_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain_text, "BATCH_BYTES", 10)
    texts = ["a" * size for size in (4, 4, 4, 30, 1, 9, 10, 0, 1)]
    batches = [batch["text"].to_pylist() for batch in plain_text.batches(pa.table({"text": texts}))]
    assert [[len(text) for text in batch] for batch in batches] == [[4, 4], [4], [30], [1, 9], [10, 0], [1]]


def test_a_row_is_never_too_short_to_learn_from(config: Callable[..., TaskConfig], gpt2: Path) -> None:
    # 8 words and the end make 9 tokens: one more than a row.
    rows = all_rows(prepare(config(model=gpt2, train=stories(1, lengths=(8,)), max_length=8)))
    assert [len(row["input_ids"]) for row in rows] == [7, 2]


def test_texts_that_are_not_packed_are_cut_and_counted(config: Callable[..., TaskConfig], gpt2: Path) -> None:
    texts = stories(20, lengths=(5, 21))
    long = sum(len(row["text"].split()) == 21 for row in texts)
    prepared = prepare(config(model=gpt2, train=texts, packing=False, max_length=10))
    rows = all_rows(prepared)
    assert len(rows) == 20
    assert prepared.splits["train"].truncated == long > 0
    assert f"{long} of 20 train rows are longer than 10 tokens and are cut." in prepared.messages
    for row, source in zip(rows, texts, strict=True):
        text = "".join(decoded(gpt2, row["input_ids"]))
        assert text == f"{source['text']}{END}" if len(source["text"].split()) == 5 else source["text"].startswith(text)


def test_the_left_end_is_cut_but_for_what_opens_a_text(config: Callable[..., TaskConfig], llama: Path) -> None:
    text = " ".join(WORDS)
    prepared = prepare(config(model=llama, train=[{"text": text}], packing=False, max_length=6, truncation_side="left"))
    assert "".join(decoded(llama, all_rows(prepared)[0]["input_ids"])) == "<|begin|> tales of distant lands<|end|>"


def test_without_a_limit_rows_stay_short(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "long", positions=4096)
    prepared = prepare(token_config(tmp_path, "text-generation", model=model, train=stories(100)))
    message = "preprocessing.maxLength is not given: 1024 tokens a row are used. The model reads 4096 tokens."
    assert message in prepared.messages
    assert len(all_rows(prepared)[0]["input_ids"]) == 1024


# --- prompts with completions ------------------------------------------------------------------------------------


def test_the_completion_and_its_end_are_learnt(config: Callable[..., TaskConfig], llama: Path) -> None:
    rows = [
        {"prompt": "king of", "completion": " distant lands"},
        {"prompt": "once ", "completion": "there"},  # as one text the border would be within a token
    ]
    learnt_rows = [learnt(llama, row) for row in all_rows(prepare(config(model=llama, train=rows, columns=PAIR)))]
    assert learnt_rows[0] == [
        ("<|begin|>", False),
        ("king", False),
        (" of", False),
        (" distant", True),
        (" lands", True),
        ("<|end|>", True),
    ]
    assert learnt_rows[1] == [("<|begin|>", False), ("once", False), (" ", False), ("there", True), ("<|end|>", True)]


@pytest.mark.parametrize("packing", [True, False])
def test_marks_of_begin_and_end_that_texts_hold_are_there_once(
    config: Callable[..., TaskConfig], llama: Path, packing: bool
) -> None:
    plain = ["king of lands", "an old <|end|> king"]
    texts = [f"<|begin|>{plain[0]}<|end|>", f"<|begin|>{plain[1]}"]
    marked, expected = (
        all_rows(prepare(config(model=llama, train=[{"text": text} for text in source_texts], packing=packing)))
        for source_texts in (texts, plain)
    )
    assert marked == expected
    assert "".join(decoded(llama, marked[0]["input_ids"])).startswith("<|begin|>king of lands<|end|>")


def test_marks_of_begin_and_end_that_pairs_hold_are_there_once(config: Callable[..., TaskConfig], llama: Path) -> None:
    rows = [
        {"prompt": "<|begin|>king of", "completion": " distant lands<|end|>"},
        {"prompt": "a<|end|>", "completion": "b"},
    ]
    learnt_rows = [learnt(llama, row) for row in all_rows(prepare(config(model=llama, train=rows, columns=PAIR)))]
    assert [token for token, _ in learnt_rows[0]] == ["<|begin|>", "king", " of", " distant", " lands", "<|end|>"]
    assert [token for token, _ in learnt_rows[1]] == ["<|begin|>", "a", "<|end|>", "b", "<|end|>"]


def test_words_that_touch_are_said(config: Callable[..., TaskConfig], llama: Path) -> None:
    rows = [{"prompt": "once", "completion": "there"}] * 3
    messages = prepare(config(model=llama, train=rows, columns=PAIR)).messages
    assert any(message.startswith("3 of 3 training rows have no white space between") for message in messages)


def test_what_is_cut_is_counted_and_what_teaches_nothing_left_out(
    config: Callable[..., TaskConfig], llama: Path
) -> None:
    rows = [
        {"prompt": "once there", "completion": " lived an"},
        {"prompt": "once there", "completion": " lived an old king who had three sons"},
        {"prompt": " ".join(WORDS), "completion": " once"},
    ]
    prepared = prepare(config(model=llama, train=rows, columns=PAIR, max_length=8))
    assert [taught(llama, row) for row in all_rows(prepared)] == [" lived an<|end|>", " lived an old king who"]
    report = prepared.splits["train"]
    assert (report.rows, report.truncated) == (2, 1)
    assert report.dropped == {"their completion lies behind preprocessing.maxLength": 1}
    assert prepared.summary.dropped_rows == 1


def test_pairs_can_be_packed_whole(config: Callable[..., TaskConfig], llama: Path) -> None:
    source_rows = pairs(20)
    single = prepare(config(model=llama, train=source_rows, columns=PAIR))
    lengths = [len(row["input_ids"]) for row in all_rows(single)]
    config_of_packed = single_to_packed(config(model=llama, train=source_rows, columns=PAIR))
    rows = all_rows(prepare(config_of_packed))
    assert len(rows) < 20
    assert sum(len(row["input_ids"]) for row in rows) == sum(lengths)
    assert max(len(row["input_ids"]) for row in rows) <= 64
    taught_of_all = "".join(taught(llama, row) for row in rows)
    assert taught_of_all == "".join(f"{row['completion']}<|end|>" for row in source_rows)


def single_to_packed(config: TaskConfig) -> TaskConfig:
    return config.model_copy(update={"preprocessing": config.preprocessing.model_copy(update={"packing": True})})


# --- conversations -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("template", ["compared", "marked"])
def test_all_that_the_assistant_says_is_learnt(tmp_path: Path, template: str, llama: Path) -> None:
    model = llama if template == "compared" else tiny_llama(tmp_path / "marked", template=MARKED_TEMPLATE)
    chat = [{"messages": HELLO}]
    tokens = learnt(
        model,
        all_rows(prepare(token_config(tmp_path, "text-generation", model=model, train=chat, columns=CHAT)))[0],
    )
    assert "".join(token for token, _ in tokens) == (
        "<|begin|><|turn|>system\nbe brief<|done|>\n<|turn|>user\nafter once<|done|>\n<|turn|>assistant\nthere<|done|>\n"
        "<|turn|>user\nafter old<|done|>\n<|turn|>assistant\nking who<|done|>\n"
    )
    marks = [index for index, (_, counts) in enumerate(tokens) if counts]
    spoken = [tokens[index][0] for index in marks]
    assert spoken == ["there", "<|done|>", "king", " who", "<|done|>"]
    assert [tokens[index - 1][0] for index in marks if not tokens[index - 1][1]] == ["\n", "\n"]


def test_a_template_may_write_more_around_the_last_turn(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "thinking", template=THINKING_TEMPLATE)
    same = [*HELLO[1:3], *HELLO[1:3], *HELLO[3:]]  # the same question with the same answer, twice
    rows = [{"messages": HELLO}, {"messages": same}]
    prepared = prepare(token_config(tmp_path, "text-generation", model=model, train=rows, columns=CHAT))
    last = "<t>\n\n</t>\n\nking who<|done|>"
    assert [taught(model, row) for row in all_rows(prepared)] == [
        f"there<|done|>{last}",
        f"there<|done|>there<|done|>{last}",
    ]


def test_conversations_come_as_text_in_csv(tmp_path: Path, llama: Path) -> None:
    config = token_config(tmp_path, "text-generation", model=llama, train=chats(3), columns=CHAT)
    as_objects = all_rows(prepare(config))
    path = tmp_path / "train.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["messages"], *([json.dumps(row["messages"])] for row in chats(3))])
    source = config.dataset.model_copy(update={"files": {"train": (str(path),)}})
    assert all_rows(prepare(config.model_copy(update={"dataset": source}))) == as_objects


def test_content_may_come_in_parts(config: Callable[..., TaskConfig], llama: Path) -> None:
    parts = [{"type": "text", "text": "old"}, {"type": "text", "text": " king"}]
    chat = [{"role": "user", "content": parts}, {"role": "assistant", "content": parts}]
    rows = all_rows(prepare(config(model=llama, train=[{"messages": chat}], columns=CHAT)))
    assert taught(llama, rows[0]) == "old king<|done|>"


def test_a_conversation_that_is_cut_before_the_answer_is_left_out(
    config: Callable[..., TaskConfig], llama: Path
) -> None:
    short = [{"role": "user", "content": "old"}, {"role": "assistant", "content": "king"}]
    long = [{"role": "user", "content": " ".join(WORDS)}, {"role": "assistant", "content": "king"}]
    prepared = prepare(
        config(model=llama, train=[{"messages": short}, {"messages": long}], columns=CHAT, max_length=22)
    )
    assert [taught(llama, row) for row in all_rows(prepared)] == ["king<|done|>"]
    assert prepared.splits["train"].dropped == {
        "all that the assistant says lies behind preprocessing.maxLength": 1,
    }


# --- loss and metrics --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_the_loss_in_chunks_is_that_of_torch(monkeypatch: pytest.MonkeyPatch, label_smoothing: float) -> None:
    import torch
    from torch.nn.functional import cross_entropy

    from finetune_trainer.tasks import token_loss

    monkeypatch.setattr(token_loss, "CHUNK_ELEMENTS", 3 * 11)  # three tokens at a time
    torch.manual_seed(0)
    logits = torch.randn(4, 9, 11, requires_grad=True)
    labels = torch.randint(11, (4, 9))
    labels[torch.rand(4, 9) < 0.4] = IGNORED_LABEL
    labels[:, 0] = IGNORED_LABEL
    loss = token_loss.loss(shifted=True, label_smoothing=label_smoothing)({"logits": logits}, labels, 5)
    (gradient,) = torch.autograd.grad(loss * 3, logits)
    expected = cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), reduction="sum", label_smoothing=label_smoothing
    )
    (wanted,) = torch.autograd.grad(expected / 5 * 3, logits)
    torch.testing.assert_close(loss, expected / 5)
    torch.testing.assert_close(gradient, wanted)


def test_the_first_label_never_counts(config: Callable[..., TaskConfig], gpt2: Path) -> None:
    # The Trainer counts labels without the first where it takes a model for one that shifts them.
    of = ready(config(model=gpt2, train=stories(40), max_length=16))
    labels = of.collate([of.rows[index] for index in range(len(of.rows))])["labels"]
    assert int((labels != IGNORED_LABEL).sum()) == int((labels[:, 1:] != IGNORED_LABEL).sum()) > 0


def test_loss_and_perplexity_are_those_of_the_model_itself(config: Callable[..., TaskConfig], gpt2: Path) -> None:
    import torch

    of = ready(config(model=gpt2, train=stories(4), validation=stories(30, seed=1), max_length=16))
    metrics = of.task.metrics(of.run, of.evaluated("validation"))
    rows = prepared_rows(of.run.prepared, "validation")
    losses = []
    for index in range(len(rows)):
        ids = torch.tensor([rows[index]["input_ids"]])
        with torch.no_grad():
            losses += [float(of.run.model(input_ids=ids, labels=ids).loss)] * (ids.shape[1] - 1)
    assert metrics["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert metrics["perplexity"] == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)
    assert 0 <= metrics["accuracy"] < 0.2, "untrained"


def test_a_batch_is_filled_up_on_the_right(config: Callable[..., TaskConfig], llama: Path) -> None:
    of = ready(config(model=llama, train=chats(2) + chats(2, turns=1), columns=CHAT, max_length=60))
    batch = of.collate([of.rows[0], of.rows[2]])
    longer, shorter = (len(of.rows[index]["input_ids"]) for index in (0, 2))
    assert batch["input_ids"].shape == (2, longer)
    assert batch["attention_mask"].sum(dim=1).tolist() == [longer, shorter]
    assert set(batch["input_ids"][1, shorter:].tolist()) == {of.run.tokenizer.pad_token_id}
    assert set(batch["labels"][1, shorter:].tolist()) == {IGNORED_LABEL}
    always = of.run.config.model_copy(
        update={"preprocessing": of.run.config.preprocessing.model_copy(update={"padding": "max_length"})}
    )
    assert ready(always).collate([of.rows[2]])["input_ids"].shape == (1, 60)


def test_a_step_is_the_same_whoever_shares_it_gpt2(config: Callable[..., TaskConfig], gpt2: Path) -> None:
    of = ready(config(model=gpt2, train=stories(41), packing=False))
    require_same_step(of)
    assert of.first_step(1, 1).loss == pytest.approx(np.log(len(of.run.tokenizer)), rel=0.05)


def test_a_step_is_the_same_whoever_shares_it_llama(config: Callable[..., TaskConfig], llama: Path) -> None:
    require_same_step(ready(config(model=llama, train=chats(11) + chats(10, turns=1), columns=CHAT)))


def test_the_test_split_is_scored_row_by_row(config: Callable[..., TaskConfig], gpt2: Path) -> None:
    rows = stories(9, seed=3)
    of = ready(config(model=gpt2, train=stories(30), test=rows, max_length=10))
    evaluated = of.evaluated("test")
    assert len(evaluated.rows) > 9, "long texts are scored in parts"
    predictions = list(of.task.predictions(of.run, evaluated))
    assert [row["text"] for row in predictions] == [row["text"] for row in rows]
    metrics = of.task.metrics(of.run, evaluated)
    tokens = sum(row["tokens"] for row in predictions)
    assert sum(row["loss"] * row["tokens"] for row in predictions) / tokens == pytest.approx(metrics["loss"], rel=1e-5)
    assert all(row["perplexity"] == pytest.approx(np.exp(row["loss"])) for row in predictions)


# --- what is refused ---------------------------------------------------------------------------------------------


USER = {"role": "user", "content": "old"}
SAID = {"role": "assistant", "content": "king"}


@pytest.mark.parametrize(
    ("messages", "refusal"),
    [
        ([USER], "line 2: column 'messages' has no message of the role assistant: there is nothing to learn"),
        ([], "line 2: column 'messages' has no message of the role assistant"),
        (
            [USER, {"role": "bot", "content": "king"}],
            "line 2: column 'messages', message 2 has the role 'bot'; roles are system, developer, user, assistant, tool",
        ),
        (
            [{"from": "human", "value": "old"}],
            "line 2: column 'messages', message 1 has the keys from, value; a message has role and content",
        ),
        ([USER, {"role": "assistant", "content": " "}], "message 2 (role assistant) has no content"),
        ([USER, {"role": "assistant"}], "line 2: column 'messages', message 2 (role assistant) has no content"),
        (
            json.dumps([{"role": "user", "content": 3}, SAID]),
            "line 2: column 'messages', message 1: its content is 3, not text",
        ),
        (
            json.dumps([{"role": "user", "content": [{"type": "image", "url": "x"}]}, SAID]),
            "message 1 holds {'type': 'image', 'url': 'x'}, which is no text",
        ),
        ([SAID], "the conversation begins with the assistant"),
        ("old king", "line 2: column 'messages' holds 'old king', which is no JSON"),
        ('{"role": "user"}', "a conversation is a list of objects with the keys role and content"),
    ],
)
def test_a_conversation_that_is_none(
    config: Callable[..., TaskConfig], llama: Path, messages: Any, refusal: str
) -> None:
    good: Any = json.dumps([USER, SAID]) if isinstance(messages, str) else [USER, SAID]
    rows = [{"messages": good}, {"messages": messages}]
    with pytest.raises(ExpectedError) as caught:
        prepare(config(model=llama, train=rows, columns=CHAT))
    assert caught.value.reason is Reason.DATA_INVALID
    assert "train.jsonl" in str(caught.value)
    assert refusal in str(caught.value)


def test_a_template_that_changes_what_was_said(tmp_path: Path) -> None:
    model = tiny_llama(tmp_path / "forgetful", template=FORGETFUL_TEMPLATE)
    once = [{"messages": HELLO[:3]}]
    with pytest.raises(
        ExpectedError, match=r"line 2: the chat template of .* writes message 3 in another way once more"
    ):
        prepare(
            token_config(tmp_path, "text-generation", model=model, train=[*once, {"messages": HELLO}], columns=CHAT)
        )
    alone = tmp_path / "alone"
    prepared = prepare(token_config(alone, "text-generation", model=model, train=once, columns=CHAT))
    assert [taught(model, row) for row in all_rows(prepared)] == ["there<|done|>"]


def test_a_conversation_that_the_template_refuses(tmp_path: Path) -> None:
    strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role here') }}{% endif %}"
    model = tiny_llama(tmp_path / "strict", template=strict + MARKED_TEMPLATE)
    with pytest.raises(ExpectedError, match=r"train.jsonl, line 1: the chat template of .*: no system role here"):
        prepare(token_config(tmp_path, "text-generation", model=model, train=[{"messages": HELLO}], columns=CHAT))


@pytest.mark.parametrize(
    ("rows", "columns", "message"),
    [
        (
            [{"prompt": "a", "completion": " "}],
            PAIR,
            "line 1: column 'completion' holds ' ', no text. Leave such rows out",
        ),
        ([{"prompt": None, "completion": "b"}] * 2, PAIR, "line 1: column 'prompt' has no text (and 1 more row)"),
        ([{"text": " "}, {"text": None}], {}, "column 'text' holds no text in any of its 2 rows"),
        ([{"text": "a"}], {"text": "text", "messages": "chat"}, "columns names text, messages: rows are either texts"),
        ([{"prompt": "a"}], {"prompt": "prompt"}, "columns names prompt but not completion: name both"),
        ([{"x": "a"}], {"prompt": "x", "completion": "x"}, "columns names x for two roles"),
    ],
)
def test_rows_that_are_none(
    config: Callable[..., TaskConfig], llama: Path, rows: list[dict[str, Any]], columns: dict[str, str], message: str
) -> None:
    with pytest.raises(ExpectedError) as caught:
        prepare(config(model=llama, train=rows, columns=columns))
    assert message in str(caught.value)


def test_models_that_cannot_continue_a_text(tmp_path: Path, gpt2: Path) -> None:
    refusals: dict[Path, tuple[dict[str, str], str]] = {
        tiny_bert(tmp_path / "bert"): ({}, "reads a text in both directions"),
        tiny_t5(tmp_path / "t5"): ({}, "has no head for text generation. Choose a model of another kind: "),
        gpt2: (CHAT, "its tokenizer has no chat template"),
        without_end(gpt2, tmp_path / "endless"): ({}, "its tokenizer has no token for the end of a text"),
    }
    for place, (model, (columns, message)) in enumerate(refusals.items()):
        rows = chats(2) if columns else stories(2)
        with pytest.raises(ExpectedError) as caught:
            prepare(token_config(tmp_path / str(place), "text-generation", model=model, train=rows, columns=columns))
        assert caught.value.reason is Reason.MODEL_NOT_FOUND
        assert message in str(caught.value)


def test_settings_for_generation_can_be_saved_again(tmp_path: Path, llama: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(llama, model)
    path = model / "generation_config.json"
    published = json.loads(path.read_text())
    del published["pad_token_id"]
    for place, mistake in enumerate(({"temperature": 0.6, "top_p": 0.9}, {"num_beams": 1, "length_penalty": 2.0})):
        path.write_text(json.dumps({**published, **mistake}))
        of = ready(token_config(tmp_path / str(place), "text-generation", model=model, train=stories(3)))
        of.run.model.save_pretrained(tmp_path / "saved")
        saved = json.loads((tmp_path / "saved" / "generation_config.json").read_text())
        assert saved["pad_token_id"] == of.run.tokenizer.pad_token_id
        assert saved["eos_token_id"] == published["eos_token_id"]
        assert (saved.get("temperature"), saved.get("do_sample")) == ((0.6, True) if not place else (None, None))


def without_end(model: Path, folder: Path) -> Path:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    tokenizer.eos_token = None
    tokenizer.pad_token = END
    AutoModelForCausalLM.from_pretrained(model).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


# --- two ranks ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, llama: Path) -> Finished:
    """Train on two ranks that learn from conversations, are killed, and go on."""
    folder = tmp_path_factory.mktemp("gang")
    config = token_config(
        folder,
        "text-generation",
        model=llama,
        train=chats(400),
        validation=chats(21, seed=1),
        test=chats(5, seed=2),
        columns=CHAT,
        arguments={
            "num_train_epochs": 6,
            "learning_rate": 1e-2,
            "per_device_train_batch_size": 8,
            "logging_steps": 25,
            "eval_strategy": "epoch",
            "save_strategy": "steps",
            "save_steps": 75,
        },
        processes=2,
    )
    killed = run_ranks(folder / "killed", config, world=2, kill_after_checkpoint=75)
    assert not killed.heard.results
    return run_ranks(folder / "resumed", config, world=2, resume=killed.checkpoint(75))


def test_two_ranks_learn_to_answer(trained: Finished) -> None:
    assert trained.returncode == 0, trained.output
    report = TrainingReport.model_validate_json((trained.model / REPORT_FILE).read_text(encoding="utf-8"))
    assert report.steps == 150
    assert report.evaluation is not None
    # Whoever knows only that a word of the cycle comes next, and then the end of the turn, is at the root of 23.
    assert report.evaluation["perplexity"] < 1.5 < np.sqrt(len(WORDS))
    assert report.evaluation["accuracy"] > 0.85
    lines = (trained.model / PREDICTIONS_FILE).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["messages"] for line in lines] == [row["messages"] for row in chats(5, seed=2)]


def test_the_model_answers_in_a_plain_pipeline(trained: Finished) -> None:
    from transformers import pipeline

    answer = pipeline("text-generation", model=str(trained.model))
    right = 0
    for index, word in enumerate(WORDS):
        replies = answer([{"role": "user", "content": f"after {word}"}], max_new_tokens=8, do_sample=False)
        right += replies[0]["generated_text"][-1]["content"] == WORDS[(index + 1) % len(WORDS)]
    assert right > len(WORDS) * 0.7
    assert answer.model.config.pad_token_id == answer.tokenizer.pad_token_id is not None


def test_another_chat_template_is_another_tokenizer(tmp_path: Path) -> None:
    """Prepared conversations must not be found again under a template that writes them in another way."""
    folder = tiny_llama(tmp_path / "model")
    (template,) = folder.glob("chat_template*")
    before = load_model(folder, "the model").tokenizer_digest
    template.write_text(template.read_text().replace("<|turn|>", "<|done|>"))
    assert load_model(folder, "the model").tokenizer_digest != before
