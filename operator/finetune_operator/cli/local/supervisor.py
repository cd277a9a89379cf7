"""The parent process of one pod: `python -m finetune_operator.cli.local.supervisor FOLDER GRACE_SECONDS COMMAND...`.

The supervisor does for a local pod what container runtime and kubelet do for a real one: it passes SIGTERM on to the first process, kills
it after the grace period, ends whatever else runs in the pod once the first process has ended, and writes the exit code to
`FOLDER/exit.json`. Standard input is a pipe that `finetune run` holds: when that process dies, however it dies, the pipe
closes and the pod is stopped. It uses the standard library only, apart from psutil at the very end, because there is one
supervisor per pod.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

POD_FOLDER_VARIABLE = "FINETUNE_LOCAL_POD"
"""Environment variable of every process of a pod; its value is the pod's folder."""

EXIT_FILE = "exit.json"
PR_SET_PDEATHSIG = 1
PR_SET_CHILD_SUBREAPER = 36


def main(folder: Path, grace_seconds: float, command: list[str]) -> int:
    """Run `command` to its end; return its exit code as a kubelet would show it."""
    _adopt_orphans()
    wakeup, signalled = _wakeup()
    started = datetime.now(UTC)
    child = subprocess.Popen(command, stdin=subprocess.DEVNULL, preexec_fn=_dies_with_parent())
    kill_at = _wait(child, wakeup, signalled, grace_seconds)
    _end_the_rest(folder)
    code = child.returncode
    content = {
        "exitCode": code if code >= 0 else 128 - code,
        "signal": -code if code < 0 else None,
        "stopped": kill_at is not None,
        "startedAt": started.isoformat(),
        "finishedAt": datetime.now(UTC).isoformat(),
    }
    exit_file = folder / EXIT_FILE
    temporary = exit_file.with_suffix(".tmp")
    temporary.write_text(json.dumps(content))
    temporary.replace(exit_file)  # `finetune run` never reads a part of it
    return code if code >= 0 else 128 - code


def _wakeup() -> tuple[int, list[int]]:
    """Return a file descriptor that becomes readable on a signal, and the list to which signals are appended."""
    read, write = os.pipe()
    for end in (read, write):
        os.set_blocking(end, False)
    signalled: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD):
        signal.signal(number, lambda number, _: signalled.append(number))
    signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    return read, signalled


def _wait(child: subprocess.Popen[bytes], wakeup: int, signalled: list[int], grace_seconds: float) -> float | None:
    """Wait until the child has ended; return when it was (or would have been) killed, or None where it ended by itself."""
    watched = [0, wakeup]
    kill_at: float | None = None
    while child.poll() is None:
        timeout = None if kill_at is None else max(0.0, kill_at - time.monotonic())
        ready, _, _ = select.select(watched, [], [], timeout)
        parent_died = 0 in ready and not os.read(0, 4096)
        if parent_died:
            watched.remove(0)
        if wakeup in ready:
            os.read(wakeup, 4096)
        if kill_at is None and (parent_died or signal.SIGTERM in signalled):
            child.terminate()
            kill_at = time.monotonic() + grace_seconds
        if signal.SIGINT in signalled or (kill_at is not None and time.monotonic() >= kill_at):
            child.kill()
            child.wait()
            return time.monotonic()
    return kill_at


def _adopt_orphans() -> None:
    """Make ranks that outlive torchrun children of this process, so that it can wait for them."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1)


def _dies_with_parent() -> Callable[[], None] | None:
    """Return a function that lets the kernel kill the pod's first process together with this one; None where it can't."""
    if not sys.platform.startswith("linux"):
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_the_rest(folder: Path) -> None:
    """Kill what the first process left behind, in whatever session it is."""
    from finetune_operator.cli.local.processes import kill_all, processes_of

    kill_all(processes_of(folder))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), float(sys.argv[2]), sys.argv[3:]))
