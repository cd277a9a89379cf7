"""Text from a pod, a dataset, a model or a Hub answer, made safe to show in a terminal, a log, a status or a card.

Standard library only: both packages import this module.
"""

from __future__ import annotations

import re
import sys
from collections.abc import MutableMapping
from typing import Any

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
CUT = "\N{HORIZONTAL ELLIPSIS}"
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # titles, links, device control
    r"|\x1b[ -/]*[0-~]"
)
_BREAKS = re.compile(r"\r\n|[\n\r\v\f\x85\u2028\u2029]")
LINE_MAX = 4000
"""Characters of a line of a log, at most."""
_JOINERS = "\u200c\u200d"
"""Joiners of Persian, of Indic scripts and of emoji: they neither hide text nor change its direction."""


def printable(text: str, limit: int, *, lines: bool = False) -> str:
    """Remove characters that control a terminal or hide text, and cut the rest to at most `limit` characters.

    Escape sequences are dropped; other control characters and overrides of the writing direction become U+FFFD; a text that is
    cut ends with an ellipsis. White space becomes a plain space, line breaks too unless `lines` are wanted.
    """
    text = text[: 4 * limit + 4096]  # so that a text from outside cannot cost any amount of time
    if not text.isprintable():
        text = _BREAKS.sub("\n" if lines else " ", _ESCAPES.sub("", text))
        text = "\n".join(line if line.isprintable() else "".join(map(_shown, line)) for line in text.split("\n"))
    return text if len(text) <= limit else text[: max(limit - len(CUT), 0)] + CUT[:limit]


def _shown(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    return " " if character.isspace() and not "\x1c" <= character <= "\x1f" else REPLACEMENT


def log_line(command: str, text: str, *, lines: bool = False) -> None:
    """Print a log line of a command, made safe to show: on one line, or on as many as the text has."""
    limit = len(text) if lines else LINE_MAX
    print(f"{command}: {printable(text, limit, lines=lines)}", file=sys.stderr, flush=True)  # noqa: T201


def harmless_event(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Make an event of a log safe to show: a processor of structlog.

    A traceback keeps its lines. Everything else is on one line, so that only the log itself can begin a line.
    """
    for name, value in event.items():
        shown = value if isinstance(value, str) else repr(value)
        if not shown.isprintable():
            event[name] = printable(shown, len(shown), lines=name in ("exception", "stack"))
    return event
