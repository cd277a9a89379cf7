"""Fixtures of the tier that runs torchrun on the CPU."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.launched import Launches


@pytest.fixture
def launches(tmp_path: Path) -> Iterator[Launches]:
    """Prepare one node with one rank; tests change what they need. Nothing is left running."""
    started = Launches(tmp_path)
    started.prepare()
    yield started
    started.close()
