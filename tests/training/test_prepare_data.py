"""Every way in which local data can be wrong, and what the user is told: file, column, line, and the way out."""

# ruff: noqa: E501 - a table reads best with one case a line

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune_trainer.config import Cause, Reason
from finetune_trainer.prepare import splits
from finetune_trainer.prepare.errors import PrepareError
from finetune_trainer.prepare.run import prepare
from tests.support.runs import run_config
from tests.support.tiny import reviews, tiny_bert, write_rows

GOOD = [{"review": "the food was fresh", "stars": 1}, {"review": "the soup was cold", "stars": 0}]


@dataclass(frozen=True)
class Case:
    name: str
    file: str
    """Name of the training file."""
    content: str | bytes | list[dict[str, Any]] | Callable[[Path], object] | None
    """Text, bytes, rows, a function that makes it, or None for no file."""
    reason: Reason
    says: tuple[str, ...]
    """Parts of the message; `{file}` is the file's path."""
    validation: list[dict[str, Any]] | None = None
    dataset: dict[str, Any] = field(default_factory=dict)
    arguments: dict[str, Any] = field(default_factory=dict)


def jsonl(*rows: object) -> str:
    return "".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows)


def row(text: object = "good food", label: object = 1) -> dict[str, Any]:
    return {"review": text, "stars": label}


DATA, LABELS = Reason.DATA_INVALID, Reason.LABELS_INVALID
CASES = [
    Case("missing file", "train.csv", None, Reason.FILE_NOT_FOUND, ("{file} does not exist", "holds other.txt")),
    Case(
        "missing folder",
        "nope/train.csv",
        None,
        Reason.FILE_NOT_FOUND,
        ("{file} does not exist", "folder", "spec.volumes"),
    ),
    Case("a folder", "train.csv", lambda path: path.mkdir(), Reason.FILE_NOT_FOUND, ("{file} is a folder",)),
    Case("unknown format", "train.xml", "<a/>", DATA, ("{file}", ".xml", ".csv, .json, .jsonl, .parquet")),
    Case("empty csv", "train.csv", "", DATA, ("{file} is empty",)),
    Case("header only", "train.csv", "review,stars\n", DATA, ("{file} has no rows",)),
    Case("empty jsonl", "train.jsonl", "", DATA, ("{file} is empty",)),
    Case("blank jsonl", "train.jsonl", "\n\n", DATA, ("{file} has no rows",)),
    Case("empty array", "train.json", "[]", DATA, ("{file} has no rows",)),
    Case("empty parquet", "train.parquet", lambda path: pq.write_table(pa.table({"review": pa.array([], pa.string())}), path), DATA, ("{file} has no rows",)),
    Case("broken jsonl", "train.jsonl", jsonl(row(), row(), '{"review": "x", '), DATA, ("{file}, line 3", "not valid JSON")),
    Case("jsonl after a blank line", "train.jsonl", jsonl(row(), "", '{"review"}'), DATA, ("{file}, line 3",)),
    Case("jsonl of arrays", "train.jsonl", jsonl(row(), [1, 2]), DATA, ("{file}, line 2", "object")),
    Case("broken json", "train.json", '[\n{"review": "a", "stars": 1},\n{"review": }\n]', DATA, ("{file}, line 3", "not valid JSON")),
    Case("json of texts", "train.json", '[{"review": "a", "stars": 1}, "b"]', DATA, ("{file}, row 1", "object")),
    Case("broken parquet", "train.parquet", b"PAR1 and then nothing", DATA, ("{file}", "parquet")),
    Case("ragged csv", "train.csv", "review,stars\ngood,1\nbad,0\nfine, really,1\n", DATA, ("{file}, line 4", "3 values", "header has 2")),
    Case("ragged csv after a line break in quotes", "train.csv", 'review,stars\n"two\nlines",1\nbad\n', DATA, ("{file}, line 4", "1 values")),
    Case("open quote", "train.csv", 'review,stars\ngood,1\n"bad,0\n', DATA, ("{file}, line 3",)),
    Case("doubled column", "train.csv", "review,review,stars\na,b,1\n", DATA, ("{file}, line 1", "review", "twice")),
    Case("latin-1 csv", "train.csv", "review,stars\ngood,1\ncafé,0\n".encode("latin-1"), DATA, ("{file}, line 3", "0xe9", "UTF-8", "iconv")),
    Case("latin-1 jsonl", "train.jsonl", b'{"review": "a", "stars": 1}\n{"review": "caf\xe9", "stars": 0}\n', DATA, ("{file}, line 2", "0xe9", "UTF-8")),
    Case("missing text column", "train.csv", "text,stars\ngood,1\n", Reason.COLUMN_NOT_FOUND, ("{file} has no column 'review'", "it has text, stars", "spec.dataset.columns")),
    Case("missing text column in jsonl", "train.jsonl", jsonl({"text": "a", "stars": 1}), Reason.COLUMN_NOT_FOUND, ("{file} has no column 'review'", "text")),
    Case("missing label column", "train.jsonl", jsonl({"review": "a", "label": 1}), Reason.COLUMN_NOT_FOUND, ("{file} has no column 'stars'", "it has review, label")),
    Case("missing column in parquet", "train.parquet", [{"review": "a", "rating": 1}], Reason.COLUMN_NOT_FOUND, ("{file} has no column 'stars'", "review, rating")),
    Case("one column for two roles", "train.csv", "review\na\n", Reason.COLUMN_NOT_FOUND, ("two roles",), dataset={"columns": {"text": "review", "label": "review"}}),
    Case("null text", "train.jsonl", jsonl(row(), row(None, 0)), DATA, ("{file}, line 2", "'review'", "no text")),
    Case("absent text", "train.jsonl", jsonl(row(), {"stars": 0}), DATA, ("{file}, line 2", "'review'", "no text")),
    Case("empty text in csv", "train.csv", "review,stars\ngood,1\n,0\n", DATA, ("{file}, line 3", "'review'", "no text")),
    Case("null text in parquet", "train.parquet", [row(), row(None, 0)], DATA, ("{file}, row 1", "'review'", "no text")),
    Case("number as text", "train.jsonl", jsonl(row(), row(7, 0)), DATA, ("{file}, line 2", "'review'", "7", "text")),
    Case("numbers as text in parquet", "train.parquet", [row(7), row(8, 0)], DATA, ("{file}, row 0", "'review'", "int64", "7")),
    Case("null label", "train.jsonl", jsonl(row(), row(label=None)), LABELS, ("{file}, line 2", "'stars'", "no label")),
    Case("empty label in csv", "train.csv", "review,stars\ngood,1\nbad,\n", LABELS, ("{file}, line 3", "'stars'")),
    Case("blank label", "train.jsonl", jsonl(row(label="a"), row(label=" ")), LABELS, ("{file}, line 2", "'stars'", "empty")),
    Case("negative label", "train.csv", "review,stars\ngood,1\nbad,-1\nfine,0\n", LABELS, ("{file}, line 3", "label -1", "negative")),
    Case("labels from 1", "train.csv", "review,stars\na,1\nb,2\nc,5\n", LABELS, ("{file}, line 4", "label 5", "out of range", "1, 2, 5", "from 0")),
    Case("label out of range", "train.jsonl", jsonl(row(label=0), row(label=1), row(label=99)), LABELS, ("{file}, line 3", "label 99", "out of range")),
    Case("float labels", "train.jsonl", jsonl(row(label=0.5), row(label=1.0)), LABELS, ("{file}, line 1", "0.5", "fraction")),
    Case("float labels in csv", "train.csv", "review,stars\na,1\nb,0.5\n", LABELS, ("{file}, line 3", "'0.5'", "fraction")),
    Case("lists as labels", "train.jsonl", jsonl(row(label=[1]), row(label=[0])), LABELS, ("{file}, line 1", "'stars'", "list")),
    Case("text among numbers", "train.jsonl", jsonl(row(label=0), row(label="one")), DATA, ("{file}, line 2", "'stars'", "'one'")),
    Case("one class", "train.jsonl", jsonl(row(label="good"), row(label="good")), LABELS, ("{file}", "'good'", "'stars'")),
    Case("one class of numbers", "train.csv", "review,stars\na,0\nb,0\n", LABELS, ("{file}", "label 0", "'stars'")),
    Case("unknown validation label", "train.jsonl", jsonl(row(label="good"), row(label="bad")), LABELS, ("validation.jsonl, line 2", "'ugly'", "bad, good"), validation=[row(label="bad"), row(label="ugly")]),
    Case("validation label out of range", "train.csv", "review,stars\na,0\nb,1\n", LABELS, ("validation.jsonl, line 1", "label 2", "0 to 1"), validation=[row(label=2)]),
    Case("validation without labels", "train.csv", "review,stars\na,0\nb,1\n", LABELS, ("validation.jsonl, line 1", "label -1", "negative", "secret"), validation=[row(label=-1)]),
    Case("fewer rows than a batch, dropped", "train.jsonl", jsonl(*GOOD), DATA, ("2 rows", "global batch of 8", "dataloader_drop_last"), arguments={"dataloader_drop_last": True}),
    Case("evaluation without data", "train.jsonl", jsonl(*GOOD), Reason.ARGUMENTS_INVALID, ("eval_strategy: epoch", "validation"), arguments={"eval_strategy": "epoch"}),
    Case("best model without data", "train.jsonl", jsonl(*GOOD), Reason.ARGUMENTS_INVALID, ("load_best_model_at_end", "validation"), arguments={"load_best_model_at_end": True}),
    Case("best model without evaluation", "train.jsonl", jsonl(*GOOD), Reason.ARGUMENTS_INVALID, ("eval_strategy", "steps or epoch"), arguments={"load_best_model_at_end": True}, validation=GOOD),
    Case("unknown metric", "train.jsonl", jsonl(*GOOD), Reason.ARGUMENTS_INVALID, ("metric_for_best_model: rouge", "accuracy"), arguments={"metric_for_best_model": "rouge"}, validation=GOOD),
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("model"))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_wrong_data_is_refused_by_name(case: Case, model: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "other.txt").touch()
    file = data / case.file
    match case.content:
        case None:
            pass
        case str():
            file.write_text(case.content, encoding="utf-8")
        case bytes():
            file.write_bytes(case.content)
        case list():
            write_rows(file, case.content)
        case _:
            case.content(file)
    validation = write_rows(data / "validation.jsonl", case.validation) if case.validation else None
    config = run_config(
        tmp_path / "output",
        model=model,
        train=file,
        validation=validation,
        dataset=case.dataset,
        arguments=case.arguments,
    )
    with pytest.raises(PrepareError) as raised:
        prepare(config)
    assert raised.value.reason is case.reason
    assert raised.value.cause is Cause.USER
    for part in case.says:
        assert part.format(file=file) in str(raised.value)
    assert not list((tmp_path / "output" / "reviews").glob("runs/*/prepared.json")), "nothing may look prepared"


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
@pytest.mark.parametrize("labels", [("negative", "positive"), (0, 1)], ids=["names", "numbers"])
def test_every_format_gives_the_same_rows(suffix: str, labels: tuple[Any, Any], model: Path, tmp_path: Path) -> None:
    rows = [
        *reviews(20, labels=labels),
        {"review": "2020-01-01", "stars": labels[0]},
        {"review": "none", "stars": labels[1]},
    ]
    file = write_rows(tmp_path / f"train.{suffix}", rows)
    prepared = prepare(run_config(tmp_path / "output", model=model, train=file))
    assert prepared.label_names == tuple(str(label) for label in labels)
    assert prepared.summary.train_rows == 22
    table = pa.ipc.open_stream(pa.memory_map(f"{prepared.data}/train.arrow")).read_all()
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    assert table.column("input_ids").to_pylist() == [tokenizer(row["review"])["input_ids"] for row in rows]
    assert table.column("labels").to_pylist() == [labels.index(row["stars"]) for row in rows]
    assert table.column("length").to_pylist() == [len(ids) for ids in table.column("input_ids").to_pylist()]


def test_class_names_that_datasets_left_in_a_parquet_file_are_kept(model: Path, tmp_path: Path) -> None:
    import datasets

    rows = datasets.Dataset.from_list(reviews(10, labels=(0, 1))).cast_column(
        "stars", datasets.ClassLabel(names=["awful", "middling", "lovely"])
    )
    rows.to_parquet(tmp_path / "train.parquet")
    prepared = prepare(run_config(tmp_path / "output", model=model, train=tmp_path / "train.parquet"))
    assert prepared.label_names == ("awful", "middling", "lovely")


def test_several_files_are_one_split_and_errors_name_the_right_one(model: Path, tmp_path: Path) -> None:
    first = write_rows(tmp_path / "a.jsonl", reviews(5))
    second = write_rows(tmp_path / "b.jsonl", reviews(5, seed=1))
    prepared = prepare(run_config(tmp_path / "output", model=model, train=(first, second)))
    assert prepared.summary.train_rows == 10
    broken = write_rows(tmp_path / "c.jsonl", [*reviews(2), {"review": None, "stars": "positive"}])
    with pytest.raises(PrepareError, match=r"c\.jsonl, line 3: column 'review' has no text"):
        prepare(run_config(tmp_path / "output", model=model, train=(first, broken)))


def test_pairs_of_texts_are_tokenised_together(model: Path, tmp_path: Path) -> None:
    rows = [{"review": "good food", "reply": "was it", "stars": 1}, {"review": "cold", "reply": "so", "stars": 0}]
    columns = {"text": "review", "text_pair": "reply", "label": "stars"}
    file = write_rows(tmp_path / "train.jsonl", rows)
    prepared = prepare(run_config(tmp_path / "output", model=model, train=file, dataset={"columns": columns}))
    table = pa.ipc.open_stream(pa.memory_map(f"{prepared.data}/train.arrow")).read_all()
    assert set(table.column("token_type_ids")[0].as_py()) == {0, 1}


def test_taking_rows_across_chunks_keeps_their_order() -> None:
    table = pa.concat_tables([pa.table({"n": list(range(start, start + 7))}) for start in range(0, 70, 7)])
    rows = np.random.RandomState(0).permutation(70)[:30]
    assert splits.take(table, rows).column("n").to_pylist() == rows.tolist()


def test_samples_are_shuffled_first_and_clamped(model: Path, tmp_path: Path) -> None:
    words = range(1, 41)
    rows = [{"review": "the " * count, "stars": count % 2} for count in words]
    file = write_rows(tmp_path / "train.jsonl", rows)

    def lengths(seed: int, limit: int) -> tuple[list[int], tuple[str, ...]]:
        config = run_config(
            tmp_path / "output",
            model=model,
            train=file,
            dataset={"max_samples": {"train": limit}},
            arguments={"seed": seed},
        )
        prepared = prepare(config)
        table = pa.ipc.open_stream(pa.memory_map(f"{prepared.data}/train.arrow")).read_all()
        return table.column("length").to_pylist(), prepared.messages

    first, _ = lengths(1, 10)
    assert len(first) == 10
    assert first != sorted(first)
    assert lengths(1, 10)[0] == first
    assert lengths(2, 10)[0] != first
    everything, messages = lengths(1, 500)
    assert sorted(everything) == [count + 2 for count in words]
    assert "maxSamples.train is 500, the data has 40 rows: all of them are used." in messages
