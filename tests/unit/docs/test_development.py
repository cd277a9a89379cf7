"""The pages for who develops name files and tests that there are; the glossary is read in the order of its tables."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "CONTRIBUTING.md", ROOT / "tests/support/README.md", *sorted((ROOT / "docs/development").glob("*.md"))]
PATH = re.compile(r"`((?:operator|trainer_image|tests|scripts|docs|examples)/[\w/.-]*)(?:::(\w+))?`")
"""A file or folder, and the test in it where one is named."""
SOURCES = ("operator", "trainer_image")


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_development_files_and_tests_are_there(page: Path) -> None:
    named = PATH.findall(page.read_text())
    missing = [path for path, _ in named if not (ROOT / path).exists()]
    missing += [
        f"{path}::{test}"
        for path, test in named
        if test and not re.search(rf"^(async )?def {test}\(", (ROOT / path).read_text(), re.MULTILINE)
    ]
    assert missing == []


def test_glossary_words_have_one_line_each() -> None:
    rows = re.findall(
        r"^\| ([a-z][\w ,]*) \| .* \| (.*) \|$", (ROOT / "docs/development/glossary.md").read_text(), re.MULTILINE
    )
    words = [word for names, _ in rows if names != "word" for word in names.split(", ")]
    assert len(words) > 20
    assert len(set(words)) == len(words)


def test_contributing_tells_of_every_room() -> None:
    """A room is a folder that is a layer of an import contract, but for one that has layers of its own."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layered = [contract for contract in contracts if contract["type"] == "layers"]
    names = {contract["containers"][0]: " | ".join(contract["layers"]).split(" | ") for contract in layered}
    modules = {f"{package}.{name}" for package, layers in names.items() for name in layers} - names.keys()
    folders = [f"{source}/{module.replace('.', '/')}" for module in sorted(modules) for source in SOURCES]
    rooms = [folder for folder in folders if (ROOT / folder).is_dir()]
    named = {path for path, _ in PATH.findall((ROOT / "CONTRIBUTING.md").read_text())}
    assert len(rooms) > 10
    assert [room for room in rooms if room not in named] == []


def test_modules_and_classes_have_names_of_their_own() -> None:
    """A name that occurs twice makes a reader look for which one is meant."""
    files = [path for source in SOURCES for path in (ROOT / source).rglob("*.py") if not path.name.startswith("__")]
    classes = [name for path in files for name in re.findall(r"^class ([A-Z]\w*)", path.read_text(), re.MULTILINE)]
    assert len(files) > 300
    for names in ([path.stem for path in files], classes):
        assert [name for name, count in Counter(names).items() if count > 1] == []
