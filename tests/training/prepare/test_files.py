"""What becomes of local data that is good. What can be wrong with it is in the matrix of bad input."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.data.column_request import ColumnRequest
from finetune_trainer.prepare import holdout, splits
from finetune_trainer.prepare.content import local
from finetune_trainer.prepare.files import read_files
from finetune_trainer.prepare.formats import READERS, array, columnar, delimited, jsons, raw
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.prepare.spool import spooled
from finetune_trainer.shared.failures import ExpectedError
from tests.support.runs import run_config
from tests.support.tiny import reviews, tiny_bert, write_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("model"))


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
    with pytest.raises(ExpectedError, match=r"c\.jsonl, line 3: column 'review' has no text"):
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


def test_a_byte_order_mark_is_no_part_of_the_data(model: Path, tmp_path: Path) -> None:
    for suffix in ("csv", "json", "jsonl"):
        file = write_rows(tmp_path / f"train.{suffix}", reviews(10))
        file.write_bytes(b"\xef\xbb\xbf" + file.read_bytes())
        prepared = prepare(run_config(tmp_path / "output", model=model, train=file))
        assert prepared.summary.train_rows == 10


@pytest.mark.parametrize("suffix", ["csv", "json", "jsonl", "parquet"])
def test_files_are_read_a_block_at_a_time(
    suffix: str, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module, name in ((raw, "BLOCK_BYTES"), (jsons, "BLOCK_BYTES"), (delimited, "BLOCK_BYTES")):
        monkeypatch.setattr(module, name, 500)
    monkeypatch.setattr(array, "CHUNK_CHARACTERS", 64)
    monkeypatch.setattr(columnar, "BATCH_ROWS", 10)
    # Ids begin as numbers and end as text, in a column that nobody asked for.
    rows = [{**row, "id": number if number < 100 else "many"} for number, row in enumerate(reviews(200))]
    if suffix == "parquet":
        rows = reviews(200)
    file = write_rows(tmp_path / f"train.{suffix}", rows)
    read = READERS[file.suffix](local(file, file.name), ColumnRequest(("review", "stars"), ("review",)))
    parts = list(read)
    assert len(parts) > 10
    records = pa.concat_tables(parts).to_pylist()
    assert records == [{"review": row["review"], "stars": row["stars"]} for row in rows]


def test_a_wrong_row_in_a_later_block_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (raw, jsons, delimited):
        monkeypatch.setattr(module, "BLOCK_BYTES", 500)
    monkeypatch.setattr(array, "CHUNK_CHARACTERS", 64)
    rows = [*reviews(100, labels=(0, 1)), {"review": "soup", "stars": "one"}]
    for suffix, place in (("jsonl", "line 101"), ("json", "row 100")):
        file = write_rows(tmp_path / f"train.{suffix}", rows)
        with pytest.raises(ExpectedError, match=f"{place}: column 'stars' holds 'one', the rows before hold numbers"):
            list(READERS[file.suffix](local(file, file.name), ColumnRequest(("review", "stars"), ("review",))))
    text = json.dumps(reviews(100), indent=1)
    broken = tmp_path / "broken.json"
    broken.write_text(text[:-1] + ",{]")
    with pytest.raises(ExpectedError, match=f"line {text.count(chr(10)) + 1} is not valid JSON"):
        list(READERS[".json"](local(broken, broken.name), ColumnRequest(("review", "stars"), ("review",))))


def test_rows_wait_on_the_disk_and_leave_no_name_there(tmp_path: Path) -> None:
    parts = [pa.table({"label": pa.array(values)}) for values in ([None], [1, 2], [0.5], [3])]
    held = pa.total_allocated_bytes()
    table = spooled(iter([*parts, *(pa.table({"label": [1.5] * 100_000}) for _ in range(20))]), tmp_path)
    assert table is not None
    assert table.column("label").to_pylist()[:5] == [None, 1.0, 2.0, 0.5, 3.0]
    assert pa.total_allocated_bytes() - held < 2_000_000, "of 16 MB"
    assert list(tmp_path.iterdir()) == []


def test_the_best_model_without_evaluations_is_refused_here_too(model: Path, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "train.jsonl", reviews(10))
    arguments = {"load_best_model_at_end": True}
    config = run_config(tmp_path / "output", model=model, train=file, validation=file, arguments=arguments)
    with pytest.raises(ExpectedError, match="eval_strategy: choose steps or epoch"):
        prepare(config)


# --- lists and objects in rows, packed files, patterns ---

NESTED: list[dict[str, Any]] = [
    {
        "id": number,
        "said": {"en": f"2020-01-{number % 28 + 1:02d}", "fr": "soupe"},
        "tokens": ["2020-01-01", "soup"] if number % 3 else [],
        "tags": [1, 2] if number % 3 else [],
        "answers": {"text": ["a"], "answer_start": [3]} if number % 2 else {"text": [], "answer_start": []},
        "messages": [
            {"role": "user", "content": "hi"},
            {"role": "assistant", "content": "soup" if number % 5 else None},
        ],
    }
    for number in range(60)
]
NESTED_ASKED = ColumnRequest(("said.en", "tokens", "tags", "answers", "messages"), ("said.en",))
WANTED = [
    {"said.en": row["said"]["en"], **{key: row[key] for key in ("tokens", "tags", "answers", "messages")}}
    for row in NESTED
]
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "bz2": bz2.compress,
    "xz": lzma.compress,
    "zst": zstandard.compress,
}


def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (raw, jsons, delimited):
        monkeypatch.setattr(module, "BLOCK_BYTES", 700)
    monkeypatch.setattr(array, "CHUNK_CHARACTERS", 64)
    monkeypatch.setattr(columnar, "BATCH_ROWS", 10)


def write_nested(folder: Path, kind: str) -> Path:
    path, table = folder / f"rows.{kind}", pa.Table.from_pylist(NESTED)
    match kind:
        case "json" | "jsonl":
            return write_rows(path, NESTED)
        case "parquet":
            pq.write_table(table, path)
        case "file.arrow":
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table, 10)
        case "stream.arrow":
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
                writer.write_table(table, 10)
        case "field.json":
            document = {"version": 1, "before": [{"x": [1]}], "data": NESTED, "after": {"data": []}}
            path.write_text(json.dumps(document, indent=1))
        case packed:
            path.write_bytes(
                PACKERS[packed.rpartition(".")[2]](write_rows(folder / "plain.jsonl", NESTED).read_bytes())
            )
    return path


@pytest.mark.parametrize("blocks", ["whole", "small"])
@pytest.mark.parametrize(
    "kind",
    [
        "json",
        "jsonl",
        "parquet",
        "file.arrow",
        "stream.arrow",
        "field.json",
        *(f"jsonl.{packer}" for packer in PACKERS),
    ],
)
def test_lists_and_objects_stay_what_they_are(
    kind: str, blocks: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if blocks == "small":
        small_blocks(monkeypatch)
    file = write_nested(tmp_path, kind)
    asked = replace(NESTED_ASKED, field="data") if kind == "field.json" else NESTED_ASKED
    split = read_files([local(file, f"/data/{file.name}")], asked, tmp_path / "scratch")
    assert split.table.to_pylist() == WANTED
    line = "line 21" if "jsonl" in kind else "row 20"
    assert split.place(20) == f"/data/{file.name}, {line}"


def test_tabs_text_and_packed_csv(tmp_path: Path) -> None:
    lines = "review,stars\ngood soup,1\n\nbad bread,0\n"
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(lines.encode()))
    (tmp_path / "b.tsv").write_text(lines.replace(",", "\t"))
    (tmp_path / "c.txt").write_text("\ufeffone line\r\n\n \t\n another\n")
    asked = ColumnRequest(("review", "stars"), ("review",))
    for name in ("a.csv.gz", "b.tsv"):
        split = read_files([local(tmp_path / name, name)], asked, tmp_path / "scratch")
        assert split.table.to_pylist() == [{"review": "good soup", "stars": "1"}, {"review": "bad bread", "stars": "0"}]
        assert split.place(1) == f"{name}, line 4"
    text = read_files([local(tmp_path / "c.txt", "c.txt")], ColumnRequest(("text",), ("text",)), tmp_path / "scratch")
    assert text.table.to_pylist() == [{"text": "one line"}, {"text": " another"}]
    assert text.place(1) == "c.txt, line 4"


def test_types_of_other_libraries_are_read_as_plain_text_and_lists(tmp_path: Path) -> None:
    table = pa.table(
        {
            "text": pa.array(["soup", None], pa.string_view()),
            "tokens": pa.array([["good", "soup"], []], pa.large_list(pa.large_string())),
            "answers": pa.array(
                [{"text": ["a"]}, {"text": []}], pa.struct([("text", pa.large_list(pa.string_view()))])
            ),
        }
    )
    with pa.OSFile(str(tmp_path / "a.arrow"), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    asked = ColumnRequest(("text", "tokens", "answers"), ("text",))
    read = read_files([local(tmp_path / "a.arrow", "a.arrow")], asked, tmp_path / "scratch").table
    assert read.to_pylist() == table.to_pylist()
    assert [str(kind) for kind in read.schema.types] == [
        "string",
        f"list<{table.schema.field('tokens').type.value_field.name}: string>",
        "struct<text: list<item: string>>",
    ]


def test_rows_that_know_less_fit_to_those_that_know_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small_blocks(monkeypatch)
    rows: list[dict[str, Any]] = [
        *({"answers": {"text": []}, "score": 1} for _ in range(40)),
        *({"answers": {"text": ["a"], "start": [1]}, "score": 0.5} for _ in range(40)),
    ]
    file = write_rows(tmp_path / "a.jsonl", rows)
    table = read_files([local(file, "a.jsonl")], ColumnRequest(("answers", "score")), tmp_path / "scratch").table
    assert table.column("answers")[0].as_py() == {"text": [], "start": None}
    assert table.column("answers")[79].as_py() == {"text": ["a"], "start": [1]}
    assert table.column("score").to_pylist() == [1.0] * 40 + [0.5] * 40
    worse = write_rows(tmp_path / "b.jsonl", [*rows, *({"answers": {"text": [1]}, "score": 1} for _ in range(40))])
    with pytest.raises(ExpectedError, match=r"b\.jsonl, .*line \d+.* column 'answers' holds"):
        read_files([local(worse, "b.jsonl")], ColumnRequest(("answers", "score")), tmp_path / "scratch")


def test_a_pattern_takes_the_files_that_fit_by_name(model: Path, tmp_path: Path) -> None:
    for number in (10, 2, 1):
        write_rows(tmp_path / f"data/deep/part-{number:02d}.jsonl", reviews(number))
    write_rows(tmp_path / "data/other.jsonl", reviews(3))
    write_rows(tmp_path / "data/odd[1].jsonl", reviews(4))
    for pattern, rows in (("data/deep/part-*.jsonl", 13), ("data/**/*.jsonl", 20), ("data/odd[1].jsonl", 4)):
        prepared = prepare(run_config(tmp_path / "output", model=model, train=tmp_path / pattern))
        assert prepared.summary.train_rows == rows


# --- splits ---


def rows_of(prepared: PreparedTask, role: str) -> list[int]:
    """Return the numbers that the rows were given, told by how many words they have."""
    table = pa.ipc.open_stream(pa.memory_map(f"{prepared.data}/{role}.arrow")).read_all()
    return [length - 2 for length in table.column("length").to_pylist()]


def numbered(folder: Path, count: int = 40) -> Path:
    rows = [{"review": "the " * number, "stars": "good" if number % 4 else "bad"} for number in range(1, count + 1)]
    return write_rows(folder / "train.jsonl", rows)


@pytest.mark.parametrize(
    ("slices", "numbers"),
    [
        ({"train": "train[:10%]"}, {"train": range(1, 5)}),
        ({"train": "train[10:20]", "validation": "train[-5:]"}, {"train": range(11, 21), "validation": range(36, 41)}),
        ({"train": "train[:50%]", "test": "train[50%:]"}, {"train": range(1, 21), "test": range(21, 41)}),
        ({"train": "train[:8]+train[36:]"}, {"train": [*range(1, 9), *range(37, 41)]}),
        ({"train": "train + more"}, {"train": [*range(1, 41), *range(1, 9)]}),
        ({"train": "more", "validation": "train[:4]"}, {"train": range(1, 9), "validation": range(1, 5)}),
    ],
)
def test_slices_of_splits(slices: dict[str, str], numbers: dict[str, Any], model: Path, tmp_path: Path) -> None:
    files = {"train": (str(numbered(tmp_path)),), "more": (str(numbered(tmp_path / "more", 8)),)}
    prepared = prepare(run_config(tmp_path / "output", model=model, dataset={"files": files, "splits": slices}))
    for role, expected in numbers.items():
        assert rows_of(prepared, role) == list(expected), role


def test_a_row_of_a_slice_is_named_by_its_place_in_the_file(model: Path, tmp_path: Path) -> None:
    rows = [*reviews(10), {"review": " ", "stars": "positive"}, *reviews(5)]
    file = write_rows(tmp_path / "train.jsonl", rows)
    for dataset in ({"splits": {"train": "train[5:]"}}, {"validation_fraction": 0.3}):
        with pytest.raises(ExpectedError, match=r"train\.jsonl, line 11: column 'review' holds ' ', no text"):
            prepare(run_config(tmp_path / "output", model=model, train=file, dataset={**files_of(file), **dataset}))


def files_of(file: Path) -> dict[str, Any]:
    return {"files": {"train": (str(file),)}, "columns": {"text": "review", "label": "stars"}}


def test_validation_split_keeps_shares_of_classes(model: Path, tmp_path: Path) -> None:
    """A validation split is cut off by the seed and keeps the shares of classes."""
    file = numbered(tmp_path)

    def cut(seed: int, folder: str, **dataset: Any) -> tuple[list[int], list[int]]:
        run = run_config(
            tmp_path / folder,
            model=model,
            dataset={**files_of(file), "validation_fraction": 0.2, **dataset},
            arguments={"seed": seed},
        )
        prepared = prepare(run)
        return rows_of(prepared, "train"), rows_of(prepared, "validation")

    train, validation = cut(1, "one")
    assert (len(train), len(validation)) == (32, 8)
    assert sorted(train + validation) == list(range(1, 41))
    assert sum(number % 4 == 0 for number in validation) == 2, "a quarter of the rows is of that class"
    assert cut(1, "again") == (train, validation)
    assert cut(2, "other")[1] != validation
    bounded = cut(1, "one", max_samples={"train": 10, "validation": 4})
    assert set(bounded[0]) < set(train)
    assert set(bounded[1]) < set(validation)


def test_every_class_keeps_a_row_to_be_learnt_from() -> None:
    counts = [1, 2, 3, 50, 1]
    classes = np.repeat(np.arange(5), counts)
    for fraction in (0.05, 0.5, 0.9):
        held = holdout.held_out(len(classes), fraction, 7, classes)
        left = np.bincount(np.delete(classes, held), minlength=5)
        assert left.min() >= 1
        assert abs(left[3] - 50 * (1 - fraction)) <= 3
    assert len(holdout.held_out(10, 0.25, 1, None)) == 3
    assert len(holdout.held_out(2, 0.9, 1, None)) == 1


def test_a_test_split_is_prepared_like_the_validation_split(model: Path, tmp_path: Path) -> None:
    test = write_rows(tmp_path / "test.jsonl", reviews(12, seed=5))
    train = write_rows(tmp_path / "train.jsonl", reviews(20))
    files = {"train": (str(train),), "test": (str(test),)}
    dataset = {"files": files, "max_samples": {"test": 5}}
    prepared = prepare(run_config(tmp_path / "output", model=model, dataset=dataset))
    assert (prepared.summary.train_rows, prepared.summary.test_rows) == (20, 5)
    assert len(rows_of(prepared, "test")) == 5
    assert prepared.summary.validation_rows is None
