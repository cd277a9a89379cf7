"""Patterns of file names where there is no file system to match them: `data/*.csv`, `**`, `part-[0-9].jsonl`."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable


def is_pattern(path: str) -> bool:
    """Tell whether a path stands for several paths."""
    return glob.has_magic(path)


def fitting(pattern: str, names: Iterable[str]) -> list[str]:
    """Return the names that fit, sorted."""
    from fsspec.utils import glob_translate  # type: ignore[import-untyped]

    return sorted(filter(re.compile(glob_translate(pattern)).match, names))


def fixed_folder(pattern: str) -> str:
    """Return the folder, itself no pattern, that a pattern begins with; empty where there is none."""
    while is_pattern(pattern):
        pattern = pattern.rpartition("/")[0]
    return pattern
