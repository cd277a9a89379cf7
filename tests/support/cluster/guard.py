"""The end of clusters: a guard ends a cluster when the process that started it ends, however that happens.

A guard is a small process that waits for the end of its standard input. The other end of the pipe is held by the test
run: closing it, Ctrl-C, SIGKILL all end in the same teardown.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from tests.support.cache import cache_folder, keep_newest, locked
from tests.support.cluster import network
from tests.support.cluster.client import REPOSITORY
from tests.support.cluster.control_plane import cgroup_of

LOCK = ".guard"
NODES = ".nodes"  # held by the guard of the one cluster with nodes: bridges and pod networks have fixed names


@contextmanager
def guarded(folder: Path, *, with_nodes: bool = False) -> Iterator[None]:
    """Guard a cluster in `folder`: it is gone afterwards, and after the death of this process.

    Wait for the end of another test run's cluster with nodes; raise LookupError for one that was started by hand.
    """
    command = [sys.executable, "-m", "tests.support.cluster", "guard", str(folder)]
    if with_nodes:
        command.append("--with-nodes")
    guard = subprocess.Popen(
        command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert guard.stdin is not None
    assert guard.stdout is not None
    if guard.stdout.readline() != b"ready\n":  # it holds its locks, and signals no longer reach it
        guard.communicate()
        raise LookupError(f"no cluster can be started in {folder}: its guard has said why")
    try:
        yield
    finally:
        guard.communicate()
        if guard.returncode:
            raise RuntimeError(f"the cluster in {folder} could not be taken down; `make cluster-down` tries again")


def serve(folder: Path, *, with_nodes: bool) -> None:
    """Run the guard's own process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with ExitStack() as held:
        with locked(folder.parent):  # so that nobody takes this folder for a dead run's before it has its guard
            folder.mkdir()
            held.enter_context(_held(folder / LOCK))
        if with_nodes:
            held.enter_context(_held(folder.parent / NODES))
        held.callback(down, folder)
        sweep()
        if with_nodes:
            refuse_second()  # one that was started by hand has no end to wait for
        print("ready", flush=True)
        sys.stdin.read()


def down(folder: Path) -> None:
    """End a cluster, in whatever state it is, and keep only its logs."""
    group = cgroup_of(folder)
    group.kill()
    group.remove()
    if (folder / "has-nodes").exists():
        network.remove_all()
    shutil.rmtree(Path("/run") / group.name, ignore_errors=True)
    _keep_logs(folder)
    shutil.rmtree(folder)


def sweep() -> None:
    """End the clusters of test runs whose guards were killed as well (a reboot, an out-of-memory kill)."""
    with locked(cache_folder("clusters")):
        for folder in running():
            if not (folder / "by-hand").exists() and not _is_guarded(folder):
                down(folder)


def running() -> list[Path]:
    """Return the folders of all clusters of this user."""
    return sorted(path for path in cache_folder("clusters").iterdir() if path.is_dir())


def refuse_second() -> None:
    """Raise LookupError where a cluster with nodes runs already, a test run's or one that was started by hand."""
    for other in running():
        if (other / "has-nodes").exists():
            ends = "`make cluster-down` ends it" if (other / "by-hand").exists() else "another test run has it"
            raise LookupError(f"there is a cluster with nodes on this machine already ({other.name}): {ends}")


@contextmanager
def _held(file: Path) -> Iterator[None]:
    with open(file, "w") as lock:
        flock(lock, LOCK_EX)
        yield


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
