"""Golden files: results of pure functions, as YAML that a person can review.

`UPDATE_GOLDEN=1 pytest ...` writes them anew; the diff then goes through review.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import yaml

DATA = Path(__file__).resolve().parents[1] / "data"


def assert_golden(name: str, documents: list[dict[str, Any]]) -> None:
    """Compare `documents` with the YAML documents of tests/data/<name>."""
    path = DATA / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(yaml.safe_dump_all(documents, sort_keys=False, width=140))
    assert documents == list(yaml.safe_load_all(path.read_text())), f"{path} differs; UPDATE_GOLDEN=1 writes it anew"


def assert_golden_text(name: str, text: str) -> None:
    """Compare `text` with tests/data/<name>."""
    path = DATA / name
    if os.environ.get("UPDATE_GOLDEN"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{path} differs; UPDATE_GOLDEN=1 writes it anew"


def load(name: str) -> Any:
    """Return the one YAML document of tests/data/<name>."""
    return yaml.safe_load((DATA / name).read_text())
