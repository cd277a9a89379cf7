"""How preparing fails: the user's mistakes, which no retry mends, and the world's, which pass."""

from __future__ import annotations

from finetune_trainer.config import Cause, Failure, Reason


class PrepareError(Exception):
    """Something is wrong, said in words that name the file, column, row or field and the way out."""

    def __init__(self, reason: Reason, message: str, *, cause: Cause = Cause.USER) -> None:
        super().__init__(message)
        self.reason = reason
        self.cause = cause

    @property
    def failure(self) -> Failure:
        """The failure as the result record holds it."""
        return Failure(reason=self.reason, cause=self.cause, message=str(self))


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
