"""How a command ends other than well. Knows exit codes, nothing of what commands do."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `finetune`."""

    SUCCEEDED = 0
    FAILED = 1
    """The job failed, or a manifest is not valid."""
    USAGE = 2
    """What was asked for can't be done as it was asked."""
    INTERRUPTED = 130


class CommandError(Exception):
    """An end that the user can do something about: one clear line on standard error, and an exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code
