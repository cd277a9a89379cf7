"""Words that are hidden: which, how many, the same for everyone; what guessing them scores, and what is refused."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.contract.training_report import PREDICTIONS_FILE, REPORT_FILE, TrainingReport
from finetune_trainer.data.column_request import IGNORED_LABEL
from finetune_trainer.data.prepared_dataset import DRAW
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks.mlm_collator import CONTINUES, MaskingCollator
from finetune_trainer.tasks.plain_text import PaddingCollator
from tests.support.ranks import Finished, run_ranks
from tests.support.tiny import BAD, GOOD, NEUTRAL, reviews, tiny_bert
from tests.support.tiny_gpt2 import tiny_gpt2
from tests.support.token_runs import prepared_rows, ready, require_same_step, token_config

TEXT = {"text": "review"}
WORDS = (*GOOD, *BAD, *NEUTRAL)
MASK, OTHERS, TOKENS = 4, range(5, 1000), 1000
"""Ids of a vocabulary of a thousand."""


def echoes(count: int, *, seed: int = 0) -> list[dict[str, Any]]:
    """Return texts of one word again and again: what is hidden is what is seen."""
    random_source = random.Random(seed)
    words = random_source.choices(WORDS, k=count)
    return [{"text": " ".join([word] * random_source.choice((7, 11, 15)))} for word in words]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., TaskConfig]:
    return lambda **options: token_config(tmp_path, "fill-mask", **options)


def masked(**changes: Any) -> MaskingCollator:
    settings: dict[str, Any] = {"mask": MASK, "tokens": TOKENS, "probability": 0.15, "seed": 42, **changes}
    return MaskingCollator(padded=PaddingCollator(pad=0, masked=True, multiple=1, width=None), **settings)


def long_row(tokens: int = 500, **columns: list[int]) -> dict[str, Any]:
    """Make a row with a token that is never hidden at each end."""
    ids = [2, *np.random.default_rng(0).choice(OTHERS, size=tokens - 2).tolist(), 3]
    return {"input_ids": ids, "labels": [IGNORED_LABEL, *ids[1:-1], IGNORED_LABEL], **columns}


# --- what is hidden ----------------------------------------------------------------------------------------------


def test_shares_are_those_of_bert() -> None:
    row, hide = long_row(), masked()
    drawn = [hide.hidden(row, (0, number)) for number in range(200)]
    ids = np.stack([draw["input_ids"] for draw in drawn])
    labels = np.stack([draw["labels"] for draw in drawn])
    original = np.asarray(row["input_ids"])
    hidden = labels != IGNORED_LABEL
    assert not hidden[:, [0, -1]].any(), "what goes around a text is never hidden"
    assert (ids[~hidden] == np.broadcast_to(original, ids.shape)[~hidden]).all()
    assert (labels[hidden] == np.broadcast_to(original, ids.shape)[hidden]).all()
    assert hidden[:, 1:-1].mean() == pytest.approx(0.15, abs=0.005)
    as_mask = ids[hidden] == MASK
    changed = (ids[hidden] != labels[hidden]) & ~as_mask
    assert as_mask.mean() == pytest.approx(0.8, abs=0.01)
    assert changed.mean() == pytest.approx(0.1, abs=0.01)
    assert len(np.unique(ids[hidden][changed])) > 500, "any token may stand for it"


def test_the_share_is_the_users_to_choose(config: Callable[..., TaskConfig], bert: Path) -> None:
    labels = np.stack([masked(probability=0.4).hidden(long_row(), (0, i))["labels"] for i in range(100)])
    assert (labels[:, 1:-1] != IGNORED_LABEL).mean() == pytest.approx(0.4, abs=0.01)
    of = ready(config(model=bert, train=reviews(40), columns=TEXT, mask_probability=0.4))
    batch = of.collate([of.rows[index] for index in range(40)])
    share = (batch["labels"] != IGNORED_LABEL).sum() / (batch["attention_mask"].sum() - 2 * 40)
    assert float(share) == pytest.approx(0.4, abs=0.1)


def test_draws_differ_by_epoch_row_and_seed_alone() -> None:
    row = long_row()
    first = masked().hidden(row, (0, 7))["input_ids"].tolist()
    assert masked().hidden(row, (0, 7))["input_ids"].tolist() == first
    others = [masked().hidden(row, (1, 7)), masked().hidden(row, (0, 8)), masked(seed=1).hidden(row, (0, 7))]
    assert all(other["input_ids"].tolist() != first for other in others)


def test_no_row_is_without_a_hidden_token_but_a_filler() -> None:
    short = {"input_ids": [2, 9, 3], "labels": [IGNORED_LABEL, 9, IGNORED_LABEL]}
    for number in range(50):
        assert masked().hidden(short, (0, number))["labels"].tolist() == [IGNORED_LABEL, 9, IGNORED_LABEL]
    filler = {**short, "labels": [IGNORED_LABEL] * 3}
    assert masked().hidden(filler, (0, 0))["labels"].tolist() == [IGNORED_LABEL] * 3
    assert masked().hidden(filler, (0, 0))["input_ids"].tolist() == short["input_ids"]


def test_words_are_hidden_as_wholes() -> None:
    continues = [0, *([0, 1, 1] * 166), 0]
    row, hide = long_row(500, **{CONTINUES: continues}), masked(mask=TOKENS)
    shares = []
    for number in range(100):
        draw = hide.hidden(row, (0, number))
        hidden = (draw["labels"] != IGNORED_LABEL)[1:-1].reshape(-1, 3)
        assert (hidden.all(axis=1) == hidden.any(axis=1)).all()
        as_mask = (draw["input_ids"] == TOKENS)[1:-1].reshape(-1, 3)
        assert (as_mask.all(axis=1) == as_mask.any(axis=1)).all(), "its tokens share their fate"
        shares.append(hidden.any(axis=1).mean())
    assert np.mean(shares) == pytest.approx(0.15, abs=0.01)


def test_words_are_those_of_the_tokenizer(config: Callable[..., TaskConfig], bert: Path) -> None:
    run = config(model=bert, train=[{"text": "the zoo, delicious"}], whole_word_mask=True)
    row = prepared_rows(prepare(run)).reading({"input_ids", CONTINUES})[0]
    from transformers import AutoTokenizer

    tokens = AutoTokenizer.from_pretrained(bert).convert_ids_to_tokens(row["input_ids"])
    assert tokens == ["[CLS]", "the", "z", "##o", "##o", "[UNK]", "delicious", "[SEP]"]
    assert row[CONTINUES] == [0, 0, 0, 1, 1, 0, 0, 0]
    assert [label >= 0 for label in row["labels"]] == [False, True, True, True, True, False, True, False]


def test_words_of_a_tokenizer_that_knows_none() -> None:
    from types import SimpleNamespace

    from finetune_trainer.tasks.fill_mask import _continues

    spans = [(0, 3), (3, 5), (5, 9), (10, 12)]  # "old", " k", "ing!", and a word after a space of nobody's
    encoding = SimpleNamespace(word_ids=[0] * 4, offsets=spans)
    assert _continues("old king! he", encoding) == [0, 0, 1, 0]


# --- rows --------------------------------------------------------------------------------------------------------


def test_packed_rows_hold_all_texts(config: Callable[..., TaskConfig], bert: Path) -> None:
    texts = reviews(60)
    prepared = prepare(config(model=bert, train=texts, columns=TEXT, packing=True, max_length=20))
    rows = prepared_rows(prepared)
    packed = [rows[index]["input_ids"] for index in range(len(rows))]
    begin, end = 2, 3
    assert {len(ids) for ids in packed[:-2]} == {20}
    assert all(ids[0] == begin and ids[-1] == end for ids in packed)
    stream = [token for ids in packed for token in ids[1:-1]]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(bert)
    words = tokenizer([row["review"] for row in texts], add_special_tokens=False)["input_ids"]
    assert stream == [token for ids in words for token in [*ids, end]]
    assert prepared.splits["train"].sequences == len(rows)
    for index in range(len(rows)):
        ids, labels = np.asarray(rows[index]["input_ids"]), np.asarray(rows[index]["labels"])
        assert (labels == np.where(np.isin(ids, tokenizer.all_special_ids), IGNORED_LABEL, ids)).all()


def test_marks_of_begin_and_end_that_texts_hold_are_there_once(config: Callable[..., TaskConfig], bert: Path) -> None:
    rows = prepared_rows(prepare(config(model=bert, train=[{"text": "the soup"}, {"text": "[CLS]the soup[SEP]"}])))
    assert rows[0]["input_ids"] == rows[1]["input_ids"]


def test_long_texts_are_cut_and_said_and_blank_ones_left_out(config: Callable[..., TaskConfig], bert: Path) -> None:
    rows = [{"text": "the food " * 9}, {"text": ""}, {"text": "soup"}, {"text": "! ?"}]
    prepared = prepare(config(model=bert, train=rows, max_length=8))
    kept = prepared_rows(prepared)
    assert [len(kept[index]["input_ids"]) for index in range(len(kept))] == [8, 3]
    report = prepared.splits["train"]
    assert report.truncated == 1
    assert report.dropped == {"they hold no text": 1, "they hold no token that could be masked": 1}


# --- loss and metrics --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("whole_word_mask", [False, True])
def test_a_step_is_the_same_whoever_shares_it(
    config: Callable[..., TaskConfig], bert: Path, whole_word_mask: bool
) -> None:
    of = ready(config(model=bert, train=reviews(43), columns=TEXT, whole_word_mask=whole_word_mask))
    require_same_step(of)
    assert of.first_step(1, 1).loss == pytest.approx(np.log(len(of.run.tokenizer)), rel=0.1)


def test_an_evaluation_hides_the_same_every_time(config: Callable[..., TaskConfig], bert: Path) -> None:
    import torch

    of = ready(config(model=bert, train=reviews(4), validation=reviews(31, seed=1), columns=TEXT))
    first, second = of.evaluated("validation"), of.evaluated("validation")
    for earlier, later in zip(first.predictions, second.predictions, strict=True):
        assert (earlier == later).all()
    metrics = of.task.metrics(of.run, first)
    losses = []
    for index in range(31):
        row = prepared_rows(of.run.prepared, "validation")[index]
        batch = of.collate([{**row, DRAW: (0, index)}])
        labels = batch.pop("labels")
        with torch.no_grad():
            loss = of.run.model(**batch, labels=labels).loss
        losses += [float(loss)] * int((labels != IGNORED_LABEL).sum())
    assert metrics["loss"] == pytest.approx(np.mean(losses), rel=1e-5)
    assert metrics["perplexity"] == pytest.approx(np.exp(np.mean(losses)), rel=1e-5)


def test_the_test_split_is_scored_row_by_row(config: Callable[..., TaskConfig], bert: Path) -> None:
    rows = [*reviews(9, seed=3), {"review": "!"}]
    of = ready(config(model=bert, train=reviews(4), test=rows, columns=TEXT, max_length=9, packing=True))
    evaluated = of.evaluated("test")
    assert len(evaluated.rows) > 9, "long texts are scored in parts"
    predictions = list(of.task.predictions(of.run, evaluated))
    assert [row["text"] for row in predictions] == [row["review"] for row in rows]
    assert predictions[-1] == {"text": "!", "loss": None, "perplexity": None, "accuracy": None, "tokens": 0}
    metrics = of.task.metrics(of.run, evaluated)
    scored = predictions[:-1]
    tokens = sum(row["tokens"] for row in scored)
    assert sum(row["loss"] * row["tokens"] for row in scored) / tokens == pytest.approx(metrics["loss"], rel=1e-5)


# --- what is refused ---------------------------------------------------------------------------------------------


def test_models_that_have_no_mask(tmp_path: Path, bert: Path) -> None:
    from transformers import AutoTokenizer

    unmasked = tmp_path / "unmasked"
    tiny_bert(unmasked)
    tokenizer = AutoTokenizer.from_pretrained(unmasked)
    tokenizer.mask_token = None
    tokenizer.save_pretrained(unmasked)
    refusals = {
        unmasked: "its tokenizer has no token for masking, so there is nothing to fill in. Choose a model",
        tiny_gpt2(tmp_path / "gpt2"): "is of kind 'gpt2', for which transformers has no head for guessing masked words",
    }
    for place, (model, message) in enumerate(refusals.items()):
        with pytest.raises(ExpectedError) as caught:
            prepare(token_config(tmp_path / str(place), "fill-mask", model=model, train=reviews(4), columns=TEXT))
        assert caught.value.reason is Reason.MODEL_NOT_FOUND
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"text": None}, {"text": " "}], "column 'text' holds no text in any of its 2 rows. Name the column"),
        ([{"text": "!"}], "has no rows left to use (left out: 1 rows: they hold no token that could be masked)"),
        ([{"review": "soup"}], "has no column 'text'; it has review"),
    ],
)
def test_rows_that_are_none(
    config: Callable[..., TaskConfig], bert: Path, rows: list[dict[str, Any]], message: str
) -> None:
    with pytest.raises(ExpectedError) as caught:
        prepare(config(model=bert, train=rows))
    assert message in str(caught.value)


# --- two ranks ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, bert: Path) -> Finished:
    """Train on two ranks that learn to fill in words, are killed, and go on."""
    folder = tmp_path_factory.mktemp("gang")
    config = token_config(
        folder,
        "fill-mask",
        model=bert,
        train=echoes(320),
        validation=echoes(41, seed=1),
        test=echoes(5, seed=2),
        arguments={
            "num_train_epochs": 8,
            "learning_rate": 5e-3,
            "per_device_train_batch_size": 8,
            "logging_steps": 20,
            "eval_strategy": "epoch",
            "save_strategy": "steps",
            "save_steps": 80,
        },
        whole_word_mask=True,
        processes=2,
    )
    killed = run_ranks(folder / "killed", config, world=2, kill_after_checkpoint=80)
    assert not killed.heard.results
    return run_ranks(folder / "resumed", config, world=2, resume=killed.checkpoint(80))


def test_two_ranks_learn_to_fill_in_words(trained: Finished) -> None:
    assert trained.returncode == 0, trained.output
    report = TrainingReport.model_validate_json((trained.model / REPORT_FILE).read_text(encoding="utf-8"))
    assert report.steps == 160
    assert report.evaluation is not None
    # Whoever knows only that some word is hidden is at their number, and right once in it.
    assert report.evaluation["perplexity"] < 4 < len(WORDS)
    assert report.evaluation["accuracy"] > 0.7
    lines = (trained.model / PREDICTIONS_FILE).read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == [row["text"] for row in echoes(5, seed=2)]


def test_the_model_fills_in_words_in_a_plain_pipeline(trained: Finished) -> None:
    from transformers import pipeline

    fill = pipeline("fill-mask", model=str(trained.model))
    right = sum(fill(f"{word} {word} [MASK] {word} {word}")[0]["token_str"] == word for word in WORDS)
    assert right > len(WORDS) * 0.7
