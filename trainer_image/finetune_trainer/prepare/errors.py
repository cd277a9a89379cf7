"""How preparing fails: the user's mistakes, which no retry mends, and the world's, which pass."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches

from finetune_trainer.config import Reason
from finetune_trainer.failures import ExpectedError


class PrepareError(ExpectedError):
    """Something is wrong, said in words that name the file, column, row or field and the way out."""


def names(values: object, limit: int = 20) -> str:
    """A few names or values for a message: `review, stars and 3 more`."""
    found = [str(value) for value in values] if isinstance(values, list | tuple | set | dict) else [str(values)]
    if len(found) <= limit:
        return ", ".join(found)
    return f"{', '.join(found[:limit])} and {len(found) - limit} more"


def shown(value: object, limit: int = 40) -> str:
    """A value from the data, short enough for a message."""
    text = repr(value)
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def others(count: int) -> str:
    """How many rows are wrong in the same way as the one that a message names."""
    return f" (and {count - 1} more row{'s' if count > 2 else ''})" if count > 1 else ""


def column_missing(column: str, there: Sequence[str], name: str, hint: str = "") -> PrepareError:
    """The error for a column that is not in the data; one that is spelt almost the same is suggested."""
    by_plain_name = {other.strip().casefold(): other for other in there}
    close = get_close_matches(column.casefold(), by_plain_name, 1)
    meant = f" Did you mean {by_plain_name[close[0]]!r}?" if close and not hint else ""
    return PrepareError(
        Reason.COLUMN_NOT_FOUND,
        f"{name} has no column {column!r}; it has {names(list(there)) or 'none'}.{meant}{hint} "
        "Name the right one in spec.dataset.columns.",
    )
