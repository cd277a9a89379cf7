"""What the product advises can be followed: no text names an argument that the product itself calls deprecated or removed."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import finetune_operator
import finetune_trainer
from finetune_operator.api import crd
from finetune_operator.api.deprecated import REMOVED, SUCCESSORS

ROOT = Path(__file__).parents[3]
PACKAGES = [Path(str(package.__file__)).parent for package in (finetune_operator, finetune_trainer)]
SOURCES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
PAGES = sorted([*(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.yaml"), ROOT / "README.md"])
NAMES_IT = re.compile(r"older name|^## spec\.trainingArguments\.")
"""Lines that say of a name that it is an older one."""


def _values() -> set[str]:
    """Return the words that are also values of today's arguments: `optim: adafactor` is no advice to set `adafactor`."""
    arguments = crd.schema()["properties"]["spec"]["properties"]["trainingArguments"]["properties"]
    return {value for argument in arguments.values() for value in argument.get("enum", ())}


OLD = sorted({*SUCCESSORS, *REMOVED} - _values())
NAMED = re.compile(rf"(?<![\w.])({'|'.join(OLD)})(?!\w)")
"""An old name in prose; behind a dot it is code of a rule, which has to know what users may still write."""


def advice(source: Path) -> Iterator[str]:
    """Yield the texts in a module of Python that have words in them, and the parts of its f-strings."""
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value:
            yield node.value


def test_old_names_are_told_from_todays_values() -> None:
    assert {"gradient_checkpointing", "evaluation_strategy", "no_cuda"} <= set(OLD)
    assert "adafactor" not in OLD
    assert NAMED.search("set `gradient_checkpointing: true`, in a job")
    assert not NAMED.search("use_gradient_checkpointing, has(self.evaluation_strategy)")


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_no_advice_names_an_older_argument(package: Path) -> None:
    texts = [(path.name, text) for path in SOURCES if path.is_relative_to(package) for text in advice(path)]
    assert len(texts) > 500, "texts are found"
    assert [(name, text) for name, text in texts if NAMED.search(text) and not NAMES_IT.search(text)] == []


def test_no_page_advises_an_older_argument() -> None:
    lines = [(page.name, line) for page in PAGES for line in page.read_text(encoding="utf-8").splitlines()]
    # The first cell of a table is what a reader has: a name, an argument of a script.
    texts = [(page, line.split("|", 2)[2] if line.startswith("|") else line) for page, line in lines]
    assert [(page, line) for page, line in texts if NAMED.search(line) and not NAMES_IT.search(line)] == []
