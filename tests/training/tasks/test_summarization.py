"""Summarization: what the model reads and learns, what generation writes, how it is scored, what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer import tasks
from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.training_report import PREDICTIONS_FILE, REPORT_FILE, TrainingReport
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.failures import ExpectedError
from tests.support.ranks import Finished, run_ranks
from tests.support.seq2seq import InProcess, pair_config
from tests.support.tiny import tiny_bert
from tests.support.tiny_t5 import PREFIX, TOPICS, VERDICTS, stories, tiny_t5
from tests.support.tiny_translators import tiny_bart, tiny_multilingual

TASK: Any = tasks.find("summarization")
ROWS = [
    {"story": "we came late and the soup was awful", "gist": "the soup was awful"},
    {"story": "the music", "gist": "the music was said to be perfect that day"},
]
SHORT = {"max_target_length": 16, "source_prefix": PREFIX}


@pytest.fixture(scope="module")
def t5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_t5(tmp_path_factory.mktemp("t5"))


# --- two ranks ---


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, t5: Path) -> Finished:
    """Train on two ranks, killed after the first epoch's checkpoint and resumed; 61 rows to judge, 9 to predict: multiples of nothing."""
    folder = tmp_path_factory.mktemp("ranks")
    config = pair_config(
        folder,
        "summarization",
        t5,
        train=stories(320),
        validation=stories(61, seed=1),
        test=stories(9, seed=2),
        preprocessing=SHORT,
        arguments={
            "num_train_epochs": 4,
            "learning_rate": 1e-2,
            "per_device_train_batch_size": 8,
            "eval_strategy": "epoch",
            "logging_steps": 5,
            "generation_num_beams": 2,
            "metric_for_best_model": "rouge2",
        },
        processes=2,
    )
    killed = run_ranks(folder / "killed", config, world=2, kill_after_checkpoint=20)
    assert killed.returncode != 0
    return run_ranks(folder / "resumed", config, world=2, resume=killed.checkpoint(20))


def test_two_ranks_learn_to_summarise_and_say_how_well(trained: Finished) -> None:
    assert trained.returncode == 0, trained.output
    report = TrainingReport.model_validate_json((trained.model / REPORT_FILE).read_text())
    evaluated = report.evaluation or {}
    judged = [row["gist"] for row in stories(61, seed=1)]
    always_the_same = TASK.scores([judged[0]] * 61, judged)
    assert evaluated["rouge1"] > 90 > always_the_same["rouge1"]
    assert evaluated["rouge2"] > 85 > always_the_same["rouge2"]
    assert evaluated["gen_len"] == pytest.approx(11, abs=1)
    assert report.steps == 80
    assert [evaluation.step for evaluation in report.evaluations] == [20, 40, 60, 80]
    assert report.evaluations[0].metrics["rouge2"] < evaluated["rouge2"]
    assert report.details["rougeTokenizer"] == "rouge_score with Porter stemmer"


def test_what_was_written_of_the_test_split_lies_beside_the_model(trained: Finished) -> None:
    lines = [json.loads(line) for line in (trained.model / PREDICTIONS_FILE).read_text().splitlines()]
    rows = stories(9, seed=2)
    assert [line["text"] for line in lines] == [row["story"] for row in rows]
    assert [line["reference"] for line in lines] == [row["gist"] for row in rows]
    report = TrainingReport.model_validate_json((trained.model / REPORT_FILE).read_text())
    scores = TASK.scores([line["prediction"] for line in lines], [row["gist"] for row in rows])
    assert scores["rouge1"] == pytest.approx((report.test or {})["rouge1"])
    assert scores["rouge1"] > 80


def test_the_saved_model_generates_what_was_reported(trained: Finished) -> None:
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(trained.model) for kind in (AutoModelForSeq2SeqLM, AutoTokenizer))
    rows = stories(61, seed=1)
    read = tokenizer([PREFIX + row["story"] for row in rows], return_tensors="pt", padding=True)
    written = tokenizer.batch_decode(model.generate(**read), skip_special_tokens=True)
    report = json.loads((trained.model / REPORT_FILE).read_text())
    scores = TASK.scores(written, [row["gist"] for row in rows])
    assert scores["rouge2"] == pytest.approx(report["evaluation"]["rouge2"], abs=0.5)
    assert (model.generation_config.num_beams, model.generation_config.max_length) == (2, 17)


# --- what the model reads and learns ---


def test_prefix_text_and_end_are_read_and_the_summary_is_learnt(tmp_path: Path, t5: Path) -> None:
    made = InProcess.of(pair_config(tmp_path, "summarization", t5, train=ROWS, preprocessing=SHORT))
    row, tokenizer = made.rows()[0], made.run.tokenizer
    read = ["▁summarize:", "▁we", "▁came", "▁late", "▁and", "▁the", "▁soup", "▁was", "▁awful", "</s>"]
    assert tokenizer.convert_ids_to_tokens(row["input_ids"]) == read
    assert tokenizer.convert_ids_to_tokens(row["labels"]) == ["▁the", "▁soup", "▁was", "▁awful", "</s>"]


def test_an_end_that_the_data_holds_is_there_once(tmp_path: Path, t5: Path) -> None:
    source, target = (str(ROWS[0][name]) for name in ("story", "gist"))
    rows = [ROWS[0], {"story": f"{source}</s>", "gist": f"{target}</s>"}]
    made = InProcess.of(pair_config(tmp_path, "summarization", t5, train=rows, preprocessing=SHORT)).rows()
    assert [made[1][name] for name in ("input_ids", "labels")] == [made[0][name] for name in ("input_ids", "labels")]


def test_only_the_summary_counts_and_the_decoder_reads_it_one_late(tmp_path: Path, t5: Path) -> None:
    made = InProcess.of(pair_config(tmp_path, "summarization", t5, train=ROWS, preprocessing=SHORT))
    batch, tokenizer = made.batch(made.rows()[index] for index in (0, 1)), made.run.tokenizer
    labels, decoder = batch["labels"].tolist(), batch["decoder_input_ids"].tolist()
    assert labels[0][5:] == [-100] * 5
    assert tokenizer.convert_ids_to_tokens(labels[1]) == [
        *("▁the", "▁music", "▁was", "▁said", "▁to", "▁be", "▁perfect", "▁that", "▁day", "</s>")
    ]
    assert tokenizer.convert_ids_to_tokens(decoder[0]) == [
        *("<pad>", "▁the", "▁soup", "▁was", "▁awful"),
        *["<pad>"] * 5,
    ]
    assert decoder[1][1:] == labels[1][:-1]
    assert batch["attention_mask"].tolist() == [[1] * 10, [1] * 4 + [0] * 6]
    assert batch["input_ids"][1].tolist()[4:] == [tokenizer.pad_token_id] * 6


def test_padding_to_limits_of_source_and_target(tmp_path: Path, t5: Path) -> None:
    """Padding to the limits fills sources and targets, each to their own."""
    lengths = {"max_source_length": 20, "max_target_length": 16, "padding": "max_length"}
    made = InProcess.of(pair_config(tmp_path, "summarization", t5, train=ROWS, preprocessing=lengths))
    batch = made.batch([made.rows()[0]])
    assert {name: tuple(values.shape) for name, values in batch.items()} == {
        "input_ids": (1, 20),
        "attention_mask": (1, 20),
        "decoder_input_ids": (1, 16),
        "labels": (1, 16),
    }


def test_what_is_cut_is_counted_for_sources_and_targets_apart(tmp_path: Path, t5: Path) -> None:
    lengths = {"max_source_length": 5, "max_target_length": 5, "truncation_side": "left"}
    made = InProcess.of(pair_config(tmp_path, "summarization", t5, train=ROWS, preprocessing=lengths))
    split = made.prepared.splits["train"]
    assert (split.truncated, split.truncated_targets) == (1, 1)
    read, learnt = made.rows()[0]["input_ids"], made.rows()[1]["labels"]
    assert made.run.tokenizer.convert_ids_to_tokens(read) == ["▁the", "▁soup", "▁was", "▁awful", "</s>"]
    assert made.run.tokenizer.convert_ids_to_tokens(learnt) == ["▁the", "▁music", "▁was", "▁said", "</s>"]
    assert any("maxTargetLength" in message or "5 tokens" in message for message in made.prepared.messages)


@pytest.mark.parametrize("make", [tiny_t5, tiny_bart])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_a_step_is_the_same_in_every_world(tmp_path: Path, make: Any, label_smoothing: float) -> None:
    """Rows, loss and gradient are compared for the first global batch, and for the last, which is not full."""
    import torch

    from finetune_trainer.data.sampler import GlobalBatchOrder, MicroBatchSampler

    config = pair_config(tmp_path, "summarization", make(tmp_path / "model"), train=stories(22), preprocessing=SHORT)
    made = InProcess.of(config, label_smoothing=label_smoothing)
    rows, loss, model = made.rows(), made.task.loss(made.run), made.run.model
    order = GlobalBatchOrder(lengths=rows.lengths, batch_rows=8, seed=42)
    steps_by_world: dict[tuple[int, int], list[Any]] = {}
    for ranks, accumulation in ((1, 1), (1, 2), (2, 1), (2, 2)):
        micro = list(MicroBatchSampler(order, batch_size=8 // ranks // accumulation, world_size=ranks))
        per_step = ranks * accumulation
        steps = [micro[:per_step], micro[2 * per_step :]]
        for step in steps:
            batches = [made.batch(rows[pick] for pick in picks) for picks in step]
            items = sum(int((batch["labels"] != -100).sum()) for batch in batches)
            model.zero_grad()
            total = sum(
                loss(model(**{k: v for k, v in b.items() if k != "labels"}), b["labels"], items) for b in batches
            )
            assert isinstance(total, torch.Tensor)
            total.backward()
            slope = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
            taken = sorted(pick.row for picks in step for pick in picks if pick.counts)
            steps_by_world.setdefault((ranks, accumulation), []).append((taken, total.item(), slope))
    alone = steps_by_world.pop((1, 1))
    for others in steps_by_world.values():
        for (mine, my_loss, my_slope), (theirs, their_loss, their_slope) in zip(alone, others, strict=True):
            assert mine == theirs
            assert my_loss == pytest.approx(their_loss, abs=1e-5)
            assert float((my_slope - their_slope).abs().max()) < 1e-5


def test_the_loss_of_the_first_step_is_that_of_the_model_itself(tmp_path: Path, t5: Path) -> None:
    made = InProcess.of(pair_config(tmp_path, "summarization", t5, train=ROWS, preprocessing=SHORT))
    batch = made.batch(made.rows()[index] for index in (0, 1))
    stock = made.run.model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], labels=batch["labels"])
    labels = batch.pop("labels")
    assert made.task.loss(made.run)(made.run.model(**batch), labels).item() == pytest.approx(
        stock.loss.item(), abs=1e-6
    )


# --- what is written, and its scores ---


def test_evaluation_tells_loss_rouge_and_what_was_written(tmp_path: Path, t5: Path) -> None:
    judged = stories(13, seed=1)
    config = pair_config(tmp_path, "summarization", t5, train=stories(96), validation=judged, preprocessing=SHORT)
    made = InProcess.of(config)
    made.train(epochs=2, learning_rate=1e-2)
    evaluated = made.judge()
    metrics = made.task.metrics(made.run, evaluated)
    assert set(metrics) == {"loss", "rouge1", "rouge2", "rougeL", "rougeLsum", "gen_len"}
    predictions = list(made.task.predictions(made.run, evaluated))
    assert [line["text"] for line in predictions] == [row["story"] for row in judged]
    assert [line["reference"] for line in predictions] == [row["gist"] for row in judged]
    assert TASK.scores([line["prediction"] for line in predictions], [row["gist"] for row in judged])[
        "rouge1"
    ] == pytest.approx(metrics["rouge1"])
    assert {"<pad>", "</s>"}.isdisjoint(word for line in predictions for word in line["prediction"].split())


def test_without_generation_there_is_a_loss_alone(tmp_path: Path, t5: Path) -> None:
    arguments = {"predict_with_generate": False}
    config = pair_config(tmp_path, "summarization", t5, train=ROWS, validation=ROWS, arguments=arguments)
    made = InProcess.of(config)
    evaluated = made.judge()
    assert set(made.task.metrics(made.run, evaluated)) == {"loss"}
    assert list(made.task.predictions(made.run, evaluated)) == []


def test_generation_is_as_asked_for_and_the_model_can_be_saved(tmp_path: Path, t5: Path) -> None:
    """Settings of a published model that have no effect would make transformers refuse to save it."""
    from transformers import GenerationConfig

    beams = {"num_beams": 4, "early_stopping": True, "length_penalty": 2.0, "min_length": 56, "max_length": 142}
    for name in ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"):
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / name).write_bytes((t5 / name).read_bytes())
    GenerationConfig(decoder_start_token_id=0, eos_token_id=1, pad_token_id=0, **beams).save_pretrained(
        tmp_path / "model"
    )
    arguments = {"generation_num_beams": 1, "generation_max_length": 9}
    made = InProcess.of(pair_config(tmp_path, "summarization", tmp_path / "model", train=ROWS, arguments=arguments))
    made.run.model.save_pretrained(tmp_path / "saved")
    kept = GenerationConfig.from_pretrained(tmp_path / "saved")
    assert (kept.num_beams, kept.max_length, kept.min_length, kept.length_penalty) == (1, 9, 9, None)


# Cases of rouge_score's own tests, and of its readme.
@pytest.mark.parametrize(
    ("reference", "written", "expected"),
    [
        ("testing one two", "testing", {"rouge1": 1 / 2}),
        ("testing one two", "testing one", {"rouge1": 4 / 5, "rouge2": 2 / 3, "rougeL": 4 / 5}),
        ("testing one two", "testing two", {"rougeL": 4 / 5}),
        ("w1 w2 w3 w4 w5", "w1 w2 w6 w7 w8\nw1 w3 w8 w9 w5", {"rougeLsum": 0.53333}),
        ("testing one two", "", {"rouge1": 0, "rouge2": 0, "rougeL": 0, "rougeLsum": 0}),
        ("w1 w2 w3 w4 w5", "/", {"rougeLsum": 0}),
        (
            "The quick brown fox jumps over the lazy dog",
            "The quick brown dog jumps on the log.",
            {"rouge1": 0.70588, "rougeL": 0.58823},
        ),
    ],
)
def test_rouge_is_that_of_the_library(reference: str, written: str, expected: dict[str, float]) -> None:
    scores = TASK.scores([written], [reference])
    assert {name: scores[name] for name in expected} == pytest.approx(
        {name: 100 * value for name, value in expected.items()}, abs=1e-3
    )


def test_sentences_count_apart_in_rouge_lsum_and_stems_are_one_word() -> None:
    swapped = TASK.scores(["Dogs bark. Cats sleep."], ["Cats slept. Dogs barked."])
    assert swapped["rougeLsum"] > swapped["rougeL"]
    assert TASK.scores(["the dogs barked"], ["the dog barks"])["rouge1"] == 100


@pytest.mark.parametrize(
    "text", ["Кошка спит на диване", "猫在沙发上睡觉", "แมวนอนบนโซฟา", "बिल्ली सोफ़े पर सोती है", "القطة تنام"]
)
def test_rouge_counts_words_of_every_script(text: str) -> None:
    """rouge_score's own tokenizer finds no word in them, and would call a perfect summary worthless."""
    assert TASK.scores([text], [text])["rougeL"] == 100
    assert TASK.scores(["cat"], [text])["rouge1"] == 0


def test_other_scripts_are_told(tmp_path: Path, t5: Path) -> None:
    rows = [{"story": "кошка спит", "gist": "спит кошка"}]
    messages = prepare(pair_config(tmp_path, "summarization", t5, train=rows, validation=rows)).messages
    assert any("words of any script" in message for message in messages)


# --- what is refused, and what is told ---


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"story": "we came", "gist": ""}, ["train.jsonl", "line 3", "'gist'", "no text"]),
        ({"story": "we came", "gist": " \u00a0"}, ["train.jsonl", "line 3", "'gist'"]),
        ({"story": None, "gist": "soup"}, ["train.jsonl", "line 3", "'story'", "no text"]),
    ],
)
def test_a_row_without_text_is_named(tmp_path: Path, t5: Path, row: dict[str, Any], words: list[str]) -> None:
    with pytest.raises(ExpectedError) as refused:
        prepare(pair_config(tmp_path, "summarization", t5, train=[*ROWS, row]))
    assert refused.value.reason is Reason.DATA_INVALID
    assert all(word in str(refused.value) for word in words), str(refused.value)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"columns": {"text": "story", "summary": "summry"}}, ["no column 'summry'", "gist", "spec.dataset.columns"]),
        ({"columns": {"text": "story", "summary": "story"}}, ["two roles", "story"]),
        ({"preprocessing": {"max_target_length": 1}}, ["maxTargetLength is 1", "at least 2"]),
        (
            {"preprocessing": {"max_source_length": 2, "source_prefix": PREFIX}},
            ["maxSourceLength is 2", "prefix", "at least 3"],
        ),
        ({"preprocessing": {"target_language": "de"}}, ["targetLanguage", "no codes", "sourcePrefix"]),
        ({"arguments": {"generation_max_length": 1}}, ["generation_max_length is 1", "leave it out"]),
        ({"arguments": {"metric_for_best_model": "bleu"}}, ["bleu is not reported", "rougeLsum"]),
    ],
)
def test_a_wrong_field_is_named_with_the_way_out(
    tmp_path: Path, t5: Path, changes: dict[str, Any], words: list[str]
) -> None:
    with pytest.raises(ExpectedError) as refused:
        prepare(pair_config(tmp_path, "summarization", t5, train=ROWS, validation=ROWS, **changes))
    assert all(word in str(refused.value) for word in words), str(refused.value)


def test_model_that_does_not_write_is_refused(tmp_path: Path) -> None:
    """A model that does not write is refused, and those that do are named."""
    with pytest.raises(ExpectedError, match=r"'bert'.*bart") as refused:
        prepare(pair_config(tmp_path, "summarization", tiny_bert(tmp_path / "bert"), train=ROWS))
    assert refused.value.reason is Reason.MODEL_NOT_FOUND


def test_a_decoder_that_does_not_know_where_to_begin_is_refused(tmp_path: Path, t5: Path) -> None:
    for file in t5.iterdir():
        (tmp_path / "model").mkdir(exist_ok=True)
        (tmp_path / "model" / file.name).write_bytes(file.read_bytes())
    settings = json.loads((t5 / "config.json").read_text())
    del settings["decoder_start_token_id"]
    (tmp_path / "model" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ExpectedError, match="decoder_start_token_id"):
        prepare(pair_config(tmp_path, "summarization", tmp_path / "model", train=ROWS))


def test_a_t5_without_prefix_is_warned_of_and_a_bart_is_not(tmp_path: Path, t5: Path) -> None:
    def messages(name: str, model: Path, **preprocessing: Any) -> str:
        config = pair_config(tmp_path / name, "summarization", model, train=ROWS, preprocessing=preprocessing)
        return " ".join(prepare(config).messages)

    t5_messages = messages("t5", t5)
    assert "sourcePrefix is not set" in t5_messages
    assert "'summarize: '" in t5_messages
    assert "sourcePrefix" not in messages("prefixed", t5, source_prefix=PREFIX)
    assert "sourcePrefix" not in messages("bart", tiny_bart(tmp_path / "model"))


def test_lengths_beyond_the_positions_are_cut_and_relative_ones_are_not(tmp_path: Path, t5: Path) -> None:
    lengths = {"max_source_length": 100, "max_target_length": 200}
    bart = tiny_bart(tmp_path / "model")
    messages = prepare(
        pair_config(tmp_path / "bart", "summarization", bart, train=ROWS, preprocessing=lengths)
    ).messages
    assert any("maxSourceLength is 100, the model has 64 positions: 64 is used" in message for message in messages)
    assert any("maxTargetLength is 200, the model has 64 positions: 64 is used" in message for message in messages)
    messages = prepare(pair_config(tmp_path / "t5", "summarization", t5, train=ROWS, preprocessing=lengths)).messages
    assert any("maxSourceLength is 100" in message and "64 tokens" in message for message in messages)
    assert not any("is used" in message for message in messages)


def test_a_multilingual_model_summarises_in_the_language_it_is_told(tmp_path: Path) -> None:
    model = tiny_multilingual(tmp_path / "model", "mbart50")
    with pytest.raises(ExpectedError, match=r"sourceLanguage and preprocessing.targetLanguage.*de_DE"):
        prepare(pair_config(tmp_path, "summarization", model, train=ROWS))


def test_the_words_of_the_stories_are_enough_to_tell_them_apart() -> None:
    assert len({row["gist"] for row in stories(400)}) == len(TOPICS) * len(VERDICTS)
