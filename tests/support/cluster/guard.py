"""End clusters, and see to it that one ends when the process that started it does, however that happens.

A guard is a small process that waits for the end of its standard input. The other end of the pipe is held by the test
run: closing it, Ctrl-C, SIGKILL all end in the same teardown.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from tests.support.cache import cache_folder, keep_newest
from tests.support.cluster import network
from tests.support.cluster.client import REPOSITORY
from tests.support.cluster.control_plane import cgroup_of

LOCK = ".guard"


@contextmanager
def guarded(folder: Path) -> Iterator[None]:
    """While this lasts a cluster may be in `folder`; afterwards, and after the death of this process, there is none."""
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "tests.support.cluster", "guard", str(folder)]
    guard = subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert guard.stdin is not None
    assert guard.stdout is not None
    guard.stdout.readline()  # it holds the lock, and signals no longer reach it
    try:
        yield
    finally:
        guard.communicate()
        if guard.returncode:
            raise RuntimeError(f"the cluster in {folder} could not be taken down; `make cluster-down` tries again")


def serve(folder: Path) -> None:
    """The guard's own process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with open(folder / LOCK, "w") as lock:
        flock(lock, LOCK_EX)
        print("ready", flush=True)
        sys.stdin.read()
        down(folder)


def down(folder: Path) -> None:
    """End a cluster, in whatever state it is, and keep nothing of it but its logs."""
    group = cgroup_of(folder)
    group.kill()
    group.remove()
    if (folder / "has-nodes").exists():
        network.remove_all()
    shutil.rmtree(Path("/run") / group.name, ignore_errors=True)
    _keep_logs(folder)
    shutil.rmtree(folder)


def sweep() -> None:
    """End what was left by a test run whose guard was killed as well (a reboot, an out-of-memory kill)."""
    for folder in running():
        if not (folder / "by-hand").exists() and not _is_guarded(folder):
            down(folder)


def running() -> list[Path]:
    """The folders of all clusters of this user."""
    return sorted(path for path in cache_folder("clusters").iterdir() if path.is_dir())


def refuse_second(folder: Path) -> None:
    """Bridges and pod networks have fixed names: there is room for one cluster with nodes."""
    for other in running():
        if other != folder and (other / "has-nodes").exists():
            ends = "`make cluster-down` ends it" if (other / "by-hand").exists() else "another test run has it"
            raise LookupError(f"there is a cluster with nodes on this machine already ({other.name}): {ends}")


def _is_guarded(folder: Path) -> bool:
    try:
        with open(folder / LOCK, "a") as lock:
            flock(lock, LOCK_EX | LOCK_NB)
    except BlockingIOError:
        return True
    return False


def _keep_logs(folder: Path) -> None:
    logs = cache_folder("logs") / folder.name
    shutil.rmtree(logs, ignore_errors=True)
    if (folder / "logs").exists():
        shutil.move(folder / "logs", logs)
        if (folder / "audit.log").exists():
            shutil.move(folder / "audit.log", logs / "audit.log")
    keep_newest(logs.parent, 6)
