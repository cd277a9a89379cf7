"""A failure that is understood where it is raised: the base of what prepare and publish raise. No input or output."""

from __future__ import annotations

from finetune_trainer.contract.records import Cause, Failure, Reason


class ExpectedError(Exception):
    """Something is wrong, said in words that name what it is and the way out. Trying again helps only if the cause says so."""

    def __init__(self, reason: Reason, message: str, *, cause: Cause = Cause.USER) -> None:
        super().__init__(message)
        self.reason = reason
        self.cause = cause

    @property
    def failure(self) -> Failure:
        """The failure as the result record holds it."""
        return Failure(reason=self.reason, cause=self.cause, message=str(self))
