"""The command line of the scripts that write one file each: write it, or say whether it is up to date."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def main(description: str | None, target: Path, text: Callable[[], str]) -> int:
    """Write the file, or only compare it with `--check`; return the exit code, 1 where it is out of date."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 where the file is out of date")
    if parser.parse_args().check:
        return 0 if target.exists() and target.read_text() == text() else 1
    target.parent.mkdir(exist_ok=True)
    target.write_text(text())
    return 0
