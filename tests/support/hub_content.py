"""The content of the Hub of the tests: good models and datasets of owner `us`, and some with something missing."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from tests.support.stub_hub import Repository, StubHub
from tests.support.tiny import reviews, tiny_bert, write_rows

CONFIGS = """---
configs:
- config_name: plain
  data_files:
  - {split: train, path: data/train.parquet}
  - {split: test, path: data/test.parquet}
- config_name: short
  data_files:
  - {split: train, path: data/test.parquet}
---
"""


def models(folder: Path) -> dict[str, Repository]:
    """Return model repositories by name."""
    tiny = tiny_bert(folder / "tiny")
    files = [path.name for path in tiny.iterdir()]
    _copy(tiny, folder / "no-weights", [name for name in files if not name.endswith(".safetensors")])
    _copy(tiny, folder / "no-tokenizer", [name for name in files if not name.startswith("tokenizer")])
    _write(folder / "gguf", {"README.md": "# Weights of another library", "tiny.gguf": "GGUF"})
    _write(folder / "adapter", {"adapter_config.json": "{}", "adapter_model.safetensors": "weights"})
    broken = {f"us/{name}": Repository(folder / name) for name in ("no-weights", "no-tokenizer", "gguf", "adapter")}
    return broken | {
        "us/tiny": Repository(tiny),
        "us/gated": Repository(tiny, gated=True),
        "us/private": Repository(tiny, private=True),
        "us/empty": Repository(),
    }


def datasets(folder: Path) -> dict[str, Repository]:
    """Return dataset repositories by name."""
    for name in ("reviews", "configs"):
        write_rows(folder / name / "data/train.parquet", reviews(40, labels=(0, 1)))
        write_rows(folder / name / "data/test.parquet", reviews(20, seed=1, labels=(0, 1)))
    write_rows(folder / "only-test/test.parquet", reviews(20, labels=(0, 1)))
    _write(folder / "configs", {"README.md": CONFIGS})
    _write(folder / "no-files", {"README.md": "# Nothing yet"})
    _write(folder / "script", {"script.py": "import datasets"})
    _write(folder / "broken", {"train.jsonl": '{"review": "good", "stars": 1}\n{"review": "bad\n'})
    names = ("reviews", "configs", "only-test", "no-files", "script", "broken")
    plain = {f"us/{name}": Repository(folder / name) for name in names}
    return plain | {"us/gated": Repository(folder / "reviews", gated=True)}


def closed_doors(hub: StubHub) -> None:
    """Return the repositories that `me` may not read: gated ones where nobody was let in, and one of somebody else."""
    tiny, rows = hub.models["us/tiny"].folder, hub.datasets["us/reviews"].folder
    hub.models["us/closed"] = Repository(tiny, gated=True, granted=set())
    hub.datasets["us/closed"] = Repository(rows, gated=True, granted=set())
    hub.models["somebody/model"] = Repository(tiny)
    hub.models["me/kept"] = Repository(tiny)


def _copy(source: Path, target: Path, names: Iterable[str]) -> None:
    target.mkdir(parents=True)
    for name in names:
        shutil.copy(source / name, target / name)


def _write(folder: Path, files: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).write_text(text)
