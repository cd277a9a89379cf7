"""The number of processes that this container has room for, by its cores and its memory."""

from __future__ import annotations

import math
import os
from pathlib import Path

CGROUP = Path("/sys/fs/cgroup")
PROCESS_BYTES = 512 << 20
"""The share of the container's memory limit for each process: far more than one takes, the page cache counts too."""


def processes(wanted: int | None, cgroup: Path = CGROUP) -> int:
    """Return the number of processes that tokenise: those asked for, else one for each core."""
    if wanted is not None:
        return wanted
    room = memory_limit(cgroup)
    return max(1, min(cores(cgroup), room // PROCESS_BYTES if room is not None else 1024))


def cores(cgroup: Path = CGROUP) -> int:
    """Count the cores that this process may use: a limit of 1.5 cores counts as two."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota(cgroup)
    return max(1, min(allowed, math.ceil(quota))) if quota is not None else allowed


def memory_limit(cgroup: Path = CGROUP) -> int | None:
    """Return the bytes that the container may use; None where it has no limit."""
    for file in ("memory.max", "memory/memory.limit_in_bytes"):
        text = _read(cgroup / file)
        if text.isdecimal() and int(text) < 1 << 60:  # version 1 says "no limit" as a huge number
            return int(text)
    return None


def _quota(cgroup: Path) -> float | None:
    share, _, period = _read(cgroup / "cpu.max").partition(" ")
    if not share:
        share, period = (_read(cgroup / f"cpu/cpu.cfs_{name}_us") for name in ("quota", "period"))
    return int(share) / int(period) if share.isdecimal() and period.isdecimal() and int(period) else None


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
