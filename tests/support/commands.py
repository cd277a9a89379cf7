"""Functions that run commands and wait for conditions, with errors that say what failed. Knows nothing of clusters or images."""

import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support.patience import PATIENCE_SECONDS

Argument = str | Path | int


class CommandFailed(Exception):
    """An error for a command that failed; the message holds its output."""


class NotReady(Exception):
    """An error for something that was not ready in time; the message names it, with the last reason."""


def run(
    *args: Argument, stdin: str | None = None, check: bool = True, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and capture its output as text."""
    command = [str(arg) for arg in args]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, env=env)
    if check and done.returncode:
        printed = "\n".join(filter(None, (done.stdout.strip()[-2000:], done.stderr.strip()[-6000:])))
        raise CommandFailed(f"`{' '.join(command)}` exited with {done.returncode}:\n{printed}")
    return done


def output(*args: Argument, stdin: str | None = None, env: dict[str, str] | None = None) -> str:
    """Return the standard output of a command that must succeed, without surrounding white space."""
    return run(*args, stdin=stdin, env=env).stdout.strip()


def wait_for(
    what: str,
    ready: Callable[[], object],
    *,
    timeout_seconds: float = PATIENCE_SECONDS,
    interval_seconds: float = 0.1,
    not_yet: Sequence[type[Exception]] = (OSError, CommandFailed),
) -> None:
    """Call `ready` until it returns something true. Errors of the types `not_yet` mean: not ready so far."""
    deadline = time.monotonic() + timeout_seconds
    reason: object = "it answered no"
    while time.monotonic() < deadline:
        try:
            if ready():
                return
        except tuple(not_yet) as error:
            reason = error
        time.sleep(interval_seconds)
    raise NotReady(f"{what} is not ready after {timeout_seconds:g} s: {reason}")
