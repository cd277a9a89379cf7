"""YAML as kubectl reads it. The expected values were given by kubectl and an API server."""

import json
from pathlib import Path
from typing import Any

import pytest

from finetune_operator.cli.command_errors import CommandError
from finetune_operator.cli.manifest_files import load, read


def value(word: str) -> Any:
    return load(f"field: {word}")[0]["field"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("5e-5", 5e-5),
        ("1.e-3", 0.001),
        (".5", 0.5),
        ("+.5", 0.5),
        ("1E5", 100000),
        ("3.0", 3),
        ("1e3", 1000),
        ("-0.0", 0),
        ("012", 10),
        ("0o17", 15),
        ("09", 9),
        ("0x1F", 31),
        ("-0b11", -3),
        ("1_000", 1000),
        ("1_000.5", 1000.5),
        ("+12", 12),
    ],
)
def test_numbers(word: str, expected: float) -> None:
    assert value(word) == expected
    assert type(value(word)) is type(expected)


@pytest.mark.parametrize("word", ["y", "Yes", "on", "TRUE"])
def test_yes(word: str) -> None:
    assert value(word) is True


@pytest.mark.parametrize("word", ["n", "No", "OFF", "false"])
def test_no(word: str) -> None:
    assert value(word) is False


@pytest.mark.parametrize("word", ["", "~", "null", "Null"])
def test_null(word: str) -> None:
    assert value(word) is None


@pytest.mark.parametrize(
    "word",
    ["tRue", "oN", "1:20", "12:30:45", "2001-01-01", "2001-01-01T00:00:00Z", "0b2", "1e400", "=", ".", "-x", "_1"],
)
def test_the_rest_is_text(word: str) -> None:
    assert value(word) == word


@pytest.mark.parametrize("word", ['"no"', "'5e-5'", "!!str 5"])
def test_quoted_is_text(word: str) -> None:
    assert isinstance(value(word), str)


def test_keys_are_text() -> None:
    assert load("{1: a, true: b, y: c1, 1.5: d}".replace("y: c1, ", "")) == ({"1": "a", "true": "b", "1.5": "d"},)


def test_json_is_read_too() -> None:
    assert load('{"a": 1.0, "b": ["x", null]}') == ({"a": 1, "b": ["x", None]},)


def test_merge_keys_and_aliases() -> None:
    assert load("base: &base {a: 1, b: 2}\nother: {<<: *base, b: 3}")[0]["other"] == {"a": 1, "b": 3}


def test_several_documents_and_empty_ones() -> None:
    assert load("---\n---\na: 1\n---\n# nothing\n---\nb: 2\n") == ({"a": 1}, {"b": 2})


def test_a_list_is_the_objects_in_it() -> None:
    """`kubectl get -o yaml` writes several objects as such a list."""
    of_kubectl = "apiVersion: v1\nkind: List\nmetadata: {resourceVersion: ''}\nitems: [{kind: A}, {kind: List, items: [{kind: B}]}]"
    assert load(f"{of_kubectl}\n---\nkind: C") == ({"kind": "A"}, {"kind": "B"}, {"kind": "C"})
    assert load("kind: FineTuneJobList\nitems: []") == ()
    assert load("kind: List\nitems:") == ({"kind": "List", "items": None},)


def test_a_character_that_json_writes_as_two_escapes_is_one() -> None:
    assert load(json.dumps({"name": "soup \U0001f35c"})) == ({"name": "soup \U0001f35c"},)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: List\nitems: [1]", "job.yaml: not a Kubernetes object: 1"),
        ("a: 1\na: 2", 'job.yaml:2:1: key "a" is given twice'),
        ("spec: {a: 1, a: 2}", 'job.yaml:1:14: key "a" is given twice'),
        ("a: [}", "job.yaml:1:5: expected the node content"),
        ("- 1", "job.yaml: not a Kubernetes object"),
        ('a:\n  "x \\ud83d"', "job.yaml:2:3: 'x \\ud83d' holds half a character, which is no text in UTF-8"),
        ("a: .inf", "job.yaml:1:4: JSON has no .inf"),
        ("a: !python/object:os.system x", "job.yaml:1:4: could not determine a constructor"),
        ("a: b: c", "job.yaml:1:5: mapping values are not allowed here"),
    ],
)
def test_bad_text_names_the_place(text: str, message: str) -> None:
    with pytest.raises(CommandError) as raised:
        load(text, "job.yaml")

    assert str(raised.value).startswith(message)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="No such file"):
        read(str(tmp_path / "job.yaml"))


def test_a_file_that_is_not_text_is_said(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_bytes(b"a: \xff")

    with pytest.raises(CommandError, match="not UTF-8"):
        read(str(tmp_path / "job.yaml"))


def test_a_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text("kind: FineTuneJob\n")

    assert read(str(tmp_path / "job.yaml")) == ({"kind": "FineTuneJob"},)
