"""The model card, whatever others have called their things: its metadata reads back, its tables keep their cells, nothing is markup."""

from __future__ import annotations

import ast
import re
from typing import Any

import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from markdown_it.token import Token

from finetune_trainer.contract.prepared import PrepareSummary
from finetune_trainer.contract.training_report import Evaluation
from finetune_trainer.publish import card
from finetune_trainer.publish.base_model_card import BaseFacts
from finetune_trainer.publish.markdown import address, cell, code, front_matter
from tests.support.published import config, report

NASTY = (
    "<script>alert(1)</script>",
    "a|b",
    "|",
    "`",
    "``` \n```",
    "[click](http://evil.example)",
    "![x](http://evil.example/x.png)",
    "a\n---\n# b",
    "---",
    "- x",
    "1. x",
    "&lt;",
    "\\",
    "\\|",
    "**a** _b_ ~~c~~",
    "__0_",
    "a__b_c",
    "x: [y",
    "!!python/object:os.system",
    "\x1b[31mred\x1b[0m",
    "\x1b]8;;http://evil.example\x07link\x1b]8;;\x07",
    "\x9b31m",
    "\u202egnp.exe",
    "\u2028",
    "{{ 7 * 7 }}",
    "{% raw %}",
    "<!--",
    "' \" ''' \"\"\"",
)
words = st.one_of(
    st.sampled_from(NASTY), st.text(max_size=30), st.lists(st.sampled_from(NASTY), max_size=3).map("".join)
)
PARSER = MarkdownIt("commonmark").enable("table").enable("strikethrough")


def rendered(**named: str) -> str:
    """Render a card in which somebody has named everything."""
    summary = PrepareSummary(train_rows=1, labels=(named["label"], "good"))
    evaluations = (Evaluation(step=1, epoch=1.0, loss=0.5, metrics={"loss": 0.5, named["metric"]: 0.25}),)
    made = report(
        summary=summary,
        hardware=named["hardware"],
        versions={named["package"]: named["version"]},
        evaluations=evaluations,
        evaluation={"loss": 0.5, named["metric"]: 0.25},
        training_arguments={"learning_rate": named["argument"]},
    )
    dataset = {"name": named["dataset"] or "x", "config": named["part"], "columns": {"text": named["column"]}}
    job = config("/output", model={"name": f"m{named['model']}"}, dataset=dataset)
    base = BaseFacts(license=named["license"], license_name=named["license"], language=(named["language"], "en"))
    return card.render(job, made, base, repo_id=f"me/{named['repository']}", endpoint=None)


NAMED = (
    *("label", "metric", "hardware", "package", "version", "argument", "dataset", "part", "column", "model"),
    *("license", "language", "repository"),
)
everything_named = st.fixed_dictionaries(dict.fromkeys(NAMED, words))


def halves(text: str) -> tuple[dict[str, Any], str]:
    """Split a card into metadata and body, as the Hub tells them apart."""
    match = re.match(r"---\n(.*?)\n---[ \t]*\n", text, flags=re.DOTALL)
    assert match is not None
    return yaml.safe_load(match[1]), text[match.end() :]


def flat(tokens: list[Token]) -> list[Token]:
    return [inner for token in tokens for inner in (token, *flat(token.children or []))]


def tables(tokens: list[Token]) -> list[list[int]]:
    """Return the number of cells in each row of each table."""
    cells: list[list[int]] = []
    for token in tokens:
        if token.type == "table_open":
            cells.append([])
        elif token.type == "tr_open":
            cells[-1].append(0)
        elif token.type in ("th_open", "td_open"):
            cells[-1][-1] += 1
    return cells


@settings(max_examples=25)
@given(everything_named)
@example({**dict.fromkeys(NAMED, "name"), "dataset": "/"})  # a dataset is on the Hub, whatever it looks like
def test_whatever_things_are_called_the_card_is_text(named: dict[str, str]) -> None:
    plain, hostile = rendered(**dict.fromkeys(NAMED, "name")), rendered(**named)
    (_, wanted), (data, body) = halves(plain), halves(hostile)

    assert data["license"] == named["license"]
    assert data["language"] == [named["language"], "en"]
    assert data["datasets"] == [named["dataset"] or "x"]
    assert data["base_model"] == f"m{named['model']}"
    results = data["model-index"][0]["results"][0]
    assert results["dataset"]["name"] == (named["dataset"] or "x")
    assert data["metrics"] == ([named["metric"]] if named["metric"] != "loss" else [])

    tokens, usual = (flat(PARSER.parse(text)) for text in (body, wanted))
    assert tables(tokens) == tables(usual)
    kinds = {"text", "code_inline", "softbreak"}
    assert [token.type for token in tokens if token.type not in kinds] == [
        token.type for token in usual if token.type not in kinds
    ]
    for link in (token for token in tokens if token.type == "link_open"):
        assert str(link.attrs["href"]).startswith("https://huggingface.co/")
    assert body.replace("\n", "").isprintable()
    (snippet,) = (token.content for token in tokens if token.type == "fence")
    ast.parse(snippet)


@given(st.dictionaries(st.text(min_size=1, max_size=10), st.one_of(words, st.lists(words, max_size=3)), max_size=5))
def test_metadata_reads_back_as_it_was(data: dict[str, Any]) -> None:
    text = front_matter(data)
    assert yaml.safe_load(text) == data
    assert text.replace("\n", "").isprintable()
    assert all(not line.startswith("---") for line in text.splitlines())


@given(words)
@example("__0_")
def test_a_cell_shows_what_was_written(text: str) -> None:
    (_, inline, _) = PARSER.parse(f"x{cell(f'y{text}')}")
    assert [token.type for token in inline.children or () if token.type not in ("text", "text_special")] == []
    assert "|" not in re.sub(r"\\.", "", cell(text))


@given(words)
def test_between_backticks_nothing_ends_the_code(text: str) -> None:
    (_, inline, _) = PARSER.parse(f"x {code(text)} y")
    assert [token.type for token in inline.children or ()] == ["text", "code_inline", "text"]


@given(words)
def test_an_address_ends_where_it_should(text: str) -> None:
    assert not set(address(text)) & set(" <>()|`\\\n\x1b")


def test_words_of_every_day_stay_as_they_are() -> None:
    assert (
        cell("google-bert/bert_base__v2 F1 (macro), 92 % of 5.23.0!")
        == "google-bert/bert_base__v2 F1 (macro), 92 % of 5.23.0!"
    )
