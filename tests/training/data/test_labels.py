"""Names of classes: text stays text, also where it looks like numbers; in csv, which has no numbers, those that count are ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from finetune_trainer.data import label_columns, label_lists
from finetune_trainer.data.column_request import ColumnRequest
from finetune_trainer.data.labels import class_ids, class_names
from finetune_trainer.data.split import Source, Split, row_place
from finetune_trainer.prepare.content import local
from finetune_trainer.prepare.files import read_files
from finetune_trainer.shared.failures import ExpectedError
from tests.support.tiny import write_rows


def split_of(folder: Path, suffix: str, labels: list[Any], asked: ColumnRequest | None = None) -> Split:
    file = write_rows(folder / f"train.{suffix}", [{"label": label} for label in labels])
    return read_files([local(file, file.name)], asked or ColumnRequest(("label",)), folder / "scratch")


def classes(split: Split) -> tuple[tuple[str, ...], list[int], tuple[str, ...]]:
    names, messages = class_names(split, "label")
    return names, class_ids(split, "label", names).to_pylist(), messages


@pytest.mark.parametrize(
    ("suffix", "labels", "names"),
    [
        ("jsonl", ["1", "2", "5"], ("1", "2", "5")),
        ("json", ["1", "2", "5"], ("1", "2", "5")),
        ("parquet", ["1", "2", "5"], ("1", "2", "5")),
        ("jsonl", ["10", "9", "10"], ("9", "10")),
        ("jsonl", ["0", "3"], ("0", "3")),
        ("jsonl", ["007", "7"], ("007", "7")),
        ("jsonl", ["0.5", "1"], ("0.5", "1")),
        ("jsonl", ["-1", "1"], ("-1", "1")),
        ("csv", ["00", "01", "02"], ("00", "01", "02")),
        ("csv", ["1", "2", "5"], ("1", "2", "5")),
        ("csv", ["+1", "0"], ("+1", "0")),
        ("csv", ["12E3", "7"], ("12E3", "7")),
        ("csv", ["9" * 30, "1"], ("1", "9" * 30)),
        ("csv", ["10", "9"], ("9", "10")),
        ("csv", ["1", "0"], ("0", "1")),
        ("csv", ["0", "2"], ("0", "1", "2")),
        ("jsonl", [1, 0], ("0", "1")),
        ("jsonl", [True, False], ("false", "true")),
    ],
)
def test_names_of_classes_are_the_text_that_is_there(
    suffix: str, labels: list[Any], names: tuple[str, ...], tmp_path: Path
) -> None:
    class_names, ids, _ = classes(split_of(tmp_path, suffix, labels))
    assert class_names == names
    assert [class_names[index] for index in ids] == [
        str(label).lower() if label in (True, False) else label for label in labels
    ]


def test_numbers_in_csv_that_count_no_classes_are_names_and_that_is_said(tmp_path: Path) -> None:
    _, _, messages = classes(split_of(tmp_path, "csv", ["1", "2", "5"]))
    assert messages == (
        "The labels in column 'label' are numbers that do not count classes from 0 (1, 2, 5): each is the name of a class.",
    )
    assert classes(split_of(tmp_path, "csv", ["00", "01"]))[2] == ()
    assert classes(split_of(tmp_path, "jsonl", ["1", "2", "5"]))[2] == ()


def test_numbers_of_another_split_are_compared_with_the_names(tmp_path: Path) -> None:
    """Numbers that are names of classes are not taken for ids, which would be one off."""
    names, _, _ = classes(split_of(tmp_path, "csv", ["1", "2", "3"]))
    assert class_ids(split_of(tmp_path, "jsonl", [1, 3, 2]), "label", names).to_pylist() == [0, 2, 1]
    with pytest.raises(ExpectedError, match="the label '0' in column 'label' does not occur in the training data"):
        class_ids(split_of(tmp_path, "jsonl", [0, 1]), "label", names)


def test_names_that_two_splits_declare_in_another_order_are_matched() -> None:
    def declared(names: tuple[str, ...], ids: list[int]) -> Split:
        return Split(pa.table({"label": ids}), (Source("rows", len(ids), row_place),), {"label": names})

    names, _ = class_names(declared(("bad", "good"), [0, 1]), "label")
    assert class_ids(declared(("good", "bad"), [0, 1, 1]), "label", names).to_pylist() == [1, 0, 0]
    assert class_ids(declared(("bad", "good"), [0, 1, 1]), "label", names).to_pylist() == [0, 1, 1]


def test_several_labels_keep_their_zeros_too(tmp_path: Path) -> None:
    split = split_of(tmp_path, "csv", ["00|01", "01", "10"])
    lists = label_lists.Lists.read(split, "label", noun="label", separator=label_lists.separator([split], "label"))
    names, _ = lists.names(at_least=1)
    assert names == ("00", "01", "10")
    assert lists.ids(names).to_pylist() == [[0, 1], [1], [2]]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["['a', 'b']", "[]", '["b"]'], [["a", "b"], [], ["b"]]),
        (['["it\'s", "caf\\u00e9"]', "[ 'x\\'y' , ]"], [["it's", "café"], ["x'y"]]),
        (["[1, 0]", "[0]"], [["1", "0"], ["0"]]),
        (["['01', '1']", "[7]"], [["01", "1"], ["7"]]),
    ],
)
def test_lists_that_are_written_as_text_are_read(texts: list[str], expected: list[list[str]], tmp_path: Path) -> None:
    split = split_of(tmp_path, "csv", texts)
    assert label_lists.separator([split], "label") == label_lists.BRACKETS
    lists = label_lists.Lists.read(split, "label", noun="label", separator=label_lists.BRACKETS)
    names, _ = lists.names(at_least=1)
    assert [[names[index] for index in row] for row in lists.ids(names).to_pylist()] == expected


@pytest.mark.parametrize("text", ["['a' 'b']", "['a', b]", "[", "[['a']]", "[None]", "[True]", "[" * 5000 + "]" * 5000])
def test_what_only_looks_like_a_list_is_refused(text: str, tmp_path: Path) -> None:
    split = split_of(tmp_path, "jsonl", ["['a']", text])
    with pytest.raises(ExpectedError, match=r"train\.jsonl, line 2: .* looks like a list and is none"):
        label_lists.Lists.read(split, "label", noun="label", separator=label_lists.BRACKETS)


def test_half_a_character_within_a_list_of_text_is_named(tmp_path: Path) -> None:
    split = split_of(tmp_path, "jsonl", ['["a"]', r'["b \ud83d"]'])
    with pytest.raises(ExpectedError, match=r"train\.jsonl, line 2: column 'label' holds half a character"):
        label_lists.Lists.read(split, "label", noun="label", separator=label_lists.BRACKETS)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
@pytest.mark.parametrize(("no", "yes"), [(0, 1), (False, True), (0.0, 1.0), ("0", "1")])
def test_a_column_for_each_label(suffix: str, no: Any, yes: Any, tmp_path: Path) -> None:
    rows = [
        {"cold": yes, "salty": no, "hot": no},
        {"cold": no, "salty": no, "hot": no},
        {"cold": yes, "salty": yes, "hot": no},
    ]
    file, columns = write_rows(tmp_path / f"train.{suffix}", rows), ("salty", "cold", "hot")
    split = read_files([local(file, file.name)], ColumnRequest(columns), tmp_path / "scratch")
    ids = label_columns.ids(split, columns)
    assert ids.to_pylist() == [[1], [], [0, 1]]
    assert label_columns.about(split, columns, ids) == ("Labels hot do not occur in the training data.",)


@pytest.mark.parametrize("value", [None, 2, -1, 0.5, "yes", "", [1], float("nan")])
def test_a_column_of_a_label_that_says_neither_is_refused(value: Any, tmp_path: Path) -> None:
    rows = Split(pa.table({"cold": pa.array([value])}), (Source("rows", 1, row_place),))
    with pytest.raises(ExpectedError, match=r"rows, row 0: .*column 'cold'"):
        label_columns.ids(rows, ("cold",))


def test_tags_that_do_not_count_stay_what_they_are(tmp_path: Path) -> None:
    split = split_of(tmp_path, "jsonl", [[1, -100, 0], [-100], [], [1]])
    lists = label_lists.Lists.read(split, "label", noun=label_lists.TAG)
    names, _ = lists.names(at_least=2)
    assert names == ("0", "1")
    assert lists.ids(names).to_pylist() == [[1, -100, 0], [-100], [], [1]]
    assert lists.not_counted == 2
    wrong = label_lists.Lists.read(
        split_of(tmp_path, "jsonl", [[0, -100], [1, -100, -3]]), "label", noun=label_lists.TAG
    )
    with pytest.raises(ExpectedError, match="line 2: tag -3 in column 'label' is negative"):
        wrong.names(at_least=2)
    labels = label_lists.Lists.read(split_of(tmp_path, "jsonl", [[0], [-100]]), "label", noun="label")
    with pytest.raises(ExpectedError, match="label -100 in column 'label' is negative"):
        labels.names(at_least=1)
