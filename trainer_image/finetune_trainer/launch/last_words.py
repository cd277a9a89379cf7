"""The few last lines of a dead rank that say why it died, without warnings of libraries. Pure."""

from __future__ import annotations

import re

LINES = 6
FRAMES = 4
_WIDTH = 300
_NOISE = re.compile(
    r"\b\w*Warning: |warnings\.warn\(|^\[rank\d+\]:\[W|^\[W\d{3}|^W\d{4} |\d+%\|.*[|\]]$|^Extension modules: |^\s*$"
)
_FATAL = re.compile(r"^Fatal Python error: ")
_ABORT = re.compile(r"^terminate called |^\s+what\(\): |^free\(\)|^malloc|^double free|: Assertion .* failed")
_CURRENT = "Current thread "
_TRACEBACK = "Traceback (most recent call last):"


def last_words(tail: str) -> str:
    """Return the lines to show: the interpreter's report of a crash, else that of an abort, else the end of a traceback, else
    the last.
    """
    lines = [line.rstrip()[:_WIDTH] for line in tail.splitlines() if not _NOISE.search(line)]
    aborted = [line.strip() for line in lines if _ABORT.search(line)]
    fatal = next((index for index, line in enumerate(lines) if _FATAL.search(line)), None)
    if fatal is not None:
        # The other threads come first; the one that crashed is called the current one.
        current = next((index for index, line in enumerate(lines) if line.startswith(_CURRENT)), fatal)
        frames = [line.strip() for line in lines[current + 1 :] if line.lstrip().startswith('File "')]
        return "\n".join([*aborted[:2], lines[fatal], *frames[:FRAMES]])
    if aborted:
        return "\n".join(aborted[:LINES])
    if _TRACEBACK in lines:
        lines = lines[len(lines) - lines[::-1].index(_TRACEBACK) :]
    return "\n".join(lines[-LINES:])
