"""Tables as people have them: whether a quote is a quote, columns that nobody reads, text that is no UTF-8."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pyarrow as pa
import pytest

from finetune_trainer.data.column_request import ColumnRequest
from finetune_trainer.data.split import Split
from finetune_trainer.prepare.content import Content, local
from finetune_trainer.prepare.files import read_files
from finetune_trainer.prepare.formats import delimited, lines, places, raw
from finetune_trainer.prepare.formats import read as read_rows
from finetune_trainer.shared.failures import ExpectedError

ASKED = ColumnRequest(("review", "stars"), ("review",))
CORPUS = [
    '"Never again',
    "we waited an hour",
    '"What a place',
    'they said "soon" and meant it',
    "cold soup",
    'a 12" pizza',
]
TABLE = ['a "kind" waiter', "two\nlines", "tab\there", '"', "plain", '"all of it"']


def split_of(folder: Path, name: str, content: str, asked: ColumnRequest = ASKED) -> Split:
    file = folder / name
    file.write_text(content, encoding="utf-8", newline="")
    return read_files([local(file, name)], asked, folder / "scratch")


def exported(texts: list[str], quoting: Literal[0, 1] = csv.QUOTE_MINIMAL) -> str:
    """Return texts as pandas writes a table with tabs."""
    file = io.StringIO()
    csv.writer(file, delimiter="\t", quoting=quoting, lineterminator="\n").writerows(
        [("review", "stars"), *((text, number % 2) for number, text in enumerate(texts))]
    )
    return file.getvalue()


def as_it_is(texts: list[str], end: str = "\n") -> str:
    """Return texts as corpora are written."""
    return "".join(f"{text}\t{label}{end}" for text, label in [("review", "stars"), *zip(texts, "01" * 3, strict=True)])


@pytest.mark.parametrize(
    ("content", "texts", "warning"),
    [
        (as_it_is(CORPUS), CORPUS, "the one that begins a value on line 2 does not end it"),
        (as_it_is(CORPUS, "\r\n"), CORPUS, "the one that begins a value on line 2 does not end it"),
        (as_it_is(CORPUS[1:2] * 5 + ['"last']), CORPUS[1:2] * 5 + ['"last'], "the one that begins a value on line 7"),
        (
            as_it_is(['"a', "b", 'c "d"', "e", "f", 'g"']),
            ['"a', "b", 'c "d"', "e", "f", 'g"'],
            "the one that begins a value on line 2 does not end it",
        ),
        (
            'review\tstars\n"a\t1\nb\t"0"\nc\t1\nd\t0\n',
            ['"a', "b", "c", "d"],
            "the one that begins a value on line 2 does not end it",
        ),
        (
            'review\tstars\n1\t"0\n2\t1"\n3\t0\n',
            ["1", "2", "3"],
            "they join lines that have as many values as the header",
        ),
        (exported(TABLE), TABLE, None),
        (exported(TABLE, csv.QUOTE_ALL), TABLE, None),
        (as_it_is(['"a"', "b", "c", "d", "e", "f"]), ["a", "b", "c", "d", "e", "f"], None),
    ],
    ids=["corpus", "corpus-dos", "never-closed", "closed-in-between", "closed-later", "joins", "table", "all", "alone"],
)
def test_a_quote_between_tabs_is_what_the_whole_file_says(
    content: str, texts: list[str], warning: str | None, tmp_path: Path
) -> None:
    split = split_of(tmp_path, "train.tsv", content)
    assert split.table.column("review").to_pylist() == texts
    assert [message for message in split.messages if warning is None or warning not in message] == []
    assert len(split.messages) == (warning is not None)
    for row in range(len(texts)):
        line = split.place(row).removeprefix("train.tsv, line ")
        assert content.splitlines()[int(line) - 1].strip('"').startswith(texts[row].splitlines()[0].strip('"')[:1])


def test_a_quote_is_looked_at_in_files_that_are_read_from_where_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the first block does not tell is found while the rows pass, before a row of it is used."""
    for module in (raw, delimited):
        monkeypatch.setattr(module, "BLOCK_BYTES", 100)
    file = tmp_path / "train.tsv"
    file.write_text(as_it_is(["good soup"] * 6) * 5 + as_it_is(CORPUS))
    far = replace(local(file, "train.tsv"), far=True, path=None)
    with pytest.raises(ExpectedError, match=r"train\.tsv, line 37: a value begins with a quote"):
        list(read_rows(far, ASKED))
    file.write_text(as_it_is(CORPUS))
    messages: list[str] = []
    rows = pa.concat_tables(list(read_rows(far, replace(ASKED, tell=messages.append))))
    assert rows.column("review").to_pylist() == CORPUS
    assert len(messages) == 1


def test_streamed_files_say_what_was_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is found on the way is said, also of files that are read from where they are."""
    monkeypatch.setattr(delimited, "BLOCK_BYTES", 100)
    far = replace(local(file := tmp_path / "train.csv", "train.csv"), far=True, path=None)
    lines = [f"good soup {number},1" for number in range(5000)]
    file.write_text("review,stars\n" + "\n".join([*lines, 'cold, "0"']) + "\n")
    messages: list[str] = []
    rows = pa.concat_tables(list(read_rows(far, replace(ASKED, tell=messages.append))))
    assert rows.num_rows == 5001
    assert [message.split(":")[0] for message in messages] == ["train.csv, line 5002"]
    file.write_text("review,stars\n" + "\n".join([*lines, "cold\0,0"]) + "\n")
    with pytest.raises(ExpectedError, match=r"train\.csv, line 5002: holds a NUL byte"):
        list(read_rows(far, ASKED))


def test_values_in_quotes_that_go_on_are_refused_in_csv(tmp_path: Path) -> None:
    with pytest.raises(
        ExpectedError, match=r"line 2: .* behind the quote that should end it, on line 4, text follows\. Write"
    ):
        split_of(tmp_path, "train.csv", 'review,stars\n"Never again,0\nfine,1\n"What a place,1\n')
    good = split_of(tmp_path, "train.csv", 'review,stars\n"so ""it"" was" ,0\na 12" pizza,1\n"two\nlines",1\n"",1\n')
    assert good.table.column("review").to_pylist() == ['so "it" was ', 'a 12" pizza', "two\nlines", ""]


def test_columns_that_nobody_reads_need_no_name_of_their_own(tmp_path: Path) -> None:
    split = split_of(tmp_path, "train.csv", "stars,review,,,id,id\nham,good,,,1,2\nspam,bad,x,,3,4\n")
    assert split.table.to_pylist() == [{"review": "good", "stars": "ham"}, {"review": "bad", "stars": "spam"}]
    with pytest.raises(ExpectedError, match="line 1: column review is there twice"):
        split_of(tmp_path, "train.csv", "review,stars,review\na,1,b\n")
    with pytest.raises(ExpectedError, match=r"no column 'stars'; it has review, ''\."):
        split_of(tmp_path, "train.csv", "review,\na,1\n")


HALF = [
    (
        "train.jsonl",
        '{"review": "a", "stars": 1}\n{"review": "b \\ud83d", "stars": 0}\n',
        "train.jsonl, line 2: column 'review'",
    ),
    (
        "train.json",
        '[{"review": "a", "stars": 1}, {"review": "\\udc00 b", "stars": 0}]',
        "train.json, row 1: column 'review'",
    ),
    ("train.jsonl", '{"review": "a", "stars": ["good", "\\ud83d"]}\n', "train.jsonl, line 1: column 'stars'"),
    ("train.jsonl", '{"review": "a", "stars": {"\\ud83d": 1}}\n', "train.jsonl, line 1: column 'stars'"),
    ("train.jsonl", '{"review": "a", "st\\ud83d": 1}\n', "no column 'stars'; it has review, 'st\\ud83d'."),
]


@pytest.mark.parametrize(("name", "content", "place"), HALF)
def test_half_a_character_is_named_with_its_place(name: str, content: str, place: str, tmp_path: Path) -> None:
    with pytest.raises(ExpectedError) as refused:
        split_of(tmp_path, name, content)
    assert place in str(refused.value)
    str(refused.value).encode()


@pytest.mark.parametrize("name", ["train.jsonl", "train.json"])
def test_a_pair_of_halves_is_a_character(name: str, tmp_path: Path) -> None:
    row = '{"review": "what a day \\ud83d\\ude00", "stars": 1}'
    split = split_of(tmp_path, name, row if name == "train.jsonl" else f"[{row}]")
    assert split.table.column("review").to_pylist() == ["what a day \U0001f600"]


@pytest.mark.parametrize(("name", "content"), [("train.jsonl", "[" * 100_000), ("train.json", "[" * 100_000)])
def test_lists_within_lists_without_an_end_are_refused(name: str, content: str, tmp_path: Path) -> None:
    with pytest.raises(ExpectedError, match="too deep to read"):
        split_of(tmp_path, name, content)


def test_text_of_arrow_that_is_no_utf8_is_named(tmp_path: Path) -> None:
    words = pa.Array.from_buffers(pa.string(), 2, pa.array([b"good", b"caf\xe9"]).buffers())
    table = pa.table({"review": pa.ListArray.from_arrays([0, 1, 2], words), "stars": [0, 1]})
    with pa.OSFile(str(tmp_path / "train.arrow"), "wb") as file, pa.ipc.new_file(file, table.schema) as writer:
        writer.write_table(table)
    with pytest.raises(
        ExpectedError, match=r"train\.arrow, row 1: column 'review' holds byte 0xe9 in text that is no UTF-8"
    ):
        read_files(
            [local(tmp_path / "train.arrow", "train.arrow")], ColumnRequest(("review", "stars")), tmp_path / "scratch"
        )


@pytest.mark.parametrize(
    ("content", "columns", "texts"),
    [
        ('{"translation": {"en": "a", "de": "b"}}', ("translation.en",), ("translation.en",)),
        ('{"tokens": ["the", "soup"], "ner_tags": ["O", "B"]}', ("tokens", "ner_tags"), ()),
        ('{"messages": [{"role": "user", "content": "hi"}]}', ("messages",), ()),
        ('{"answers": {"text": ["a"], "answer_start": [1]}, "question": "q"}', ("question", "answers"), ("question",)),
    ],
)
def test_a_single_row_of_lists_or_objects_is_no_table(
    content: str, columns: tuple[str, ...], texts: tuple[str, ...], tmp_path: Path
) -> None:
    assert split_of(tmp_path, "train.json", content, ColumnRequest(columns, texts)).table.num_rows == 1


@pytest.mark.parametrize(
    ("content", "columns"),
    [
        ('{"tokens": {"0": ["the", "soup"]}, "ner_tags": {"0": ["O", "B"]}}', ("tokens", "ner_tags")),
        ('{"messages": {"0": [{"role": "user", "content": "hi"}]}}', ("messages",)),
        ('{"translation": {"0": {"en": "a"}}}', ("translation.en",)),
    ],
)
@pytest.mark.parametrize("suffix", ["json", "jsonl"])
def test_a_table_by_columns_is_told_in_whatever_it_holds(
    content: str, columns: tuple[str, ...], suffix: str, tmp_path: Path
) -> None:
    with pytest.raises(ExpectedError, match="a key for each column"):
        split_of(tmp_path, f"train.{suffix}", content, ColumnRequest(columns))


def test_lines_of_rows_in_order_take_one_walk_through_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each conversation carries its place: with a walk for each, twice the rows took four times as long."""
    (tmp_path / "train.jsonl").write_text('{"a": 1}\n\n' * 50)
    walks: list[Content] = []
    numbers = lines.numbers

    def counted(content: Content) -> Iterator[int]:
        walks.append(content)
        return numbers(content)

    monkeypatch.setattr(lines, "numbers", counted)
    place = places(local(tmp_path / "train.jsonl", "train.jsonl"), ColumnRequest(("a",)))
    assert [place(row) for row in range(50)] == [f"line {2 * row + 1}" for row in range(50)]
    assert len(walks) == 1
    assert [place(row) for row in (3, 40, 40, 49, 50, 0)] == [
        "line 7",
        "line 81",
        "line 81",
        "line 99",
        "row 50",
        "line 1",
    ]
