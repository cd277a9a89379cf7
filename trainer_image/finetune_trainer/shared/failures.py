"""The exception for a failure that is understood where it is raised, in every command. No input or output."""

from __future__ import annotations

from typing import Self

from finetune_trainer.contract.records import Cause, Failure, Reason


class ExpectedError(Exception):
    """A failure in the user's words: the message names what is wrong and the way out, the cause says who pays for it."""

    def __init__(self, reason: Reason, message: str, *, cause: Cause = Cause.USER) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.cause = cause

    @classmethod
    def of(cls, failure: Failure) -> Self:
        """Return the exception that carries a failure."""
        return cls(failure.reason, failure.message, cause=failure.cause)

    @property
    def failure(self) -> Failure:
        """The failure as the result record holds it."""
        return Failure(reason=self.reason, cause=self.cause, message=self.message)
