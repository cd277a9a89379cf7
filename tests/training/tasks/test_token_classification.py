"""Token classification: each word's first token learns its tag; entities are counted; what is wrong is refused."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch

from finetune_trainer.contract import task_facts
from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.contract.training_report import PREDICTIONS_FILE, REPORT_FILE, TrainingReport
from finetune_trainer.data import model as prepare_model
from finetune_trainer.prepare.hub_dataset import _split
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks import tag_scores
from finetune_trainer.tasks.token_classification import TASK
from tests.support import global_step
from tests.support.labelled import TAGS, config, tagged
from tests.support.ranks import Finished, run_ranks
from tests.support.tiny import Row, tiny_bert, write_rows
from tests.support.tiny_roberta import tiny_roberta

IGNORED = -100


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "bert": tiny_bert(folder / "bert"),
        "distilbert": tiny_bert(folder / "distilbert", architecture="distilbert"),
        "roberta": tiny_roberta(folder / "roberta"),
    }


def run_config(folder: Path, model: Path, files: dict[str, Path], **fields: Any) -> TaskConfig:
    return config(folder / "output", task="token-classification", model=model, files=files, **fields)


def ready(folder: Path, model: Path, rows: list[Row] | None = None, **fields: Any) -> Any:
    """Prepare in this process, and load a model."""
    files = {
        "train": write_rows(folder / "train.jsonl", rows or tagged(37)),
        "validation": write_rows(folder / "validation.jsonl", rows or tagged(21, seed=1)),
    }
    made = run_config(folder, model, files, **fields)
    return global_step.training(made, prepare(made))


def rows_of(prepared: PreparedTask, role: str = "train") -> list[dict[str, Any]]:
    return list(pa.ipc.open_stream(pa.memory_map(f"{prepared.data}/{role}.arrow")).read_all().to_pylist())


# --- ranks -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> Finished:
    """Train on two ranks, killed after the first epoch, and two that go on."""
    folder = tmp_path_factory.mktemp("tags")
    files = {
        "train": write_rows(folder / "train.jsonl", tagged(120)),
        "validation": write_rows(folder / "validation.jsonl", tagged(41, seed=1)),
        "test": write_rows(folder / "test.jsonl", tagged(31, seed=2)),
    }
    arguments = {"num_train_epochs": 3, "learning_rate": 1e-2, "eval_strategy": "epoch", "logging_steps": 1}
    made = run_config(folder, models["bert"], files, training_arguments=arguments, processes=2)
    prepared = prepare(made)
    killed = run_ranks(folder / "killed", made, world=2, kill_after_checkpoint=8, prepared=prepared)
    assert killed.returncode != 0
    resumed = run_ranks(folder / "resumed", made, world=2, resume=killed.checkpoint(8), prepared=prepared)
    assert resumed.returncode == 0, resumed.output
    return resumed


def test_tags_are_learnt_and_resumed(trained: Finished) -> None:
    report = TrainingReport.model_validate_json((trained.model / REPORT_FILE).read_text(encoding="utf-8"))
    assert report.steps == 24
    assert [entry["step"] for entry in trained.log() if "loss" in entry] == list(range(1, 25))
    assert report.evaluation is not None
    assert report.evaluation.keys() >= task_facts.metrics("token-classification").keys()
    # No entity is found by tagging every word with the commonest tag.
    assert report.evaluation["f1"] > 0.9
    assert report.test is not None
    assert report.test["f1"] > 0.9
    per_label = report.details["perLabel"]
    assert sorted(per_label) == ["DISH", "PRAISE"]
    begins = [tag for row in tagged(41, seed=1) for tag in row["ner_tags"] if tag == "B-DISH"]
    assert per_label["DISH"]["support"] == len(begins)


def test_a_pipeline_finds_the_entities_that_were_predicted(trained: Finished) -> None:
    from seqeval.metrics import f1_score
    from transformers import pipeline

    tag = pipeline("token-classification", model=str(trained.model))
    assert tag.model.config.id2label == dict(enumerate(sorted(TAGS)))
    predictions = [json.loads(line) for line in (trained.model / PREDICTIONS_FILE).read_text().splitlines()]
    rows = tagged(31, seed=2)
    assert [row["words"] for row in predictions] == [row["tokens"] for row in rows]
    assert [row["reference"] for row in predictions] == [row["ner_tags"] for row in rows]
    for row in predictions:
        begins = np.cumsum([0, *(len(word) + 1 for word in row["words"])])[:-1].tolist()
        entities = {entity["start"]: entity["entity"] for entity in tag(" ".join(row["words"]))}
        assert row["prediction"] == [entities.get(begin, "O") for begin in begins]
    report = TrainingReport.model_validate_json((trained.model / REPORT_FILE).read_text(encoding="utf-8"))
    assert report.test is not None
    expected = f1_score([row["reference"] for row in predictions], [row["prediction"] for row in predictions])
    assert report.test["f1"] == pytest.approx(expected)


# --- loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta"])
def test_rows_and_loss_of_a_step_are_those_of_every_world(
    architecture: str, models: dict[str, Path], tmp_path: Path
) -> None:
    run = ready(tmp_path, models[architecture])
    alone, *others = [
        global_step.steps(run, ranks=ranks, accumulation=accumulation) for ranks, accumulation in global_step.WORLDS
    ]
    assert len(alone) == 5, "the last batch is not full"
    for steps in others:
        assert [step.rows for step in steps] == [step.rows for step in alone]
        assert [step.loss for step in steps] == pytest.approx([step.loss for step in alone], abs=1e-6)


def test_the_loss_is_that_of_the_model_itself(models: dict[str, Path], tmp_path: Path) -> None:
    run = ready(tmp_path, models["bert"])
    evaluated = global_step.evaluated(run)
    expected = global_step.own_loss(run, evaluated)
    assert TASK.metrics(run, evaluated)["loss"] == pytest.approx(expected, abs=1e-6)


def test_rare_tags_weigh_more_and_labels_are_smoothed(models: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"tokens": ["soup", "bread", "was", "a"], "ner_tags": ["X", "O", "O", "O"]}]
    fields = {"loss_weights": "balanced", "training_arguments": {"label_smoothing_factor": 0.2}}
    run = ready(tmp_path, models["bert"], rows, **fields)
    assert dict(zip(run.prepared.label_names, run.prepared.label_counts, strict=True)) == {"O": 3, "X": 1}
    logits, labels = torch.randn(1, 6, 2), torch.tensor([[IGNORED, 1, 0, 0, 0, IGNORED]])
    expected = torch.nn.functional.cross_entropy(
        logits[0, 1:5], labels[0, 1:5], weight=torch.tensor([4 / 6, 4 / 2]), label_smoothing=0.2, reduction="sum"
    )
    assert float(TASK.loss(run)({"logits": logits}, labels, 4)) == pytest.approx(float(expected) / 4, abs=1e-6)
    nothing = torch.full((1, 6), IGNORED)
    assert float(TASK.loss(run)({"logits": logits}, nothing, torch.tensor(0))) == 0.0


# --- alignment ---------------------------------------------------------------------------------------------------


def test_the_first_token_of_each_word_has_its_tag(models: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    rows = tagged(30)
    tokenizer = AutoTokenizer.from_pretrained(models["bert"])
    run = ready(tmp_path, models["bert"], rows)
    assert any("bob" in row["tokens"] for row in rows), "of three tokens"
    for row, prepared_row in zip(rows, rows_of(run.prepared), strict=True):
        encoded = tokenizer(row["tokens"], is_split_into_words=True)
        assert prepared_row["input_ids"] == encoded["input_ids"]
        words = encoded.word_ids(0)
        ids = [sorted(TAGS).index(tag) for tag in row["ner_tags"]]
        expected = [
            IGNORED if word is None or word == words[place - 1] else ids[word] for place, word in enumerate(words)
        ]
        assert prepared_row["labels"] == expected
        assert prepared_row["length"] == len(words)


def test_words_are_read_as_in_a_text(models: dict[str, Path], tmp_path: Path) -> None:
    """A tokenizer of bytes keeps the space before a word, which words alone would lack."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models["roberta"])
    words = ["the", "soup", "was", "(", "awful", ")", "zzz", "."]
    row = {"tokens": words, "ner_tags": [f"T{number}" for number in range(8)]}
    run = ready(tmp_path, models["roberta"], [row])
    (prepared_row,) = rows_of(run.prepared)
    assert prepared_row["input_ids"] == tokenizer(" ".join(words))["input_ids"]
    tokens = tokenizer.convert_ids_to_tokens(prepared_row["input_ids"])
    tagged_tokens = [
        tokens[place].lstrip("Ġ") for place, label in enumerate(prepared_row["labels"]) if label != IGNORED
    ]
    assert tokens[2].startswith("Ġ")
    assert [label for label in prepared_row["labels"] if label != IGNORED] == list(range(8))
    assert len(tagged_tokens) == len(words)
    assert all(word.startswith(token) for word, token in zip(words, tagged_tokens, strict=True))


@pytest.mark.parametrize(("side", "kept", "predicted"), [("right", "soup bread", [0, 1]), ("left", "was very", [2, 3])])
def test_words_that_are_cut_off_have_no_prediction(
    side: str, kept: str, predicted: list[int], models: dict[str, Path], tmp_path: Path
) -> None:
    rows = [
        {"tokens": ["soup", "bread", "was", "very"], "ner_tags": ["A", "B", "C", "D"]},
        {"tokens": ["soup"], "ner_tags": ["A"]},
    ]
    run = ready(tmp_path, models["bert"], rows, preprocessing={"maxLength": 4, "truncationSide": side})
    assert "1 of 2 train rows are longer than 4 tokens and are cut." in run.prepared.messages
    first = rows_of(run.prepared)[0]
    assert run.tokenizer.decode(first["input_ids"]) == f"[CLS] {kept} [SEP]"
    assert first["labels"] == [IGNORED, *predicted, IGNORED]
    predictions = list(TASK.predictions(run, global_step.evaluated(run)))
    assert [row["words"] for row in predictions] == [row["tokens"] for row in rows]
    assert [row["reference"] for row in predictions] == [row["ner_tags"] for row in rows]
    missing = [place for place, tag in enumerate(predictions[0]["prediction"]) if tag is None]
    assert missing == sorted({0, 1, 2, 3} - set(predicted))
    assert predictions[1]["prediction"][0] in "ABCD"


def test_blank_words_are_left_out_and_said(models: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"tokens": ["soup", " ", "was", ""], "ner_tags": ["A", "B", "C", "D"]}]
    run = ready(tmp_path, models["bert"], rows)
    assert "2 words of the train rows are blank: they are left out." in run.prepared.messages
    assert rows_of(run.prepared)[0]["labels"] == [IGNORED, 0, 2, IGNORED]
    (prediction,) = TASK.predictions(run, global_step.evaluated(run))
    assert [tag is None for tag in prediction["prediction"]] == [False, True, False, True]


def test_words_whose_tag_does_not_count_are_neither_learnt_nor_judged(models: dict[str, Path], tmp_path: Path) -> None:
    rows = [
        {"tokens": ["soup", "s", "was"], "ner_tags": [0, -100, 1]},
        {"tokens": ["bread"], "ner_tags": [-100]},
    ]
    run = ready(tmp_path, models["bert"], rows)
    assert "2 words of the train rows have the tag -100: they are neither learnt nor judged." in run.prepared.messages
    assert [row["labels"] for row in (rows_of(run.prepared)[0], rows_of(run.prepared)[1])] == [
        [IGNORED, 0, IGNORED, 1, IGNORED],
        [IGNORED, IGNORED, IGNORED],
    ]
    assert run.prepared.label_counts == (1, 1)
    evaluated = global_step.evaluated(run)
    predictions = list(TASK.predictions(run, evaluated))
    assert [[tag is None for tag in row["prediction"]] for row in predictions] == [[False, True, False], [True]]
    assert [row["reference"] for row in predictions] == [["0", None, "1"], [None]]
    assert TASK.metrics(run, evaluated)["accuracy"] in (0.0, 0.5, 1.0)


def test_predictions_are_in_the_order_of_the_data(models: dict[str, Path], tmp_path: Path) -> None:
    run = ready(tmp_path, models["bert"])
    evaluated = global_step.evaluated(run)
    rows = tagged(21, seed=1)
    assert evaluated.rows.number(0) != 0, "evaluation goes from long to short"
    predictions = list(TASK.predictions(run, evaluated))
    assert [row["words"] for row in predictions] == [row["tokens"] for row in rows]
    assert [row["reference"] for row in predictions] == [row["ner_tags"] for row in rows]
    with torch.no_grad():
        logits = run.model(**run.tokenizer(" ".join(rows[3]["tokens"]), return_tensors="pt")).logits[0]
    first = [place for place, label in enumerate(rows_of(run.prepared, "validation")[3]["labels"]) if label != IGNORED]
    assert predictions[3]["prediction"] == [run.prepared.label_names[int(logits[place].argmax())] for place in first]
    assert set(TASK.metrics(run, evaluated)) == set(task_facts.metrics("token-classification"))


def test_rows_are_filled_up_to_the_limit_if_wanted(models: dict[str, Path], tmp_path: Path) -> None:
    run = ready(tmp_path, models["bert"], preprocessing={"maxLength": 40, "padding": "max_length"})
    rows = global_step.evaluated(run).rows
    batch = TASK.collator(run)([{name: rows[0][name] for name in ("input_ids", "attention_mask", "labels")}])
    assert batch["input_ids"].shape == batch["labels"].shape == (1, 40)


# --- metrics -----------------------------------------------------------------------------------------------------


WANTED = [["O", "O", "O", "B-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]
CHOSEN = [["O", "O", "B-MISC", "I-MISC", "I-MISC", "I-MISC", "O"], ["B-PER", "I-PER", "O"]]


def swapped(rows: list[list[str]], names: dict[str, str]) -> list[list[str]]:
    return [[names.get(tag, tag) for tag in row] for row in rows]


@pytest.mark.parametrize(
    "names",
    [
        {},
        {"B-MISC": "MISC-B", "I-MISC": "MISC-I", "B-PER": "PER-B", "I-PER": "PER-I"},
        {"I-MISC": "L-MISC"},
    ],
    ids=["before", "after", "bilou"],
)
def test_entities_are_counted_as_seqeval_documents(names: dict[str, str]) -> None:
    wanted, chosen = swapped(WANTED, names), swapped(CHOSEN, names)
    scheme = tag_scores.scheme_of(sorted({tag for row in (*wanted, *chosen) for tag in row}))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = tag_scores.metrics(wanted, chosen, scheme)
        by_kind = tag_scores.by_kind(wanted, chosen, scheme)
    assert scheme.message is None
    assert metrics["accuracy"] == pytest.approx(0.8)
    if names != {"I-MISC": "L-MISC"}:
        assert metrics == pytest.approx({"precision": 0.5, "recall": 0.5, "f1": 0.5, "accuracy": 0.8})
        assert by_kind["MISC"] == {"precision": 0.0, "recall": 0.0, "f1": 0.0, "support": 1.0}
    assert by_kind["PER"] == {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 1.0}


def test_tags_of_bilou_are_whole_entities() -> None:
    wanted = [["U-PER", "O", "B-LOC", "I-LOC", "L-LOC", "U-LOC"]]
    scheme = tag_scores.scheme_of(sorted(set(wanted[0])))
    assert tag_scores.by_kind(wanted, wanted, scheme)["LOC"]["support"] == 2
    assert tag_scores.metrics(wanted, [["U-PER", "O", "B-LOC", "I-LOC", "I-LOC", "U-LOC"]], scheme)["f1"] == 1.0


def test_tags_without_places_are_runs_of_one_tag() -> None:
    wanted = [["PER", "PER", "O", "LOC", "O"]]
    scheme = tag_scores.scheme_of(["LOC", "O", "PER"])
    assert scheme.message is not None
    assert "neighbouring words of one tag are counted as one entity" in scheme.message
    metrics = tag_scores.metrics(wanted, [["PER", "O", "O", "LOC", "O"]], scheme)
    assert metrics == pytest.approx({"precision": 0.5, "recall": 0.5, "f1": 0.5, "accuracy": 0.8})


def test_parts_of_speech_are_counted_word_by_word() -> None:
    """seqeval itself would take NOUN and its neighbour for one entity, and a tag that begins with O for none."""
    from sklearn.metrics import precision_recall_fscore_support

    wanted = [["DET", "NOUN", "NOUN", "VERB", "OTHER"], ["VERB", "DET"]]
    chosen = [["DET", "NOUN", "VERB", "VERB", "OTHER"], ["NOUN", "DET"]]
    scheme = tag_scores.scheme_of(["DET", "NOUN", "OTHER", "VERB"])
    assert scheme.message is not None
    assert "each word is counted for itself" in scheme.message
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        metrics = tag_scores.metrics(wanted, chosen, scheme)
    flat = [[tag for row in rows for tag in row] for rows in (wanted, chosen)]
    expected = precision_recall_fscore_support(*flat, average="macro")
    assert [metrics["precision"], metrics["recall"], metrics["f1"]] == pytest.approx(expected[:3])
    assert metrics["accuracy"] == pytest.approx(5 / 7)
    assert sorted(tag_scores.by_kind(wanted, chosen, scheme)) == ["DET", "NOUN", "OTHER", "VERB"]


def test_a_tag_that_is_not_like_the_others_is_an_entity_of_its_own() -> None:
    scheme = tag_scores.scheme_of(["B-PER", "I-PER", "O", "LOC"])
    assert scheme.message is not None
    assert scheme.message.startswith("Tags LOC do not begin with B- or I- as others do")
    wanted = [["B-PER", "I-PER", "O", "LOC"]]
    assert sorted(tag_scores.by_kind(wanted, wanted, scheme)) == ["LOC", "PER"]


def test_no_entity_at_all_is_no_score() -> None:
    scheme = tag_scores.scheme_of(["B-PER", "O"])
    assert tag_scores.metrics([["O"]], [["O"]], scheme) == {"precision": 0, "recall": 0, "f1": 0, "accuracy": 1.0}
    assert tag_scores.by_kind([["O"]], [["O"]], scheme) == {}


# --- data --------------------------------------------------------------------------------------------------------


def features() -> Any:
    import datasets

    return datasets.Features(
        {"tokens": datasets.List(datasets.Value("string")), "ner_tags": datasets.List(datasets.ClassLabel(names=TAGS))}
    )


def test_names_of_tags_that_the_data_declares_are_kept(models: dict[str, Path], tmp_path: Path) -> None:
    import datasets

    made = datasets.Dataset.from_list(tagged(10, ids=True), features=features())
    made.to_parquet(tmp_path / "train.parquet")
    prepared = prepare(run_config(tmp_path, models["bert"], {"train": tmp_path / "train.parquet"}))
    assert prepared.label_names == TAGS
    assert not any("without names" in message for message in prepared.messages)
    split = _split(made, "split 'train' of me/tags")
    assert split.class_names == {"ner_tags": TAGS}
    checked = TASK.check({"train": split}, run_config(tmp_path, models["bert"], {}))
    assert checked.label_names == TAGS
    assert checked.splits["train"].column("tags").to_pylist() == [row["ner_tags"] for row in tagged(10, ids=True)]


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet"])
@pytest.mark.parametrize("ids", [False, True], ids=["names", "numbers"])
def test_every_format_and_kind_of_tag_gives_the_same_rows(
    suffix: str, ids: bool, models: dict[str, Path], tmp_path: Path
) -> None:
    # Words that a reader could take for numbers or dates stay as they are.
    rows = [
        *tagged(10, ids=ids),
        {"tokens": ["2020-01-01", "007", "soup"], "ner_tags": [0, 0, 1] if ids else ["O", "O", "B-DISH"]},
    ]
    file = write_rows(tmp_path / f"train.{suffix}", rows)
    prepared = prepare(run_config(tmp_path, models["bert"], {"train": file}))
    assert prepared.label_names == (("0", "1", "2", "3") if ids else tuple(sorted(TAGS)))
    assert any("are numbers without names" in message for message in prepared.messages) == ids
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(models["bert"])
    prepared_rows = rows_of(prepared)
    assert [row["input_ids"] for row in prepared_rows] == [
        tokenizer(" ".join(row["tokens"]))["input_ids"] for row in rows
    ]
    tags = [[label for label in row["labels"] if label != IGNORED] for row in prepared_rows]
    assert [[prepared.label_names[tag] for tag in row] for row in tags] == [
        [str(tag) for tag in row["ner_tags"]] for row in rows
    ]


# --- refusals ----------------------------------------------------------------------------------------------------


GOOD = {"tokens": ["soup", "bread"], "ner_tags": ["A", "B"]}
WORDS: list[tuple[Any, str]] = [
    (None, "line 2: column 'tokens' has no words. Leave such rows out."),
    ([], "line 2: column 'tokens' holds an empty list of words. Leave such rows out."),
    ([" ", ""], "line 2: column 'tokens' holds blank words alone. Leave such rows out."),
    (["soup", None], "line 2: a word in column 'tokens' is null. Leave such rows out."),
]
TAGS_: list[tuple[Any, Reason, str]] = [
    (
        ["A"],
        Reason.LABELS_INVALID,
        "line 2: 2 words in column 'tokens', 1 tags in column 'ner_tags'. Each word needs one",
    ),
    (["A", "B", "A"], Reason.LABELS_INVALID, "line 2: 2 words in column 'tokens', 3 tags in column 'ner_tags'."),
    (
        ["A", None],
        Reason.LABELS_INVALID,
        "line 2: a tag in column 'ner_tags' is null. Name each, or leave such rows out.",
    ),
    (
        ["A", ""],
        Reason.LABELS_INVALID,
        "line 2: a tag in column 'ner_tags' is empty. Name each, or leave such rows out.",
    ),
    (
        None,
        Reason.LABELS_INVALID,
        "line 2: no tags in column 'ner_tags'. Give each row a list, or leave such rows out.",
    ),
]


def refusal(rows: list[Row], model: Path, folder: Path, **files: list[Row]) -> ExpectedError:
    written = {
        role: write_rows(folder / f"{role}.jsonl", content) for role, content in {"train": rows, **files}.items()
    }
    with pytest.raises(ExpectedError) as refused:
        prepare(run_config(folder, model, written))
    assert refused.value.cause == Cause.USER
    assert str(folder) in str(refused.value)
    return refused.value


@pytest.mark.parametrize(("words", "message"), WORDS)
def test_words_that_are_none_are_refused(words: Any, message: str, models: dict[str, Path], tmp_path: Path) -> None:
    refused = refusal([GOOD, {**GOOD, "tokens": words}], models["bert"], tmp_path)
    assert message in str(refused)
    assert refused.reason == Reason.DATA_INVALID


@pytest.mark.parametrize(("tags", "reason", "message"), TAGS_)
def test_tags_that_do_not_fit_are_refused(
    tags: Any, reason: Reason, message: str, models: dict[str, Path], tmp_path: Path
) -> None:
    refused = refusal([GOOD, {**GOOD, "ner_tags": tags}], models["bert"], tmp_path)
    assert message in str(refused)
    assert refused.reason == reason


def test_columns_that_are_not_lists_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    text = refusal([{"tokens": "the soup", "ner_tags": ["A"]}], models["bert"], tmp_path / "a")
    assert "line 1: column 'tokens' holds string such as 'the soup', not lists of words. Write each as a list" in str(
        text
    )
    numbers = refusal([{"tokens": [1, 2], "ner_tags": ["A", "B"]}], models["bert"], tmp_path / "b")
    assert "line 1: column 'tokens' holds list<item: int64> such as [1, 2], not lists of words." in str(numbers)
    tags = refusal([{"tokens": ["soup"], "ner_tags": "A"}], models["bert"], tmp_path / "c")
    assert "line 1: column 'ner_tags' holds string where lists of tags are needed. Write each as a list" in str(tags)
    fractions = refusal([{"tokens": ["soup"], "ner_tags": [0.5]}], models["bert"], tmp_path / "d")
    assert "line 1: column 'ner_tags' holds list<item: double> such as 0.5; tags are lists of text or" in str(fractions)


def test_tags_that_training_does_not_know_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    refused = refusal([GOOD], models["bert"], tmp_path, validation=[GOOD, {**GOOD, "ner_tags": ["A", "C"]}])
    assert "line 2: the tag 'C' in column 'ner_tags' does not occur in the training data, which has A, B." in str(
        refused
    )
    assert refused.reason == Reason.LABELS_INVALID


def test_numbers_that_are_no_tags_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    negative = refusal([{**GOOD, "ner_tags": [0, 1]}, {**GOOD, "ner_tags": [0, -1]}], models["bert"], tmp_path / "a")
    assert "line 2: tag -1 in column 'ner_tags' is negative; classes are counted from 0." in str(negative)
    far = refusal([{**GOOD, "ner_tags": [0, 1]}, {**GOOD, "ner_tags": [0, 9]}], models["bert"], tmp_path / "b")
    assert "line 2: tag 9 in column 'ner_tags' is out of range: the data has 3 different tags (0, 1, 9)" in str(far)
    single_tag = refusal([{**GOOD, "ner_tags": ["O", "O"]}], models["bert"], tmp_path / "c")
    assert "all rows have the tag 'O' in column 'ner_tags'; there is nothing to tell apart." in str(single_tag)


def test_one_column_for_both_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    wanted = run_config(tmp_path, models["bert"], {}, columns={"words": "tokens", "tags": "tokens"})
    with pytest.raises(ExpectedError, match=r"spec\.dataset\.columns names one column for two roles: tokens"):
        TASK.columns(wanted)


def test_a_model_that_cannot_tag_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    from dataclasses import replace
    from types import SimpleNamespace

    model = prepare_model.load(models["bert"], "The model")
    wanted = run_config(tmp_path, models["bert"], {})
    slow = replace(model, tokenizer=SimpleNamespace(is_fast=False, pad_token="[PAD]"))
    with pytest.raises(
        ExpectedError, match=r"cannot say which word a token is of\. Choose a model with a fast tokenizer"
    ):
        TASK.check_model(slow, wanted)
    other = replace(model, config=SimpleNamespace(model_type="vit"))
    with pytest.raises(
        ExpectedError, match="is of kind 'vit', for which transformers has no head for token classification"
    ):
        TASK.check_model(other, wanted)
