"""Facts about this machine, read from the system: addresses, interfaces, cores, memory events."""

from __future__ import annotations

import ipaddress
import os
import random
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

import psutil

_CGROUP = Path("/sys/fs/cgroup")
_PORTS = range(20_000, 30_000)
_RANDOM = random.SystemRandom()
"""A generator whose choice no seed repeats: a training sets the seed of all others."""
_NOWHERE = (("192.0.2.1", 9), ("2001:db8::1", 9))
"""Documentation addresses: connecting a datagram socket sends nothing, but picks the source address."""


def own_address(*towards: tuple[str, int]) -> str:
    """Return the address from which this machine reaches another, or any; loopback where it has no network."""
    return reachable(_source_addresses(towards or _NOWHERE)) or "127.0.0.1"


def _source_addresses(targets: Iterable[tuple[str, int]]) -> Iterator[str]:
    for address in targets:
        family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        with suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect(address)
            yield str(probe.getsockname()[0])


def reachable(addresses: Iterable[str]) -> str | None:
    """Return the first address that other machines can reach.

    Pods of clusters with IPv6 alone may have a link-local address of IPv4, too, for the way out of the cluster: it reaches no
    further than their own machine.
    """
    candidates = list(addresses)
    far = (address for address in candidates if not ipaddress.ip_address(address.partition("%")[0]).is_link_local)
    return next(far, candidates[0] if candidates else None)


def interface_of(address: str) -> str | None:
    """Return the name of the network interface that holds an address: gloo and NCCL need it."""
    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address.partition("%")[0] == address for entry in entries):
            return name
    return "lo" if address.startswith("127.") else None


def free_port(address: str) -> int:
    """Find a TCP port that is free at all addresses of the family, and stays free until torchrun binds it, seconds later.

    It is none that the system would choose, which takes the ports of outgoing connections from the same range. Above `_PORTS`
    are the ports that Kubernetes hands out for services of type NodePort.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for port in _RANDOM.sample(_PORTS, k=100):
        with socket.socket(family, socket.SOCK_STREAM) as probe, suppress(OSError):
            probe.bind(("", port))
            return port
    raise OSError(f"no TCP port from {_PORTS.start} to {_PORTS.stop - 1} is free: 100 were tried")


def cores(cgroup: Path = _CGROUP) -> int:
    """Count the CPU cores that this container may use: affinity, cut by its cgroup's quota (v2 and v1)."""
    available = len(os.sched_getaffinity(0))
    quota = _quota(cgroup)
    return max(1, min(available, int(quota))) if quota else available


def threads_per_rank(processes: int, cgroup: Path = _CGROUP) -> int:
    """Count the OMP threads for each of a node's ranks: its share of the container's CPU limit, one where there is no limit.

    Pods without a limit that share a machine would each start a thread per core, and threads that wait for a core spin:
    two such pods on a busy machine of two cores trained many times slower than with one thread each.
    """
    return max(1, cores(cgroup) // processes) if _quota(cgroup) else 1


def _quota(cgroup: Path) -> float | None:
    v2 = cgroup / "cpu.max"
    if v2.exists():
        quota, period = v2.read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    v1 = cgroup / "cpu" / "cpu.cfs_quota_us"
    if not v1.exists():
        return None
    microseconds = int(v1.read_text())
    return microseconds / int(v1.with_name("cpu.cfs_period_us").read_text()) if microseconds > 0 else None


def out_of_memory_kills(cgroup: Path = _CGROUP, own: Path = Path("/proc/self/cgroup")) -> int:
    """Count the processes of this container that the kernel has killed for memory so far (cgroup v2 and v1)."""
    for file in _memory_event_files(cgroup, own):
        if file.exists():
            lines = dict(line.split(maxsplit=1) for line in file.read_text().splitlines())
            return int(lines.get("oom_kill", "0"))
    return 0


def _memory_event_files(cgroup: Path, own: Path) -> list[Path]:
    files = []
    for line in own.read_text().splitlines() if own.exists() else []:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            files.append(cgroup / path.lstrip("/") / "memory.events")
        elif "memory" in controllers.split(","):
            files.append(cgroup / "memory" / path.lstrip("/") / "memory.oom_control")
    return [*files, cgroup / "memory.events", cgroup / "memory" / "memory.oom_control"]
