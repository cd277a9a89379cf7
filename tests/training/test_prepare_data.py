"""What becomes of local data that is good. What can be wrong with it is in the matrix of bad input."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from finetune_trainer.prepare import splits
from finetune_trainer.prepare.content import local
from finetune_trainer.prepare.errors import PrepareError
from finetune_trainer.prepare.formats import READERS, Asked, array, columnar, delimited, jsons, raw
from finetune_trainer.prepare.run import prepare
from finetune_trainer.prepare.spool import spooled
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
    read = READERS[file.suffix](local(file, file.name), Asked(("review", "stars"), ("review",)))
    parts = list(read)
    assert len(parts) > 10
    found = pa.concat_tables(parts).to_pylist()
    assert found == [{"review": row["review"], "stars": row["stars"]} for row in rows]


def test_a_wrong_row_in_a_later_block_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (raw, jsons, delimited):
        monkeypatch.setattr(module, "BLOCK_BYTES", 500)
    monkeypatch.setattr(array, "CHUNK_CHARACTERS", 64)
    rows = [*reviews(100, labels=(0, 1)), {"review": "soup", "stars": "one"}]
    for suffix, place in (("jsonl", "line 101"), ("json", "row 100")):
        file = write_rows(tmp_path / f"train.{suffix}", rows)
        with pytest.raises(PrepareError, match=f"{place}: column 'stars' holds 'one', the rows before hold numbers"):
            list(READERS[file.suffix](local(file, file.name), Asked(("review", "stars"), ("review",))))
    text = json.dumps(reviews(100), indent=1)
    broken = tmp_path / "broken.json"
    broken.write_text(text[:-1] + ",{]")
    with pytest.raises(PrepareError, match=f"line {text.count(chr(10)) + 1} is not valid JSON"):
        list(READERS[".json"](local(broken, broken.name), Asked(("review", "stars"), ("review",))))


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
    with pytest.raises(PrepareError, match="eval_strategy: choose steps or epoch"):
        prepare(config)
