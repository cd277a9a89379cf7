"""JSON as everybody reads it: Python alone writes and reads a bare NaN or Infinity."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def as_json(value: Any) -> Any:
    """A value that JSON can hold: numbers of arrays as plain ones, and none where there is no finite one."""
    if isinstance(value, dict):
        return {str(name): as_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if hasattr(value, "tolist"):  # numpy's
        return as_json(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def make_strict(file: Path) -> None:
    """Write null for what is not finite in a file of Python's JSON; one that has nothing of it stays as it is."""
    text = file.read_text(encoding="utf-8")
    if "NaN" in text or "Infinity" in text:
        file.write_text(json.dumps(as_json(json.loads(text)), indent=2, sort_keys=True) + "\n", encoding="utf-8")
