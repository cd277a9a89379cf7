"""Parts of messages about wrong data, and the errors that several readers raise."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from finetune_trainer.contract.records import Reason
from finetune_trainer.shared.failures import ExpectedError


def names(values: object, limit: int = 20) -> str:
    """Write a few names or values for a message: `review, stars and 3 more`; in quotes where white space would not be seen."""
    shown_values = (
        [_plain(value) for value in values] if isinstance(values, list | tuple | set | dict) else [_plain(values)]
    )
    if len(shown_values) <= limit:
        return ", ".join(shown_values)
    return f"{', '.join(shown_values[:limit])} and {len(shown_values) - limit} more"


def _plain(value: object) -> str:
    """Write a name as it is, or as a string of Python where a part would not be seen (white space around it, control characters)."""
    text = str(value)
    return text if text and text == text.strip() and text.isprintable() else repr(text)


def half_character(value: Any) -> str | None:
    r"""Find half a character (a lone surrogate) in a value from json, its lists, objects and keys; None where there is none.

    An escape such as `\ud83d` may stand for one, where a text was cut in the middle of an emoji. UTF-8 has no such thing.
    """
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            return value[error.start]
        return None
    parts = (*value.keys(), *value.values()) if isinstance(value, dict) else value if isinstance(value, list) else ()
    return next((half for part in parts if (half := half_character(part)) is not None), None)


def half_a_character(place: str, half: str) -> ExpectedError:
    """Make the error for a value in which `half_character` found one."""
    return ExpectedError(
        Reason.DATA_INVALID,
        f"{place} holds half a character ({half!r}), which is no text in UTF-8: was a text cut in the middle of an emoji? "
        "Mend such rows (in Python: text.encode('utf-16', 'surrogatepass').decode('utf-16', 'ignore')), or leave them out.",
    )


def shown(value: object, limit: int = 40) -> str:
    """Write a value from the data, short enough for a message."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def others(count: int) -> str:
    """Say how many rows are wrong in the same way as the one that a message names."""
    return f" (and {count - 1} more row{'s' if count > 2 else ''})" if count > 1 else ""


def column_missing(column: str, columns: Sequence[str], name: str, hint: str = "") -> ExpectedError:
    """Make the error for a column that is not in the data; one that is spelt almost the same is suggested."""
    by_plain_name = {other.strip().casefold(): other for other in columns}
    close = get_close_matches(column.casefold(), by_plain_name, 1)
    meant = (
        f" Did you mean {by_plain_name[close[0]]!r}{_around(by_plain_name[close[0]])}?" if close and not hint else ""
    )
    return ExpectedError(
        Reason.COLUMN_NOT_FOUND,
        f"{name} has no column {column!r}; it has {names(list(columns)) or 'none'}.{meant}{hint} "
        "Name the right one in spec.dataset.columns.",
    )


def _around(name: str) -> str:
    """Say that a name has white space around it: between quotes alone it is easily overlooked."""
    begins, ends = name != name.lstrip(), name != name.rstrip()
    if not begins and not ends:
        return ""
    return f", which {'begins and ends' if begins and ends else 'begins' if begins else 'ends'} with white space"
