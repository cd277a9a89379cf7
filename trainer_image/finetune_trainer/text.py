"""Text from a pod, a dataset, a model or a Hub answer, made safe to show in a terminal, a log, a status or a card.

Standard library only: both packages import this module.
"""

from __future__ import annotations

import re

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
CUT = "\N{HORIZONTAL ELLIPSIS}"
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor
    r"|(?:\x1b[\]PX^_]|[\x9d\x90\x98\x9e\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)"  # titles, links, device control
    r"|\x1b[ -/]*[0-~]"
)
_BREAKS = re.compile(r"\r\n|[\n\r\v\f\x85\u2028\u2029]")
_JOINERS = "\u200c\u200d"
"""Of Persian, of Indic scripts and of emoji: they hide nothing and turn nothing round."""


def printable(text: str, limit: int, *, lines: bool = False) -> str:
    """The text with nothing in it that steers a terminal or hides what is written, `limit` characters at most.

    Escape sequences go; other control characters and what overrides the direction of writing become U+FFFD; a longer
    text ends with an ellipsis. White space becomes a plain space, line breaks too unless `lines` are wanted.
    """
    text = text[: 4 * limit + 4096]  # what costs time does not grow with what somebody else wrote
    if not text.isprintable():
        text = _BREAKS.sub("\n" if lines else " ", _ESCAPES.sub("", text))
        text = "".join(map(_shown, text))
    return text if len(text) <= limit else text[: max(limit - len(CUT), 0)] + CUT[:limit]


def _shown(character: str) -> str:
    if character.isprintable() or character == "\n" or character in _JOINERS:
        return character
    return " " if character.isspace() and not "\x1c" <= character <= "\x1f" else REPLACEMENT
