"""Jobs that another operator serves: their status names its lease, and that lease has not expired.

Two operators that both serve a job undo each other's work. As in `leader_election`, clocks are not compared: a lease has
expired when it was not seen to change for as long as it says. A lease that can't be read is taken to be held.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import structlog

from finetune_operator.controller.leader_election import is_free
from finetune_operator.kube.exceptions import NotFound, Refused
from finetune_operator.plan.types import Manifest

LOOK_SECONDS = 1.0
"""Time between two looks at a lease, at least, however many jobs name it."""
LOOKS_PER_LEASE = 3
"""Looks at a job of another operator in the time that its lease lasts."""
UNKNOWN_LEASE_SECONDS = 15.0
"""Duration of a lease that does not say how long it lasts."""
log = structlog.get_logger(__name__)


class Standing(StrEnum):
    """State of another operator's lease."""

    LIVES = "lives"
    FREE = "free"
    """There is no such lease, nobody holds it, or its holder was not seen to renew it in time."""
    UNREADABLE = "unreadable"


class Reads(Protocol):
    """The operation of a cluster that this module needs."""

    async def get(self, kind: str, namespace: str, name: str) -> Manifest: ...


@dataclass
class _Lease:
    """Another operator's lease, as it was seen."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    looked_at: float = float("-inf")
    spec: Manifest = field(default_factory=dict)
    """Spec of the lease; empty where there is none."""
    since: float = float("-inf")
    """Time at which the lease was first seen as it is."""
    standing: Standing | None = None


class OtherOperators:
    """The leases that jobs name, each looked at now and then."""

    def __init__(self, cluster: Reads, own_lease: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`own_lease` is `namespace/name` of this operator's lease; empty where it has none."""
        self._cluster = cluster
        self._own_lease = own_lease
        self._clock = clock
        self._leases: dict[str, _Lease] = {}

    async def seconds_to_wait(self, body: Manifest) -> float | None:
        """Return the seconds until the next look at a job that another operator serves; None where this one may serve it."""
        lease_name = _lease_of(body)
        if lease_name in ("", self._own_lease):
            return None
        lease = self._leases.setdefault(lease_name, _Lease())
        async with lease.lock:
            if self._clock() - lease.looked_at >= LOOK_SECONDS:
                await self._look(lease_name, lease)
        if lease.standing is Standing.FREE:
            return None
        lasts_seconds = float(lease.spec.get("leaseDurationSeconds") or UNKNOWN_LEASE_SECONDS)
        return max(lasts_seconds / LOOKS_PER_LEASE, LOOK_SECONDS)

    def count(self, bodies: Iterable[Manifest]) -> int:
        """Count the jobs that other operators served at the last look."""
        leases = (self._leases.get(_lease_of(body)) for body in bodies)
        return sum(lease is not None and lease.standing in (Standing.LIVES, Standing.UNREADABLE) for lease in leases)

    async def _look(self, lease_name: str, lease: _Lease) -> None:
        namespace, _, name = lease_name.partition("/")
        now = self._clock()
        standing, error = Standing.LIVES, ""
        try:
            spec = (await self._cluster.get("Lease", namespace, name)).get("spec") or {}
        except NotFound:
            spec = {}
        except Refused as refused:
            standing, spec, error = Standing.UNREADABLE, lease.spec, refused.message
        lease.looked_at = now
        if spec != lease.spec or lease.since == float("-inf"):
            lease.spec, lease.since = spec, now
        if standing is Standing.LIVES and is_free(spec, now - lease.since, UNKNOWN_LEASE_SECONDS):
            standing = Standing.FREE
        if standing is not lease.standing:
            _log(lease_name, standing, error)
        lease.standing = standing


def _lease_of(body: Manifest) -> str:
    return str((body.get("status") or {}).get("operator") or "")


def _log(lease_name: str, standing: Standing, error: str) -> None:
    match standing:
        case Standing.LIVES:
            log.warning("another operator serves some of the jobs here: they are left to it", lease=lease_name)
        case Standing.UNREADABLE:
            log.warning(
                "some of the jobs here were last served by an operator whose lease can't be read: they are left alone until "
                "their status.operator is another one",
                lease=lease_name,
                error=error,
            )
        case Standing.FREE:
            log.warning("nobody leads by this lease any more: jobs of its operator are taken over", lease=lease_name)
