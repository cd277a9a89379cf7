"""Control groups: a cluster's processes are those below its group, so ending them needs no list of pids.

Version 1 (one hierarchy a controller; processes are tracked in `pids`) and version 2 (one hierarchy). In version 2 a
group that has children holds no processes itself, so programs are always put into leaves.
"""

import os
import signal
import time
from functools import partial
from pathlib import Path

from tests.support.commands import wait_for
from tests.support.patience import PATIENCE_SECONDS

ROOT = Path("/sys/fs/cgroup")
UNIFIED = (ROOT / "cgroup.controllers").exists()
CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")


class Cgroup:
    """A group of the given name in every hierarchy; `name` may be a path below another group."""

    def __init__(self, name: str) -> None:
        self.name = name

    def child(self, name: str) -> "Cgroup":
        """Return a group below this one."""
        return Cgroup(f"{self.name}/{name}")

    @property
    def processes(self) -> Path:
        """The folder in which this group's processes are tracked."""
        return (ROOT if UNIFIED else ROOT / "pids") / self.name

    def exists(self) -> bool:
        """Return whether the group has been made."""
        return self.processes.exists()

    def create(self) -> None:
        """Make the group, with its parents, in every hierarchy."""
        for hierarchy in _hierarchies():
            parent = hierarchy
            for part in Path(self.name).parts:
                if UNIFIED:
                    _delegate(parent)
                group = parent / part
                group.mkdir(exist_ok=True)
                if hierarchy.name == "cpuset":  # empty in a new group, and no process may enter one with empty sets
                    for knob in ("cpuset.cpus", "cpuset.mems"):
                        (group / knob).write_text((parent / knob).read_text())
                parent = group

    def spawn(self, *args: str | Path, log: Path) -> int:
        """Start a program inside this group; return its pid. It outlives its parent, and ends with the group."""
        self.processes.mkdir(parents=True, exist_ok=True)
        log.parent.mkdir(parents=True, exist_ok=True)
        # A shell enters the group and becomes the program: no process of it can start outside.
        enter = ["sh", "-c", 'echo 0 > "$0" && exec "$@"', str(self.processes / "cgroup.procs")]
        files = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(log), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ]
        command = [*enter, *map(str, args)]
        return os.posix_spawn("/bin/sh", command, os.environ, file_actions=files, setsid=True)

    def pids(self) -> set[int]:
        """Return every process in this group and below."""
        pids: set[int] = set()
        for file in self.processes.rglob("cgroup.procs"):
            try:
                pids |= {int(pid) for pid in file.read_text().split()}
            except OSError:  # the group went while we looked
                continue
        return pids

    def kill(self) -> None:
        """End every process below, also those that start meanwhile."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while (pids := self.pids() - {0}) and time.monotonic() < deadline:
            for pid in pids:
                try:
                    os.kill(pid, signal.SIGKILL)
                except ProcessLookupError:
                    continue
            time.sleep(0.05)

    def remove(self) -> None:
        """Remove the empty groups, the lowest first; a process that was just killed leaves a moment later."""
        for hierarchy in _hierarchies():
            top = hierarchy / self.name
            if top.exists():
                for group in [*sorted((g for g in top.rglob("*") if g.is_dir()), reverse=True), top]:
                    wait_for(f"the end of the processes in {group}", partial(_removed, group))


def _hierarchies() -> list[Path]:
    if UNIFIED:
        return [ROOT]
    return [path for path in ROOT.iterdir() if path.is_dir() and not path.is_symlink()]


def _delegate(group: Path) -> None:
    """Let the children of a group of version 2 have the controllers that it has itself."""
    available = set((group / "cgroup.controllers").read_text().split())
    enabled = set((group / "cgroup.subtree_control").read_text().split())
    for controller in sorted(available.intersection(CONTROLLERS) - enabled):
        try:
            (group / "cgroup.subtree_control").write_text(f"+{controller}")
        except OSError as error:
            raise OSError(
                f"can't hand the cgroup controller {controller} to the groups below {group} ({error.strerror}): a test "
                "cluster with nodes needs a cgroup v2 root without processes of its own, as on a host started by "
                "systemd; inside a container start it with a private, writable cgroup namespace"
            ) from error


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    return True
