"""Errors of commands, and their exit codes. Knows nothing of what commands do."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Exit codes of `finetune`."""

    SUCCEEDED = 0
    FAILED = 1
    """The job failed, or a manifest is not valid."""
    USAGE = 2
    """The command can't be carried out as it was given."""
    INTERRUPTED = 130


class CommandError(Exception):
    """An error that the user can correct: one clear line on standard error, and an exit code."""

    def __init__(self, message: str, code: ExitCode = ExitCode.USAGE) -> None:
        super().__init__(message)
        self.code = code
