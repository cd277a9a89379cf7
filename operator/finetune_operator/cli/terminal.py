"""Standard output and error of a command, made safe: no text can steer the terminal.

Manifests, messages of pods, names of labels and answers of the Hub are other people's words. Commands print as usual,
through these streams. Only a live display writes past them, and makes its lines safe itself.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import TextIO

from finetune_trainer.contract.text import printable

LINE_MAX = 2000
"""Characters of one line of a display."""


class SafeStream(io.TextIOBase):
    """A text stream that passes on printable text only, and keeps its line breaks."""

    def __init__(self, raw: TextIO) -> None:
        self.raw = raw

    def write(self, text: str) -> int:
        self.raw.write(safe(text))
        return len(text)

    def flush(self) -> None:
        self.raw.flush()

    def isatty(self) -> bool:
        return self.raw.isatty()

    def writable(self) -> bool:
        return True


def safe(text: str) -> str:
    """Return the whole text made safe, with its line breaks."""
    return printable(text, len(text), lines=True)


def one_line(text: str, limit: int = LINE_MAX) -> str:
    """Return the text made safe as a part of a line."""
    return printable(text, limit).strip()


def raw(stream: TextIO) -> TextIO:
    """Return the stream behind a safe one, for a display that writes escape sequences of its own."""
    return stream.raw if isinstance(stream, SafeStream) else stream


@contextmanager
def safe_streams() -> Iterator[None]:
    """Make standard output and error safe."""
    with redirect_stdout(SafeStream(sys.stdout)), redirect_stderr(SafeStream(sys.stderr)):
        yield
