"""Question answering: answers are found in their contexts, learnt, scored as SQuAD does, and told as text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from finetune_trainer.contract import task_facts
from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.run_config import Peft, Preprocessing, TaskConfig
from finetune_trainer.contract.training_report import PREDICTIONS_FILE
from finetune_trainer.data.prepared_dataset import PreparedDataset
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.tasks import spans, squad
from finetune_trainer.tasks.question_answering import TASK
from finetune_trainer.train.predict import examples
from tests.support import global_step
from tests.support.questions import at, config, questions
from tests.support.ranks import Finished, run_ranks
from tests.support.tiny import Row, tiny_bert, write_rows
from tests.support.tiny_gpt2 import tiny_gpt2
from tests.support.tiny_roberta import tiny_roberta
from tests.support.tiny_t5 import tiny_t5

ARGUMENTS = {
    "num_train_epochs": 3,
    "learning_rate": 5e-3,
    "per_device_train_batch_size": 8,
    "eval_strategy": "epoch",
    "logging_steps": 1,
}
SIZES = {"train": 240, "validation": 60, "test": 41}
NONE: dict[str, list[Any]] = {"text": [], "answer_start": []}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    return {
        "bert": tiny_bert(folder / "bert"),
        "distilbert": tiny_bert(folder / "distilbert", architecture="distilbert"),
        "roberta": tiny_roberta(folder / "roberta"),
        "gpt2": tiny_gpt2(folder / "gpt2"),
        "t5": tiny_t5(folder / "t5"),
    }


def run_config(
    folder: Path, model: Path, rows: dict[str, list[Row]], suffix: str = "jsonl", **fields: Any
) -> TaskConfig:
    files = {role: write_rows(folder / f"{role}.{suffix}", split) for role, split in rows.items()}
    return config(folder / "output", model=model, files=files, **fields)


def windows(prepared: PreparedTask, role: str = "train") -> list[dict[str, Any]]:
    with pa.memory_map(f"{prepared.data}/{role}.arrow") as source:
        return list(pa.ipc.open_stream(source).read_all().to_pylist())


# --- ranks -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, models: dict[str, Path]) -> Finished:
    """Train on two ranks, killed in the second epoch, and two that go on to the end and predict the test split."""
    folder = tmp_path_factory.mktemp("ranks")
    rows = {role: questions(count, seed=seed) for seed, (role, count) in enumerate(SIZES.items())}
    made = run_config(folder, models["bert"], rows, arguments=ARGUMENTS, columns={"id": "id"}, processes=2)
    prepared = prepare(made)
    step = -(-len(windows(prepared)) // 16)
    killed = run_ranks(folder / "killed", made, world=2, kill_after_checkpoint=step, prepared=prepared)
    assert killed.returncode != 0
    assert killed.checkpoint(step).is_dir(), killed.output
    resumed = run_ranks(folder / "resumed", made, world=2, resume=killed.checkpoint(step), prepared=prepared)
    assert resumed.returncode == 0, resumed.output
    assert [entry["step"] for entry in resumed.log() if "loss" in entry] == list(range(1, 3 * step + 1))
    return resumed


def test_answers_are_learnt(finished: Finished) -> None:
    report = finished.report
    assert report.evaluation is not None
    assert report.evaluation.keys() == task_facts.metrics("question-answering").keys()
    none = sum(not row["answers"]["text"] for row in questions(SIZES["validation"], seed=1)) / SIZES["validation"]
    assert none < 0.4, "what is right when no question is answered"
    assert report.evaluation["exact_match"] > 90
    assert report.evaluation["f1"] >= report.evaluation["exact_match"]
    assert report.details["unanswerable"]["questions"] == round(none * SIZES["validation"])
    assert report.details["answerable"]["exact_match"] > 85


def test_the_test_split_is_predicted_in_its_order(finished: Finished) -> None:
    rows, predictions = questions(SIZES["test"], seed=2), finished.predictions
    assert [(row["id"], row["question"], row["context"]) for row in predictions] == [
        (row["id"], row["question"], row["context"]) for row in rows
    ]
    assert [row["references"] for row in predictions] == [row["answers"]["text"] for row in rows]
    report = finished.report
    scores = squad.scores([row["prediction"] for row in predictions], [row["references"] for row in predictions])
    assert report.test is not None
    assert report.test == pytest.approx({**scores, "loss": report.test["loss"]})
    assert scores["exact_match"] > 85
    result = finished.heard.results[0]["evaluation"]
    assert result["test_exact_match"] == report.test["exact_match"]
    assert finished.heard.results[1]["evaluation"] == result
    assert PREDICTIONS_FILE in finished.heard.models[0]["files"]


def test_the_model_answers_without_us(finished: Finished) -> None:
    """The answers are computed as transformers' documentation does it: there is no pipeline for this any more."""
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    model = AutoModelForQuestionAnswering.from_pretrained(finished.model)
    tokenizer = AutoTokenizer.from_pretrained(finished.model)
    short = [row for row in finished.predictions if len(row["context"].split()) < 15]
    assert len(short) > 10
    same = 0
    for row in short:
        encoded = tokenizer(row["question"], row["context"], return_tensors="pt")
        with torch.no_grad():
            outputs = model(**encoded)
        start, end = int(outputs.start_logits.argmax()), int(outputs.end_logits.argmax())
        same += tokenizer.decode(encoded.input_ids[0, start : end + 1]).replace("[CLS]", "") == row["prediction"]
    assert same >= len(short) - 1


# --- loss --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta", "gpt2", "t5"])
def test_rows_and_loss_of_a_step_are_those_of_every_world(
    architecture: str, models: dict[str, Path], tmp_path: Path
) -> None:
    rows = {"train": questions(27), "validation": questions(9, seed=1)}
    preprocessing = Preprocessing(max_length=60, stride=12)  # some tokenizers know no more than letters
    made = run_config(tmp_path, models[architecture], rows, preprocessing=preprocessing)
    run = global_step.training(made, prepare(made))
    alone, *others = [
        global_step.steps(run, ranks=ranks, accumulation=accumulation) for ranks, accumulation in global_step.WORLDS
    ]
    assert sum(len(step.rows) for step in alone) % 8 or architecture == "t5", "the last batch is not full"
    for steps in others:
        assert [step.rows for step in steps] == [step.rows for step in alone]
        assert [step.loss for step in steps] == pytest.approx([step.loss for step in alone], abs=1e-5)


def test_the_loss_is_that_of_the_model_itself(models: dict[str, Path], tmp_path: Path) -> None:
    """The losses are compared for one window at a time, which nothing fills up."""
    made = run_config(tmp_path, models["bert"], {"train": questions(9), "validation": questions(9, seed=1)})
    run = global_step.training(made, prepare(made))
    evaluated = global_step.evaluated(run)
    losses = []
    for index in range(len(evaluated.rows)):
        batch = TASK.collator(run)([{k: v for k, v in evaluated.rows[index].items() if not k.startswith("_")}])
        begin, end = batch.pop("labels").unbind(dim=1)
        with torch.no_grad():
            losses.append(float(run.model(**batch, start_positions=begin, end_positions=end).loss))
    assert evaluated.predictions[-1] == pytest.approx(losses, abs=1e-5)
    assert TASK.metrics(run, evaluated)["loss"] == pytest.approx(np.mean(losses), abs=1e-5)


def test_an_adapter_sees_which_tokens_are_the_question(models: dict[str, Path], tmp_path: Path) -> None:
    """The token types reach the model, which peft's own class drops; what is saved answers the same when it is loaded without us."""
    from transformers import AutoModelForQuestionAnswering

    from finetune_trainer.train.adapters import Adapters

    made = run_config(tmp_path, models["bert"], {"train": questions(9)}, peft=Peft())
    prepared = prepare(made)
    run = global_step.training(made, prepared)
    adapters = Adapters(TASK, made, prepared, "fp32", 0)
    wrapped = adapters.wrap(run.model, checkpointing=False).eval()
    encoded = run.tokenizer(["food"], ["the soup was fresh"], padding="max_length", max_length=12, return_tensors="pt")
    with torch.no_grad():
        logits = wrapped(**encoded).start_logits
        blind = wrapped(**{**encoded, "token_type_ids": encoded["token_type_ids"] * 0}).start_logits
    assert float((logits - blind)[:, :8].abs().max()) > 1e-3
    assert logits[:, 8:].tolist() == [[-np.inf] * 4], "what fills up a batch is no answer"
    adapters.save(wrapped, tmp_path / "saved")
    with torch.no_grad():
        loaded = AutoModelForQuestionAnswering.from_pretrained(tmp_path / "saved").eval()(**encoded).start_logits
    torch.testing.assert_close(loaded[:, :8], logits[:, :8])


def test_rows_are_filled_up_to_the_window_where_the_job_says_so(models: dict[str, Path], tmp_path: Path) -> None:
    rows = {"train": questions(9)}
    for preprocessing, width in (
        (Preprocessing(max_length=32, stride=8, padding="max_length"), 32),
        (Preprocessing(padding="max_length"), 64),
    ):
        made = run_config(tmp_path / str(width), models["bert"], rows, preprocessing=preprocessing)
        run = global_step.training(made, prepare(made))
        batch = TASK.collator(run)([{"input_ids": [2, 5, 3], "attention_mask": [1, 1, 1], "labels": [1, 1]}])
        assert batch["input_ids"].shape == (1, width)
        assert batch["labels"].tolist() == [[1, 1]]


def test_labels_are_smoothed_over_the_tokens_of_the_row_alone(models: dict[str, Path], tmp_path: Path) -> None:
    made = run_config(tmp_path, models["bert"], {"train": questions(9)}, arguments={"label_smoothing_factor": 0.2})
    run = global_step.training(made, prepare(made))
    logits = torch.tensor([[2.0, -1.0, 0.5, -np.inf]])
    chances = logits[0, :3].log_softmax(dim=-1)
    expected = -(0.8 * chances[1] + 0.2 * chances.mean()) - (0.8 * chances[2] + 0.2 * chances.mean())
    loss = TASK.loss(run)({"start_logits": logits, "end_logits": logits}, torch.tensor([[1, 2]]))
    assert float(loss) == pytest.approx(float(expected) / 2)
    filler = TASK.loss(run)(
        {"start_logits": logits.repeat(2, 1), "end_logits": logits.repeat(2, 1)},
        torch.tensor([[1, 2], [-100, -100]]),
        num_items_in_batch=2,
    )
    assert float(filler) == pytest.approx(float(loss))


# --- tokens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("architecture", ["bert", "roberta"])
def test_labels_stand_for_the_answer_in_every_window(
    architecture: str, models: dict[str, Path], tmp_path: Path
) -> None:
    rows = questions(60, seed=3)
    for number, row in enumerate(rows):
        row["context"] = f"  {row['context']} "
        row["answers"] = {**row["answers"], "answer_start": [start + 2 for start in row["answers"]["answer_start"]]}
        if number % 7 == 0 and row["answers"]["text"]:  # with the space before it
            (text,), (start,) = row["answers"]["text"], row["answers"]["answer_start"]
            row["answers"] = {"text": [f" {text}"], "answer_start": [start - 1]}
    made = run_config(tmp_path, models[architecture], {"train": rows, "validation": rows})
    prepared, folder = prepare(made), models[architecture]
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    answered: dict[int, list[str]] = {}
    shared = 0
    validation_windows = windows(prepared, "validation")
    for window in validation_windows:
        assert len(window["input_ids"]) == window["length"] <= 32
        first, offsets = window["_first"], np.array(window["_offsets"]).reshape(-1, 2)
        context = rows[window["_example"]]["context"]
        begin, end = window["labels"]
        texts = answered.setdefault(window["_example"], [])
        if (begin, end) != (0, 0):
            assert first <= begin <= end < first + len(offsets)
            text = context[offsets[begin - first][0] : offsets[end - first][1]]
            decoded = tokenizer.decode(window["input_ids"][begin : end + 1]).strip()
            assert text.strip() == decoded == rows[window["_example"]]["answers"]["text"][0].strip()
            texts.append(text)
    assert sorted(answered) == list(range(60))
    for number, texts in answered.items():
        assert bool(texts) == bool(rows[number]["answers"]["text"])
        shared += len(texts) > 1
    assert shared, "an answer in what two windows share is learnt in both"
    assert len(validation_windows) > 70
    example = next(window for window in validation_windows if window["labels"] != [0, 0])
    learnt_text = tokenizer.decode(TASK.learnt(example)).strip()
    assert learnt_text == rows[example["_example"]]["answers"]["text"][0].strip()
    assert [window["labels"] for window in windows(prepared)] == [window["labels"] for window in validation_windows]
    assert not any(name.startswith("_") for name in windows(prepared)[0])


def test_windows_cover_a_context_and_share_the_stride(models: dict[str, Path], tmp_path: Path) -> None:
    context = " ".join(["soup", "bread", "table", "waiter", "place", "had", "we", "was", "a", "and"] * 6)
    row = {"question": "the food", "context": context, "answers": at("soup bread", context)}
    made = run_config(tmp_path, models["bert"], {"train": [row], "validation": [row]})
    validation_windows = windows(prepare(made), "validation")
    begins = [window["_offsets"][0] for window in validation_windows]
    ends = [window["_offsets"][-1] for window in validation_windows]
    assert (begins[0], ends[-1]) == (0, len(context))
    for begin, end in zip(begins[1:], ends[:-1], strict=True):
        assert len(context[begin:end].split()) == 8
    assert all(window["input_ids"][:4] == validation_windows[0]["input_ids"][:4] for window in validation_windows)


def test_a_question_that_leaves_no_room_is_cut_and_said(models: dict[str, Path], tmp_path: Path) -> None:
    rows = [{**row, "question": "food " * 50} if number == 3 else row for number, row in enumerate(questions(8))]
    made = run_config(tmp_path, models["bert"], {"train": rows})
    prepared = prepare(made)
    assert prepared.splits["train"].truncated == 1
    assert any(message.startswith("1 of 8 train rows") for message in prepared.messages)
    assert {window["length"] <= 32 for window in windows(prepared)} == {True}


def test_windows_default_to_384_tokens_with_128_shared(models: dict[str, Path], tmp_path: Path) -> None:
    """Windows are 384 tokens with 128 shared unless the job says otherwise."""
    from finetune_trainer.data import model

    loaded = model.load(models["bert"], "The model")
    wide = model.ModelDescription(**{**loaded.__dict__, "max_tokens": 512})
    made = run_config(tmp_path, models["bert"], {"train": questions(2)}, preprocessing=Preprocessing())
    assert TASK.limits(made, wide)[0].tokens == 384
    assert TASK.limits(made, loaded)[0].tokens == 64
    larger = made.model_copy(update={"preprocessing": Preprocessing(max_length=500, stride=20)})
    assert TASK.limits(larger, wide)[0].tokens == 500
    for preprocessing, message in (
        (Preprocessing(max_length=64, stride=50), "preprocessing.stride is 50: windows of 64 tokens, of which 3 are"),
        (Preprocessing(max_length=64, stride=50), "Choose a stride of at most 45, or a larger"),
        (Preprocessing(max_length=12), "windows of 12 tokens"),
    ):
        with pytest.raises(ExpectedError, match=message):
            TASK.limits(made.model_copy(update={"preprocessing": preprocessing}), wide)


# --- answers -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["json", "jsonl", "parquet"])
def test_answers_in_every_format(suffix: str, models: dict[str, Path], tmp_path: Path) -> None:
    rows = [{**row, "answers": NONE} if number < 2 else row for number, row in enumerate(questions(20))]
    files = {role: write_rows(tmp_path / f"{role}.{suffix}", rows) for role in ("train", "validation")}
    prepared = prepare(config(tmp_path / "output", model=models["bert"], files=files))
    kept = examples(prepared, "validation")
    assert kept is not None
    assert kept.column("answers").to_pylist() == [row["answers"] for row in rows]
    assert prepared.summary.validation_rows == 20


def test_answers_as_a_list_of_objects_and_as_datasets_writes_them(models: dict[str, Path], tmp_path: Path) -> None:
    rows = questions(12, unanswerable=False)
    listed = [
        {**row, "answers": [{"text": row["answers"]["text"][0], "answer_start": row["answers"]["answer_start"][0]}]}
        for row in rows
    ]
    single = [{**row, "answers": {name: values[0] for name, values in row["answers"].items()}} for row in rows]
    type_ = pa.struct([("text", pa.large_list(pa.large_string())), ("answer_start", pa.large_list(pa.int32()))])
    table = pa.Table.from_pylist(rows)
    table = table.set_column(
        table.schema.get_field_index("answers"), "answers", pa.array(table["answers"].to_pylist(), type_)
    )
    pq.write_table(table, tmp_path / "test.parquet")
    files = {
        "train": write_rows(tmp_path / "train.jsonl", listed),
        "validation": write_rows(tmp_path / "validation.jsonl", single),
        "test": tmp_path / "test.parquet",
    }
    prepared = prepare(config(tmp_path / "output", model=models["bert"], files=files))
    for role in ("validation", "test"):
        kept = examples(prepared, role)
        assert kept is not None
        assert kept.column("answers").to_pylist() == [row["answers"] for row in rows]


def test_an_answer_that_stands_elsewhere_once_is_found_there_and_said(models: dict[str, Path], tmp_path: Path) -> None:
    rows = questions(9, unanswerable=False)
    right = rows[4]["answers"]
    rows[4] = {**rows[4], "answers": {**right, "answer_start": [right["answer_start"][0] + 1]}}
    made = run_config(tmp_path, models["bert"], {"train": rows, "validation": rows})
    prepared = prepare(made)
    kept = examples(prepared, "validation")
    assert kept is not None
    assert kept.column("answers")[4].as_py() == right
    messages = [message for message in prepared.messages if "once elsewhere" in message]
    assert [
        str(tmp_path / f"{role}.jsonl, line 5") in message
        for role, message in zip(("train", "validation"), messages, strict=True)
    ] == [True, True]


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (
            {"text": ["wine"], "answer_start": [4]},
            "line 2: the answer 'wine' in column 'answers' is not at character 4 of the context, where 'soup' stands, and it "
            "does not occur in the context. Mend 'answer_start' or leave the row out.",
        ),
        ({"text": ["the"], "answer_start": [4]}, "it occurs in the context more than once"),
        ({"text": ["the"], "answer_start": [400]}, "is not at character 400 of the context, beyond its 28 characters"),
        ({"text": ["the"], "answer_start": [-1]}, "is not at character -1"),
        (
            {"text": ["the", "soup"], "answer_start": [0]},
            "line 2: column 'answers' has 2 texts and 1 of 'answer_start'",
        ),
        (
            {"text": [""], "answer_start": [0]},
            "line 2: an answer in column 'answers' is ''. A question without an answer has {\"text\": [], \"answer_start\": []}.",
        ),
        ({"text": ["the"], "answer_start": [0.5]}, "'answer_start' in column 'answers' is 0.5, no whole number."),
        (None, "line 2: no answers in column 'answers'."),
    ],
)
def test_answers_that_cannot_be_learnt(answers: Any, message: str, models: dict[str, Path], tmp_path: Path) -> None:
    rows = [
        {"question": "the food", "context": "the soup was the bread table", "answers": answers_of_row}
        for answers_of_row in (at("soup", "the soup"), answers)
    ]
    with pytest.raises(ExpectedError) as refused:
        prepare(run_config(tmp_path, models["bert"], {"train": rows}))
    assert message in str(refused.value)


@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (
            "soup",
            "column 'answers' holds 'soup'; question-answering takes answers with the character of the context at which each "
            'begins, as {"text": ["the answer"], "answer_start": [17]}. A csv file cannot hold that: use jsonl, json or '
            "parquet.",
        ),
        ({"text": ["soup"]}, "column 'answers' has no 'answer_start'"),
        (["soup"], "column 'answers' holds ['soup']"),
        (4, "column 'answers' holds 4"),
        (NONE, "no question of the training data has an answer in column 'answers'"),
    ],
)
def test_columns_that_hold_no_answers(answers: Any, message: str, models: dict[str, Path], tmp_path: Path) -> None:
    rows = [{"question": "the food", "context": "the soup was", "answers": answers}] * 2
    with pytest.raises(ExpectedError) as refused:
        prepare(run_config(tmp_path, models["bert"], {"train": rows}))
    assert message in str(refused.value)


def test_answers_in_csv_are_refused_with_the_way_out(models: dict[str, Path], tmp_path: Path) -> None:
    row = {"question": "the food", "context": "the soup was", "answers": '{"text": ["soup"], "answer_start": [4]}'}
    with pytest.raises(ExpectedError, match=r"train.csv, line 2: column 'answers' holds .* use jsonl, json or parquet"):
        prepare(run_config(tmp_path, models["bert"], {"train": [row]}, suffix="csv"))


def test_a_slow_tokenizer_and_a_wrong_architecture_are_refused(models: dict[str, Path], tmp_path: Path) -> None:
    from finetune_trainer.data import model

    loaded = model.load(models["bert"], "The model")

    class Slow:
        is_fast, pad_token = False, "[PAD]"

    made = run_config(tmp_path, models["bert"], {"train": questions(2)})
    with pytest.raises(ExpectedError, match="does not tell which characters a token stands for"):
        TASK.check_model(model.ModelDescription(**{**loaded.__dict__, "tokenizer": Slow()}), made)
    vision = type("Config", (), {"model_type": "vit"})()
    with pytest.raises(ExpectedError, match="no head for question answering"):
        TASK.check_model(model.ModelDescription(**{**loaded.__dict__, "config": vision}), made)


def test_validation_without_answers_that_training_has_none_of_is_said(models: dict[str, Path], tmp_path: Path) -> None:
    rows = {"train": questions(9, unanswerable=False), "validation": [{**row, "answers": NONE} for row in questions(3)]}
    prepared = prepare(run_config(tmp_path, models["bert"], rows))
    assert any(message.startswith("3 questions of the validation data have no answer") for message in prepared.messages)


# --- from tokens to text -----------------------------------------------------------------------------------------


CONTEXT = "the soup was very cold"
OFFSETS = [0, 3, 4, 8, 9, 12, 13, 17, 18, 22]


def answered(
    *scores: dict[int, tuple[float, float]], none: float = 0.0, may_be_none: bool = False, longest: int = 9
) -> str:
    """Return the answer of one question whose windows score these tokens as first and last."""
    count = max(len(window) for window in scores)
    places = np.full((len(scores), count), -100)
    starts, ends = np.full((2, len(scores), count), -100.0)
    for number, window in enumerate(scores):
        for column, (token, (start, end)) in enumerate(window.items()):
            places[number, column], starts[number, column], ends[number, column] = token, start, end
    rows = PreparedDataset(
        pa.table(
            {
                "length": [1] * len(scores),
                "_example": [0] * len(scores),
                "_first": [2] * len(scores),
                "_offsets": [OFFSETS] * len(scores),
            }
        )
    )
    kept = pa.table({"context": [CONTEXT], "some_unanswerable": [may_be_none], "longest": [longest]})
    nothing = np.full(len(scores), none)
    return spans.answers(spans.Scored(places, starts, places, ends, nothing, nothing), rows, kept)[0]


def test_the_best_span_of_all_windows_is_the_answer() -> None:
    assert answered({5: (3.0, 0.0), 6: (0.0, 3.0)}) == "very cold"
    assert answered({5: (3.0, 0.0), 6: (0.0, 3.0)}, {3: (4.0, 4.0)}) == "soup"
    assert answered({6: (9.0, 0.5), 3: (0.0, 9.0)}) == "cold", "an answer ends after it begins"
    assert answered({0: (9.0, 9.0), 7: (9.0, 9.0), 4: (0.1, 0.1)}) == "was", "the question is no answer"
    assert answered({0: (9.0, 9.0)}) == ""


def test_no_answer_is_one_where_training_has_such_questions() -> None:
    assert answered({4: (1.0, 1.0)}, none=3.0) == "was"
    assert answered({4: (1.0, 1.0)}, none=3.0, may_be_none=True) == ""
    assert answered({4: (2.0, 2.0)}, none=3.0, may_be_none=True) == "was"


def test_answers_are_as_long_as_those_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = {2: (5.0, 0.0), 6: (0.0, 5.0), 4: (1.0, 1.0)}
    assert answered(whole) == CONTEXT
    monkeypatch.setattr(spans, "ANSWER_TOKENS", 3)
    assert answered(whole) == "the soup was"
    assert answered(whole, longest=len(CONTEXT)) == CONTEXT


# --- metrics -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("predictions", "references", "exact", "f1"),
    [
        # The cards of the metrics `squad` and `squad_v2` on the Hub.
        (["1976"], [["1976"]], 100, 100),
        (["1999"], [["1976"]], 0, 0),
        (
            ["1976", "Beyonce", "climate change"],
            [["1976"], ["Beyoncé and Bruno Mars"], ["climate change"]],
            200 / 3,
            200 / 3,
        ),
        # Of the development set of SQuAD 1.1, as PrimeQA tests its own.
        (
            ["Denver Broncos", "Carolina Panthers", "Levi's Stadium in the San Francisco Bay Area"],
            [["Denver Broncos"], ["Carolina Panthers"], ["Levi's Stadium"]],
            66.66666666666667,
            81.48148148148148,
        ),
        # What the script of 2.0 says of articles, punctuation and case, of the best of several, and of no answer.
        (["the Norman's!"], [["A normans"]], 100, 100),
        (["in the year 1976"], [["1976", "year 1976"]], 0, 80),
        (["", "", "soup"], [[], ["soup"], []], 100 / 3, 100 / 3),
    ],
)
def test_scores_are_those_that_are_published(
    predictions: list[str], references: list[list[str]], exact: float, f1: float
) -> None:
    assert squad.scores(predictions, references) == pytest.approx({"exact_match": exact, "f1": f1})
