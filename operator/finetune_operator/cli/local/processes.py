"""The processes of local pods: how they are started, and how those that an earlier run left behind are found.

Every process of a pod has the pod's folder in its environment: so a rank in a session of its own is found too, and never a
process of anybody else.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from finetune_operator.cli.local.supervisor import EXIT_FILE, POD_FOLDER_VARIABLE

if TYPE_CHECKING:
    import psutil

LOG_FILE = "log"
TERMINATION_FILE = "termination-log"


@dataclass(frozen=True)
class PodProcess:
    """A running supervisor, and the folder in which it writes how the pod ended."""

    folder: Path
    supervisor: subprocess.Popen[bytes]

    def running(self) -> bool:
        if self.supervisor.poll() is None:
            return True
        if self.supervisor.stdin is not None:
            self.supervisor.stdin.close()
        return False

    def stop(self) -> None:
        """Send SIGTERM to the pod's first process; its grace period begins."""
        if self.running():
            self.supervisor.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End the pod at once."""
        if self.running():
            self.supervisor.send_signal(signal.SIGINT)


def start(folder: Path, command: Sequence[str], environment: Mapping[str, str], grace_seconds: float) -> PodProcess:
    """Start a pod's first process under a supervisor of its own; its output goes to the pod's log."""
    (folder / EXIT_FILE).unlink(missing_ok=True)
    supervisor = [sys.executable, "-P", "-m", "finetune_operator.cli.local.supervisor", str(folder), str(grace_seconds)]
    with (folder / LOG_FILE).open("ab") as log:
        process = subprocess.Popen(
            [*supervisor, *command],
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**environment, POD_FOLDER_VARIABLE: str(folder)},
            cwd=folder,
            start_new_session=True,  # Ctrl-C in the terminal is for `finetune run` alone
        )
    return PodProcess(folder, process)


def ending(folder: Path) -> dict[str, Any] | None:
    """Return how a pod ended, as its supervisor wrote it; None where the supervisor was killed before."""
    try:
        content: dict[str, Any] = json.loads((folder / EXIT_FILE).read_text())
    except FileNotFoundError:
        return None
    return content


def termination_message(folder: Path) -> str:
    """Return the result record of a pod; it is empty where there is none."""
    try:
        return (folder / TERMINATION_FILE).read_text(errors="replace")
    except FileNotFoundError:
        return ""


def processes_of(folder: Path) -> list[psutil.Process]:
    """List the processes of pods whose folder is `folder` or lies in it, without this process."""
    import psutil

    matches = []
    for process in psutil.process_iter():
        if process.pid == os.getpid():
            continue
        try:
            pod = process.environ().get(POD_FOLDER_VARIABLE)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if pod is not None and Path(pod).is_relative_to(folder):
            matches.append(process)
    return matches


def wait_for_end(processes: Sequence[psutil.Process], timeout_seconds: float) -> list[psutil.Process]:
    """Wait for processes to end by themselves; return the ones that have not."""
    import psutil

    _, alive = psutil.wait_procs(list(processes), timeout=timeout_seconds)
    return list(alive)


def kill_all(processes: Sequence[psutil.Process]) -> None:
    """Send SIGKILL. psutil compares start times, so a pid that now belongs to another process is left alone."""
    import psutil

    for process in processes:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue
    wait_for_end(processes, 5)
