"""Fixtures of attempts that run a user's own program."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.script_launches import ScriptLaunches


@pytest.fixture
def scripts(tmp_path: Path) -> Iterator[ScriptLaunches]:
    """Prepare one node with one rank; tests change what they need. Nothing is left running."""
    started = ScriptLaunches(tmp_path)
    yield started
    started.close()
