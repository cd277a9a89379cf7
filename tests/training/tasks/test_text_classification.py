"""Text classification: one class, several, or a number; what is learnt, what is reported, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from finetune_trainer import tasks
from finetune_trainer.contract import task_facts
from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.prepare.hub_dataset import _split
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks import class_problems, classes
from finetune_trainer.tasks.text_classification import TASK
from tests.support import global_step
from tests.support.labelled import OPINIONS, config, opinions, ratings
from tests.support.ranks import Finished, run_ranks
from tests.support.tiny import Row, reviews, tiny_bert, write_rows
from tests.support.tiny_roberta import tiny_roberta

SINGLE, MULTI, REGRESSION = "single_label_classification", "multi_label_classification", "regression"
COLUMNS = {
    SINGLE: {"text": "review", "label": "stars"},
    MULTI: {"text": "review", "label": "about"},
    REGRESSION: {"text": "review", "label": "score"},
}
MAKE = {SINGLE: reviews, MULTI: opinions, REGRESSION: ratings}
ARGUMENTS = {
    "num_train_epochs": 4,
    "learning_rate": 3e-3,
    "per_device_train_batch_size": 4,
    "eval_strategy": "epoch",
    "logging_steps": 1,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "bert": tiny_bert(folder / "bert"),
        "distilbert": tiny_bert(folder / "distilbert", architecture="distilbert"),
        "roberta": tiny_roberta(folder / "roberta"),
    }


def run_config(folder: Path, model: Path, problem: str, files: dict[str, Path], **fields: Any) -> TaskConfig:
    columns = fields.pop("columns", COLUMNS[problem])
    return config(
        folder / "output",
        task="text-classification",
        model=model,
        files=files,
        columns=columns,
        problem_type=problem,
        **fields,
    )


def ready(folder: Path, model: Path, problem: str, rows: list[Row] | None = None, **fields: Any) -> Any:
    """Prepare in this process, and load a model."""
    files = {
        "train": write_rows(folder / "train.jsonl", rows or MAKE[problem](37)),
        "validation": write_rows(folder / "validation.jsonl", rows or MAKE[problem](21, seed=1)),
    }
    made = run_config(folder, model, problem, files, **fields)
    return global_step.training(made, prepare(made))


def table(prepared: PreparedTask, role: str = "train") -> pa.Table:
    return pa.ipc.open_stream(pa.memory_map(f"{prepared.data}/{role}.arrow")).read_all()


# --- ranks -------------------------------------------------------------------------------------------------------


def train(folder: Path, problem: str, model: Path, **options: Any) -> Finished:
    make = MAKE[problem]
    files = {
        "train": write_rows(folder / "train.jsonl", make(300)),
        "validation": write_rows(folder / "validation.jsonl", make(61, seed=1)),
        "test": write_rows(folder / "test.jsonl", make(41, seed=2)),
    }
    fields = options.pop("fields", {})
    made = run_config(folder, model, problem, files, training_arguments=ARGUMENTS, processes=2, **fields)
    return run_ranks(folder / options.pop("name", "run"), made, world=2, **options)


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> Finished:
    """Train on two ranks that learn several labels, killed after the first epoch, and two that go on."""
    folder = tmp_path_factory.mktemp("several")
    weights = {"fields": {"loss_weights": "balanced"}}
    killed = train(folder, MULTI, models["bert"], name="killed", kill_after_checkpoint=38, **weights)
    assert killed.returncode != 0
    resumed = train(folder, MULTI, models["bert"], name="resumed", resume=killed.checkpoint(38), **weights)
    assert resumed.returncode == 0, resumed.output
    return resumed


@pytest.fixture(scope="module")
def number(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> Finished:
    """Train on two ranks that learn numbers."""
    finished = train(tmp_path_factory.mktemp("number"), REGRESSION, models["bert"])
    assert finished.returncode == 0, finished.output
    return finished


def test_several_labels_are_learnt_and_resumed(several: Finished) -> None:
    report = several.report
    assert report.steps == 152
    assert [entry["step"] for entry in several.log() if "loss" in entry] == list(range(1, 153))
    assert report.evaluation is not None
    assert report.evaluation.keys() >= task_facts.metrics("text-classification", MULTI).keys()
    # Guessing every label gives an F1 of 0.57; all labels are right by chance in one row of five.
    assert report.evaluation["f1"] > 0.7
    assert report.evaluation["f1_micro"] > 0.7
    assert report.evaluation["accuracy"] > 0.4
    assert report.test is not None
    assert report.test["f1"] > 0.65


def test_a_pipeline_predicts_several_labels_as_reported(several: Finished) -> None:
    from sklearn.metrics import f1_score
    from transformers import pipeline

    rows, predictions = opinions(41, seed=2), several.predictions
    classify = pipeline("text-classification", model=str(several.model), top_k=None)
    assert classify.model.config.problem_type == MULTI
    assert classify.model.config.id2label == dict(enumerate(sorted(OPINIONS)))
    pipeline_labels = [
        sorted(score["label"] for score in scores if score["score"] > 0.5)
        for scores in classify([row["review"] for row in rows])
    ]
    assert [row["prediction"] for row in predictions] == pipeline_labels
    assert [row["reference"] for row in predictions] == [sorted(row["about"]) for row in rows]
    assert [row["text"] for row in predictions] == [row["review"] for row in rows]
    yes = [
        [[label in labels for label in sorted(OPINIONS)] for labels in part]
        for part in (pipeline_labels, [r["about"] for r in rows])
    ]
    report = several.report
    assert report.test is not None
    assert report.test["f1"] == pytest.approx(f1_score(yes[1], yes[0], average="macro"))


def test_the_report_tells_scores_by_label(several: Finished) -> None:
    per_label = several.report.details["perLabel"]
    assert sorted(per_label) == sorted(OPINIONS)
    rows = opinions(61, seed=1)
    for label, scores in per_label.items():
        assert scores["support"] == sum(label in row["about"] for row in rows)
        assert scores["support"] == scores["truePositives"] + scores["falseNegatives"]


def test_a_number_is_learnt_and_a_pipeline_tells_it(number: Finished) -> None:
    from transformers import pipeline

    report = number.report
    spread = float(np.var([row["score"] for row in ratings(61, seed=1)]))
    assert report.evaluation is not None
    assert report.evaluation.keys() >= {"loss", "mse", "pearson"}
    assert report.evaluation["mse"] < spread / 2, "the mean of all would have the spread"
    assert report.evaluation["pearson"] > 0.7
    assert report.evaluation["loss"] == pytest.approx(report.evaluation["mse"], rel=1e-4)
    predictions = number.predictions
    predict = pipeline("text-classification", model=str(number.model))
    assert (predict.model.config.problem_type, predict.model.config.num_labels) == (REGRESSION, 1)
    pipeline_scores = [result["score"] for result in predict([row["text"] for row in predictions])]
    assert [row["prediction"] for row in predictions] == pytest.approx(pipeline_scores, abs=1e-4)
    assert [row["reference"] for row in predictions] == [row["score"] for row in ratings(41, seed=2)]


# --- loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("problem", [SINGLE, MULTI, REGRESSION])
@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta"])
def test_rows_and_loss_of_a_step_are_those_of_every_world(
    problem: str, architecture: str, models: dict[str, Path], tmp_path: Path
) -> None:
    run = ready(tmp_path, models[architecture], problem)
    alone, *others = [
        global_step.steps(run, ranks=ranks, accumulation=accumulation) for ranks, accumulation in global_step.WORLDS
    ]
    assert len(alone) == 5, "the last batch is not full"
    for steps in others:
        assert [step.rows for step in steps] == [step.rows for step in alone]
        assert [step.loss for step in steps] == pytest.approx([step.loss for step in alone], abs=1e-6)


@pytest.mark.parametrize("problem", [SINGLE, MULTI, REGRESSION])
def test_the_loss_is_that_of_the_model_itself(problem: str, models: dict[str, Path], tmp_path: Path) -> None:
    run = ready(tmp_path, models["bert"], problem)
    evaluated = global_step.evaluated(run)
    expected = global_step.own_loss(run, evaluated)
    assert TASK.metrics(run, evaluated)["loss"] == pytest.approx(expected, abs=1e-6)


def test_balanced_weights_are_those_of_scikit_learn(models: dict[str, Path], tmp_path: Path) -> None:
    from sklearn.utils.class_weight import compute_class_weight

    ids = [0] * 9 + [1] * 2 + [3] * 1
    expected = compute_class_weight("balanced", classes=np.array([0, 1, 3]), y=ids)
    assert classes.balanced([9, 2, 0, 1]) == pytest.approx([expected[0], expected[1], 1.0, expected[2]])
    rows = [{"review": "soup", "stars": "no"}] * 6 + [{"review": "bread", "stars": "yes"}] * 2
    run = ready(tmp_path, models["bert"], SINGLE, rows, loss_weights="balanced")
    assert run.prepared.label_counts == (6, 2)
    losses = class_problems.SingleLabel().losses(run)
    logits = torch.zeros(2, 2)
    plain = float(np.log(2))
    assert losses(logits, torch.tensor([0, 1])).tolist() == pytest.approx([plain * 8 / 12, plain * 8 / 4])


def test_balanced_weights_of_several_labels_are_by_label(models: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"review": "soup", "about": about} for about in (["a"], ["a", "b"], ["a"], [])]
    run = ready(tmp_path, models["bert"], MULTI, rows, loss_weights="balanced")
    assert run.prepared.label_counts == (3, 1)
    losses = class_problems.MultiLabel().losses(run)
    weighted = losses(torch.zeros(2, 2), torch.tensor([[1.0, 0.0], [-100, -100]])) / np.log(2)
    assert weighted.flatten().tolist() == pytest.approx([4 / 6, 4 / 6, 0, 0])


def test_labels_are_smoothed(models: dict[str, Path], tmp_path: Path) -> None:
    smooth = {"label_smoothing_factor": 0.2}
    run = ready(tmp_path / "single", models["bert"], SINGLE, training_arguments=smooth)
    logits, label = torch.tensor([[2.0, -1.0]]), torch.tensor([0])
    chances = logits.log_softmax(dim=-1)[0]
    losses = class_problems.SingleLabel().losses(run)(logits, label)
    assert float(losses[0]) == pytest.approx(float(-(0.9 * chances[0] + 0.1 * chances[1])), abs=1e-6)
    run = ready(tmp_path / "multi", models["bert"], MULTI, training_arguments=smooth)
    losses = class_problems.MultiLabel().losses(run)(torch.tensor([[2.0]]), torch.tensor([[1.0]]))
    yes, no = torch.tensor(2.0).sigmoid().log(), torch.tensor(-2.0).sigmoid().log()
    assert float(losses[0, 0]) == pytest.approx(float(-(0.9 * yes + 0.1 * no)), abs=1e-6)


def test_a_number_that_marks_what_does_not_count_still_counts(models: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"review": "soup", "score": score} for score in (-100.0, -100, 0.5, 3)]
    run = ready(tmp_path, models["bert"], REGRESSION, rows)
    labels = table(run.prepared).column("labels")
    assert labels.type == pa.float32()
    assert labels.to_pylist() == pytest.approx([-100.0, -100.0, 0.5, 3.0], abs=1e-4)
    assert -100.0 not in labels.to_pylist()
    (step,) = global_step.steps(run, ranks=1, accumulation=1)
    assert step.rows == (0, 1, 2, 3)
    # Half of the squared errors are of about 100.
    assert step.loss == pytest.approx((2 * 100**2 + 0.5**2 + 3**2) / 4, rel=0.02)
    assert [row["reference"] for row in TASK.predictions(run, global_step.evaluated(run))] == [-100.0, -100.0, 0.5, 3.0]


# --- metrics -----------------------------------------------------------------------------------------------------


def test_scores_of_one_class_are_those_that_scikit_learn_documents() -> None:
    single = class_problems.SingleLabel()
    wanted, chosen = np.array([0, 1, 2, 0, 1, 2]), np.array([0, 2, 1, 0, 0, 1])
    assert single.metrics(wanted, chosen) == pytest.approx({"accuracy": 2 / 6, "f1": 0.2667}, abs=1e-4)
    wanted, chosen = np.array([2, 0, 2, 2, 0, 1]), np.array([0, 0, 2, 2, 0, 2])
    details = single.details(wanted, chosen, ("ant", "bird", "cat"))
    assert details["confusionMatrix"] == {
        "labels": ["ant", "bird", "cat"],
        "counts": [[2, 0, 0], [0, 0, 1], [1, 0, 2]],
    }
    assert details["perLabel"]["ant"] == pytest.approx({"precision": 2 / 3, "recall": 1, "f1": 0.8, "support": 2})
    many = tuple(str(number) for number in range(101))
    assert "confusionMatrix" not in single.details(wanted, chosen, many), "nobody reads one so large"


def test_scores_of_several_labels_are_those_that_scikit_learn_documents() -> None:
    multi = class_problems.MultiLabel()
    wanted = np.array([[0, 0, 0], [1, 1, 1], [0, 1, 1]], dtype=np.float32)
    chosen = np.array([[0, 0, 0], [1, 1, 1], [1, 1, 0]], dtype=bool)
    per_label = multi.details(wanted, chosen, ("a", "b", "c"))["perLabel"]
    assert [per_label[name]["f1"] for name in "abc"] == pytest.approx([2 / 3, 1, 2 / 3])
    assert per_label["a"]["falsePositives"] == per_label["c"]["falseNegatives"] == 1
    assert multi.metrics(wanted, chosen) == pytest.approx({"f1": 7 / 9, "f1_micro": 0.8, "accuracy": 2 / 3})


def test_scores_of_numbers_are_those_that_the_libraries_document() -> None:
    regression = class_problems.Regression()
    wanted, chosen = np.array([3, -0.5, 2, 7], np.float32), np.array([2.5, 0.0, 2, 8], np.float32)
    assert regression.metrics(wanted, chosen)["mse"] == pytest.approx(0.375)
    references, predictions = np.arange(1, 8, dtype=np.float32), np.array([10, 9, 2.5, 6, 4, 3, 2], np.float32)
    assert regression.metrics(references, predictions)["pearson"] == pytest.approx(-0.8285, abs=1e-4)
    assert regression.metrics(references, np.full(7, 3.0, np.float32))["pearson"] == 0.0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_scores_of_numbers_that_are_not_finite_are_no_error(value: float) -> None:
    chosen = np.array([1.0, value], np.float32)
    scores = class_problems.Regression().metrics(np.ones(2, np.float32), chosen)
    assert scores.keys() == {"mse", "pearson"}
    assert not np.isfinite(list(scores.values())).any()


@pytest.mark.parametrize("problem", [SINGLE, MULTI, REGRESSION])
def test_predictions_are_in_the_order_of_the_data(problem: str, models: dict[str, Path], tmp_path: Path) -> None:
    run = ready(tmp_path, models["bert"], problem)
    evaluated = global_step.evaluated(run)
    assert evaluated.rows.number(0) != 0, "evaluation goes from long to short"
    rows = MAKE[problem](21, seed=1)
    predictions = list(TASK.predictions(run, evaluated))
    label = COLUMNS[problem]["label"]
    assert [row["text"] for row in predictions] == [row["review"] for row in rows]
    assert [row["reference"] for row in predictions] == [row[label] for row in rows]
    with torch.no_grad():
        logits = run.model(**run.tokenizer(rows[3]["review"], return_tensors="pt")).logits[0]
    expected = {
        SINGLE: run.prepared.label_names[int(logits.argmax())] if problem == SINGLE else None,
        MULTI: [name for name, logit in zip(run.prepared.label_names, logits, strict=False) if logit > 0],
        REGRESSION: pytest.approx(float(logits[0]), abs=1e-5),
    }
    assert predictions[3]["prediction"] == expected[problem]
    assert set(TASK.metrics(run, evaluated)) == set(task_facts.metrics("text-classification", problem))


# --- data --------------------------------------------------------------------------------------------------------


def multi_hot(prepared: PreparedTask) -> list[list[float]]:
    return list(table(prepared).column("labels").to_pylist())


def test_several_labels_come_as_names_ids_or_text(models: dict[str, Path], tmp_path: Path) -> None:
    lists = [["spicy", "cold"], [], ["cold"]]
    expected = [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]
    names = [{"review": "soup", "about": about} for about in lists]
    ids = [{"review": "soup", "about": [["cold", "spicy"].index(name) for name in row]} for row in lists]
    files = {
        "names": write_rows(tmp_path / "names.jsonl", names),
        "array": write_rows(tmp_path / "names.json", names),
        "ids": write_rows(tmp_path / "ids.parquet", ids),
        "bars": tmp_path / "bars.csv",
        "commas": tmp_path / "commas.csv",
        "numbers": tmp_path / "numbers.csv",
    }
    files["bars"].write_text("review,about\nsoup,spicy|cold\nsoup,\nsoup,cold\n")
    files["commas"].write_text('review,about\nsoup,"spicy, cold"\nsoup,""\nsoup,cold\n')
    files["numbers"].write_text("review,about\nsoup,1|0\nsoup,\nsoup,0\n")
    for name, file in files.items():
        prepared = prepare(run_config(tmp_path / name, models["bert"], MULTI, {"train": file}))
        assert multi_hot(prepared) == expected, name
        assert prepared.label_names == (("0", "1") if name in ("ids", "numbers") else ("cold", "spicy")), name
        assert prepared.label_counts == (2, 1), name
        noticed = any(
            message.startswith("Column 'about' holds text: labels are what is between") for message in prepared.messages
        )
        assert noticed == (file.suffix == ".csv")


@pytest.mark.parametrize("suffix", ["csv", "jsonl"])
def test_several_labels_come_in_a_column_each(suffix: str, models: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"review": "soup", "spicy": 1, "cold": 1}, {"review": "soup", "spicy": 0, "cold": 0}]
    files = {
        "train": write_rows(tmp_path / f"train.{suffix}", rows),
        "validation": write_rows(tmp_path / f"v.{suffix}", rows[:1]),
    }
    run = run_config(tmp_path, models["bert"], MULTI, files, columns={"text": "review"})
    run = run.model_copy(update={"dataset": run.dataset.model_copy(update={"label_columns": ("spicy", "cold")})})
    prepared = prepare(run)
    assert prepared.label_names == ("spicy", "cold")
    assert multi_hot(prepared) == [[1.0, 1.0], [0.0, 0.0]]
    assert prepared.label_counts == (1, 1)
    predictions = list(TASK.predictions(made := global_step.training(run, prepared), global_step.evaluated(made)))
    assert [row["reference"] for row in predictions] == [["spicy", "cold"]]
    twice = run.model_copy(update={"dataset": run.dataset.model_copy(update={"label_columns": ("spicy", "review")})})
    with pytest.raises(ExpectedError, match=r"names one column for two roles: review\."):
        prepare(twice)


def test_several_labels_that_are_lists_written_as_text(models: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "train.csv"
    file.write_text("review,about\nsoup,\"['spicy', 'cold']\"\nsoup,[]\nsoup,\"['cold']\"\n")
    prepared = prepare(run_config(tmp_path, models["bert"], MULTI, {"train": file}))
    assert prepared.label_names == ("cold", "spicy")
    assert multi_hot(prepared) == [[1.0, 1.0], [0.0, 0.0], [1.0, 0.0]]


def test_marks_of_begin_and_end_that_texts_hold_are_there_once(models: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"review": "the soup", "stars": "a"}, {"review": "[CLS]the soup[SEP]", "stars": "b"}]
    file = write_rows(tmp_path / "train.jsonl", rows)
    input_ids = (
        table(prepare(run_config(tmp_path, models["bert"], SINGLE, {"train": file}))).column("input_ids").to_pylist()
    )
    assert input_ids[0] == input_ids[1]


def test_names_of_several_labels_that_the_data_declares_are_kept(models: dict[str, Path], tmp_path: Path) -> None:
    import datasets

    features = datasets.Features(
        {"review": datasets.Value("string"), "about": datasets.List(datasets.ClassLabel(names=["hot", "cold", "odd"]))}
    )
    rows = [{"review": "soup", "about": [1]}, {"review": "bread", "about": []}]
    made = datasets.Dataset.from_list(rows, features=features)
    made.to_parquet(tmp_path / "train.parquet")
    prepared = prepare(run_config(tmp_path, models["bert"], MULTI, {"train": tmp_path / "train.parquet"}))
    assert prepared.label_names == ("hot", "cold", "odd")
    assert multi_hot(prepared) == [[0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]
    assert _split(made, "train").class_names == {"about": ("hot", "cold", "odd")}


@pytest.mark.parametrize("kind", ["text", "whole", "fraction"])
def test_numbers_come_as_text_or_as_numbers(kind: str, models: dict[str, Path], tmp_path: Path) -> None:
    kinds: dict[str, list[Any]] = {
        "text": [" 1.5", "-2e-1", "+3", ".5"],
        "whole": [1, 2, 3, 4],
        "fraction": [0.5, 1, 2, 3],
    }
    values = kinds[kind]
    file = tmp_path / "train.parquet"
    pq.write_table(pa.table({"review": ["soup"] * 4, "score": values}), file)
    prepared = prepare(run_config(tmp_path, models["bert"], REGRESSION, {"train": file}))
    assert table(prepared).column("labels").to_pylist() == pytest.approx([float(value) for value in values])
    assert not prepared.label_names
    assert not prepared.label_counts
    assert prepared.summary.majority_share is None


def test_pairs_are_predicted_with_both_texts(models: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"review": f"soup {word}", "reply": "was it", "stars": word} for word in ("good", "bad", "good")]
    columns = {"text": "review", "text_pair": "reply", "label": "stars"}
    run = ready(tmp_path, models["bert"], SINGLE, rows, columns=columns)
    predictions = list(TASK.predictions(run, global_step.evaluated(run)))
    assert [{name: row[name] for name in ("text", "text_pair", "reference")} for row in predictions] == [
        {"text": row["review"], "text_pair": "was it", "reference": row["stars"]} for row in rows
    ]


def test_rows_are_filled_up_and_cut_as_wanted(models: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"review": "soup bread table", "stars": "a"}, {"review": "soup", "stars": "b"}]
    wanted = {"maxLength": 4, "padding": "max_length", "truncationSide": "left"}
    run = ready(tmp_path, models["bert"], SINGLE, rows, preprocessing=wanted)
    texts = run.tokenizer.batch_decode(table(run.prepared).column("input_ids").to_pylist())
    assert texts == ["[CLS] bread table [SEP]", "[CLS] soup [SEP]"]
    rows_of = global_step.evaluated(run).rows
    batch = TASK.collator(run)([{name: rows_of[1][name] for name in ("input_ids", "labels")}])
    assert batch["input_ids"].shape == (1, 4)
    assert run.tokenizer.truncation_side == "left", "as it is saved beside the model"


# --- refusals ----------------------------------------------------------------------------------------------------


BAD: dict[str, tuple[str, list[Any], str]] = {
    "null": (MULTI, [["a"], None], "line 2: no labels in column 'about'. Give each row a list"),
    "null within": (MULTI, [["a"], ["b", None]], "line 2: a label in column 'about' is null. Name each"),
    "empty within": (MULTI, [["a"], [" "]], "line 2: a label in column 'about' is empty. Name each"),
    "none at all": (MULTI, [[], []], "no row has a label in column 'about'; there is nothing to learn."),
    "numbers": (MULTI, [[0.5], [1.0]], "line 1: column 'about' holds list<item: double> such as 0.5; labels are lists"),
    "a number": (MULTI, [1, 0], "line 1: column 'about' holds int64 where lists of labels are needed."),
    "a 0 or 1 for each": (
        MULTI,
        [[1], [0, 1, 1]],
        "line 2: column 'about' holds [0, 1, 1], in which a label is there twice. List the ids (or names) of the labels "
        "that apply, not a 0 or 1 for each.",
    ),
    "negative": (MULTI, [[0, 1], [-1]], "line 2: label -1 in column 'about' is negative; classes are counted from 0."),
    "far": (MULTI, [[0], [0, 9]], "line 2: label 9 in column 'about' is out of range: the data has 2 different labels"),
    "text": (
        REGRESSION,
        ["1.5", "many"],
        "line 2: the label 'many' in column 'score' is no number. A regression takes",
    ),
    "no number": (REGRESSION, [None, 1.0], "line 1: no label in column 'score'. Give each row one"),
    "too large": (REGRESSION, [1.0, 1e300], "line 2: the label 1e+300 in column 'score' is no number that a model can"),
    "list": (REGRESSION, [[1.0], [2.0]], "line 1: column 'score' holds list<item: double> such as [1.0]; a regression"),
    "yes or no": (REGRESSION, [True, False], "line 1: column 'score' holds bool such as True; a regression takes"),
    "all the same": (REGRESSION, [2, 2], "all rows have the number 2.0 in column 'score'; there is nothing to learn."),
    "fraction": (SINGLE, [0.5, 1.0], "For numbers to be predicted set spec.problemType: regression."),
    "lists": (
        SINGLE,
        [["a"], ["b"]],
        "Where a row has several labels set spec.problemType: multi_label_classification.",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_labels_that_cannot_be_learnt_are_refused(name: str, models: dict[str, Path], tmp_path: Path) -> None:
    problem, labels, message = BAD[name]
    column = COLUMNS[problem]["label"]
    file = write_rows(tmp_path / "train.jsonl", [{"review": "soup", column: label} for label in labels])
    with pytest.raises(ExpectedError) as refused:
        prepare(run_config(tmp_path, models["bert"], problem, {"train": file}))
    assert message in str(refused.value)
    assert str(file) in str(refused.value)
    assert (refused.value.reason, refused.value.cause) == (Reason.LABELS_INVALID, Cause.USER)


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ([1.0, float("nan"), 2.0], r"row 1: no label in column 'score'\."),
        (
            [1.0, float("inf"), -float("inf")],
            r"row 1: the label inf in column 'score' is no number .* \(and 1 more row\)",
        ),
    ],
    ids=["nan", "infinite"],
)
def test_not_a_number_is_refused(scores: list[float], message: str, models: dict[str, Path], tmp_path: Path) -> None:
    file = tmp_path / "train.parquet"
    pq.write_table(pa.table({"review": ["soup"] * 3, "score": scores}), file)
    with pytest.raises(ExpectedError, match=message):
        prepare(run_config(tmp_path, models["bert"], REGRESSION, {"train": file}))


def test_a_label_that_training_does_not_know_is_refused(models: dict[str, Path], tmp_path: Path) -> None:
    files = {
        "train": write_rows(tmp_path / "train.jsonl", [{"review": "soup", "about": ["a", "b"]}] * 2),
        "validation": write_rows(
            tmp_path / "v.jsonl", [{"review": "x", "about": []}, {"review": "y", "about": ["b", "c"]}]
        ),
    }
    with pytest.raises(
        ExpectedError, match="line 2: the label 'c' in column 'about' does not occur in the training data"
    ):
        prepare(run_config(tmp_path, models["bert"], MULTI, files))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"loss_weights": "balanced"}, "spec.lossWeights: a regression has no classes to balance."),
        (
            {"training_arguments": {"label_smoothing_factor": 0.1}},
            "trainingArguments.label_smoothing_factor: a regression has no classes to smooth.",
        ),
    ],
)
def test_settings_of_classes_are_refused_for_numbers(
    fields: dict[str, Any], message: str, models: dict[str, Path], tmp_path: Path
) -> None:
    with pytest.raises(ExpectedError) as refused:
        ready(tmp_path, models["bert"], REGRESSION, **fields)
    assert message in str(refused.value)
    assert refused.value.reason == Reason.ARGUMENTS_INVALID


def test_padding_to_a_limit_needs_one(models: dict[str, Path], tmp_path: Path) -> None:
    from dataclasses import replace

    from finetune_trainer.data import model

    endless = replace(model.load(models["bert"], "The model"), max_tokens=None)
    wanted = run_config(tmp_path, models["bert"], SINGLE, {}, preprocessing={"padding": "max_length"})
    with pytest.raises(ExpectedError, match=r"preprocessing\.padding is max_length, and The model has no limit"):
        tasks.find("text-classification").limits(wanted, endless)
