"""JSON that every program reads: only Python writes and reads a bare NaN or Infinity."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any


def as_json(value: Any) -> Any:
    """Return a value that JSON can hold: numbers of arrays become plain ones, and numbers that are not finite become null."""
    if isinstance(value, dict):
        return {str(name): as_json(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if hasattr(value, "tolist"):  # an array of numpy
        return as_json(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def make_strict(file: Path) -> None:
    """Write null for values that are not finite in a JSON file that Python wrote; a file without such values stays as it is."""
    text = file.read_text(encoding="utf-8")
    if "NaN" in text or "Infinity" in text:
        file.write_text(json.dumps(as_json(json.loads(text)), indent=2, sort_keys=True) + "\n", encoding="utf-8")
