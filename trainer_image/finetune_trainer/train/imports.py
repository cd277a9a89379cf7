"""Libraries that transformers and accelerate import where they find them, and that a rank has no use for until it evaluates.

A sixth of the start goes into them.
"""

from __future__ import annotations

import sys

LATER = ("datasets", "pandas", "scipy", "sklearn", "nltk", "peft", "bitsandbytes")


def hide() -> None:
    """Make them look absent."""
    sys.modules.update(dict.fromkeys(LATER))  # type: ignore[arg-type]


def show() -> None:
    """Let them be imported from now on."""
    for name in LATER:
        if sys.modules.get(name, "there") is None:
            del sys.modules[name]
