"""Small stand-ins for the examples' models and datasets on the Hub: same names, architectures and columns."""

from __future__ import annotations

from pathlib import Path

from tests.support.examples.data import DATASETS
from tests.support.examples.models import MODELS
from tests.support.stub_hub import Repository, StubHub


def offer(hub: StubHub, folder: Path) -> None:
    """Make all stand-ins in a folder, and put them on the Hub."""
    for name, make in MODELS.items():
        make(folder / "models" / name)
        hub.models[name] = Repository(folder / "models" / name)
    for name, make in DATASETS.items():
        make(folder / "datasets" / name)
        hub.datasets[name] = Repository(folder / "datasets" / name)
        hub.datasets[name].branches["refs/convert/parquet"] = hub.datasets[name].branches["main"]
