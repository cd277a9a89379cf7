"""What the examples name on the Hub, made small: under the same names, of the same architectures and columns."""

from __future__ import annotations

from pathlib import Path

from tests.support.examples.data import DATASETS
from tests.support.examples.models import MODELS
from tests.support.stub_hub import Repository, StubHub


def offer(hub: StubHub, folder: Path) -> None:
    """Make all of it in a folder, and put it on the Hub."""
    for name, make in MODELS.items():
        make(folder / "models" / name)
        hub.models[name] = Repository(folder / "models" / name)
    for name, make in DATASETS.items():
        make(folder / "datasets" / name)
        hub.datasets[name] = Repository(folder / "datasets" / name)
        hub.datasets[name].branches["refs/convert/parquet"] = hub.datasets[name].branches["main"]
