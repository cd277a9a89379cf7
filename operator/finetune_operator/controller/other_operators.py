"""Whether another operator serves a job: its status carries that one's mark, the lease by which it leads, and the lease lives.

Two operators that both serve a job undo each other's work. As in `leader_election`, clocks are not compared: a lease has expired when
it was not seen to change for as long as it says. One that can't be read is taken to live.
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
"""A lease is looked at no more often, however many jobs carry its mark."""
LOOKS_PER_LEASE = 3
"""How often a job of another operator is looked at in the time that its lease lasts."""
UNKNOWN_LEASE_SECONDS = 15.0
"""Taken where a lease does not say how long it lasts."""
log = structlog.get_logger(__name__)


class Standing(StrEnum):
    """How it stands with another operator's lease."""

    LIVES = "lives"
    FREE = "free"
    """It is not there, nobody holds it, or its holder was not seen to renew it in time."""
    UNREADABLE = "unreadable"


class Reads(Protocol):
    """What this needs of a cluster."""

    async def get(self, kind: str, namespace: str, name: str) -> Manifest: ...


@dataclass
class _Lease:
    """Another operator's lease, as far as it was watched."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    looked_at: float = float("-inf")
    spec: Manifest = field(default_factory=dict)
    """Empty where it is not there."""
    since: float = float("-inf")
    """When it was first seen as it is."""
    standing: Standing | None = None


class OtherOperators:
    """Watches the leases of the operators whose marks are met."""

    def __init__(self, cluster: Reads, mine: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`mine`: `namespace/name` of this operator's own lease; empty where it has none."""
        self._cluster = cluster
        self._mine = mine
        self._clock = clock
        self._leases: dict[str, _Lease] = {}

    async def seconds_to_wait(self, body: Manifest) -> float | None:
        """After how long to look at a job again that another operator serves; None where this one may serve it."""
        mark = _mark(body)
        if mark in ("", self._mine):
            return None
        lease = self._leases.setdefault(mark, _Lease())
        async with lease.lock:
            if self._clock() - lease.looked_at >= LOOK_SECONDS:
                await self._look(mark, lease)
        if lease.standing is Standing.FREE:
            return None
        return max(_duration(lease.spec) / LOOKS_PER_LEASE, LOOK_SECONDS)

    def count(self, bodies: Iterable[Manifest]) -> int:
        """How many of these jobs other operators serve, as it was when they were looked at."""
        leases = (self._leases.get(_mark(body)) for body in bodies)
        return sum(lease is not None and lease.standing in (Standing.LIVES, Standing.UNREADABLE) for lease in leases)

    async def _look(self, mark: str, lease: _Lease) -> None:
        namespace, _, name = mark.partition("/")
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
            _tell(mark, standing, error)
        lease.standing = standing


def _duration(spec: Manifest) -> float:
    return float(spec.get("leaseDurationSeconds") or UNKNOWN_LEASE_SECONDS)


def _mark(body: Manifest) -> str:
    return str((body.get("status") or {}).get("operator") or "")


def _tell(mark: str, standing: Standing, error: str) -> None:
    match standing:
        case Standing.LIVES:
            log.warning("another operator serves some of the jobs here: they are left to it", lease=mark)
        case Standing.UNREADABLE:
            log.warning(
                "some of the jobs here were last served by an operator whose lease can't be read: they are left alone until "
                "their status.operator is another one",
                lease=mark,
                error=error,
            )
        case Standing.FREE:
            log.warning("nobody leads by this lease any more: jobs of its operator are taken over", lease=mark)
