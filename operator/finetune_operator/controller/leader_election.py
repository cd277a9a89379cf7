"""Leader election: of several operators the one that holds and renews a Lease of the cluster leads.

It works like that of Kubernetes' own controllers: an operator that renews too late stops working well before another may
begin. Clocks are not compared: a lease has expired when it was not seen to change for as long as it says. Two leaders would
do no harm for a moment (names are deterministic, a status is written with the version that was read), they would only work
twice.

An operator that could not renew in time is only in doubt: nobody can lead through an API server that is away. So the process
stays, goes on trying, and works again when the lease is still its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Protocol

import structlog

from finetune_operator.kube.exceptions import ApiError, Conflict, LeadershipLost, NotFound, Unavailable
from finetune_operator.plan.types import Manifest

RETRIES_PER_LEASE = 7.5
"""Renewals of the lease, or looks at it, in the time that it lasts: every 2 s of 15."""
LOOK_SECONDS = 2.0
"""Longest time between two looks of an operator that stands by: however long a lease lasts, one that was given up is taken soon."""
TRY_SHARE = 0.2
"""Share of the lease's time after which a try is given up, and the next begins on a new connection: three tries fit before
the doubt."""
DOUBT_AFTER = 2 / 3
"""Share of the lease's time after which a holder that could not renew it stops working until it can."""
log = structlog.get_logger(__name__)


class Leases(Protocol):
    """The operations of a cluster that leader election needs."""

    async def get(self, kind: str, namespace: str, name: str) -> Manifest: ...

    async def create(self, namespace: str, manifest: Manifest) -> Manifest: ...

    async def replace(self, namespace: str, manifest: Manifest) -> Manifest: ...

    async def reconnect(self) -> None:
        """Make the next request begin on a new connection."""


class Alone:
    """Leadership where no other operator is expected."""

    async def gain(self) -> None:
        """Return at once: there is nothing to wait for."""

    async def hold(self, doubt: Callable[[], None], sure: Callable[[], Awaitable[None]]) -> None:
        await asyncio.Event().wait()

    async def release(self) -> None:
        """Do nothing: nobody waits for the lease."""


class Leadership:
    """Leadership of one process, by one Lease. `gain` it, then `hold` it as long as there is work, then `release` it."""

    def __init__(self, cluster: Leases, namespace: str, name: str, lease_seconds: float, identity: str = "") -> None:
        """`identity` is a name that no other living process has: a process that finds it on the lease leads at once."""
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._seconds = lease_seconds
        self.identity = identity or f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"
        self.held = False
        self._lease: Manifest | None = None
        """The lease as it was last seen."""
        self._seen_at = 0.0
        """Time at which the lease was first seen as it is, or was last renewed by us, on this machine's own clock."""

    async def gain(self) -> None:
        """Return once this process leads."""
        waits_for = None
        while True:
            await self._try_once()
            if self.held:
                log.info("leading", identity=self.identity)
                return
            holder = self._holder()
            if holder and holder != waits_for:
                log.info("standing by", leader=holder)
                waits_for = holder
            await asyncio.sleep(min(self._seconds / RETRIES_PER_LEASE, LOOK_SECONDS))

    async def hold(self, doubt: Callable[[], None], sure: Callable[[], Awaitable[None]]) -> None:
        """Renew the lease for ever; raise LeadershipLost when another process has it.

        `doubt` is called when the lease could not be renewed for so long that another process may soon lead, `sure` when it
        was renewed after all.
        """
        loop = asyncio.get_running_loop()
        in_doubt = False

        def begin_to_doubt() -> None:
            nonlocal in_doubt
            in_doubt = True
            log.warning(
                "the lease could not be renewed: nothing is done until it is", seconds=self._seconds * DOUBT_AFTER
            )
            doubt()

        def timer() -> asyncio.TimerHandle:
            remaining_seconds = self._seen_at + self._seconds * DOUBT_AFTER - time.monotonic()
            return loop.call_later(max(remaining_seconds, 0), begin_to_doubt)  # on time even while a try is running

        watchdog = timer()
        try:
            while True:
                await asyncio.sleep(self._seconds / RETRIES_PER_LEASE)
                renewed = await self._try_once()
                if not self.held:
                    raise LeadershipLost(f"{self._holder() or 'another'} leads now")
                if not renewed:
                    continue
                watchdog.cancel()
                watchdog = timer()
                if in_doubt:
                    in_doubt = False
                    log.info("leading again", identity=self.identity)
                    await sure()
        finally:
            watchdog.cancel()

    async def release(self) -> None:
        """Let another process lead at once. Nothing depends on it: the lease expires by itself."""
        if not self.held or self._lease is None:
            return
        self.held = False
        spec = {**self._lease["spec"], "holderIdentity": "", "leaseDurationSeconds": 1}
        with contextlib.suppress(ApiError, TimeoutError):
            async with asyncio.timeout(2):
                await self._cluster.replace(self._namespace, {**self._lease, "spec": spec})

    # --- one try -------------------------------------------------------------------------------------------------

    async def _try_once(self) -> bool:
        """Try to take or renew the lease; return whether the API server answered.

        Where it did not answer, the connection may be dead: the next try begins on a new one.
        """
        try:
            async with asyncio.timeout(self._seconds * TRY_SHARE):
                await self._try()
        except (Unavailable, TimeoutError) as error:
            log.warning("no answer about the lease", error=str(error) or "none in time")
            await self._cluster.reconnect()
            return False
        except ApiError as error:
            log.warning("the lease can't be had now", error=str(error))
            return False
        return True

    async def _try(self) -> None:
        """Take or renew the lease where this process may, and note what was seen."""
        asked_at = time.monotonic()
        try:
            if self._lease is None or not self.held:
                self._note(await self._cluster.get("Lease", self._namespace, self._name), asked_at)
            if self._lease is not None and (self.held or self._is_free()):
                self._took(await self._cluster.replace(self._namespace, self._renewed(self._lease)), asked_at)
        except NotFound:
            self._lease, self.held = None, False
            with contextlib.suppress(Conflict):
                self._took(await self._cluster.create(self._namespace, self._renewed(None)), asked_at)
        except Conflict:  # another process was quicker, or our own last renewal arrived and its answer was lost
            lease = await self._cluster.get("Lease", self._namespace, self._name)
            self.held = self.held and _spec(lease).get("holderIdentity") == self.identity
            self._note(lease, asked_at)
            if self.held:
                self._took(await self._cluster.replace(self._namespace, self._renewed(lease)), asked_at)

    def _note(self, lease: Manifest, now: float) -> None:
        if self._lease is None or _spec(lease) != _spec(self._lease):
            self._seen_at = now
        self._lease = lease

    def _took(self, lease: Manifest, asked_at: float) -> None:
        self._lease, self._seen_at, self.held = lease, asked_at, True

    def _holder(self) -> str:
        return str(_spec(self._lease).get("holderIdentity") or "")

    def _is_free(self) -> bool:
        unchanged_seconds = time.monotonic() - self._seen_at
        return self._holder() == self.identity or is_free(_spec(self._lease), unchanged_seconds, self._seconds)

    def _renewed(self, before: Manifest | None) -> Manifest:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        was = _spec(before)
        held_before = was.get("holderIdentity") == self.identity
        spec = {
            "holderIdentity": self.identity,
            "leaseDurationSeconds": max(round(self._seconds), 1),
            "acquireTime": was["acquireTime"] if held_before else now,
            "renewTime": now,
            "leaseTransitions": (was.get("leaseTransitions") or 0)
            + (1 if was.get("holderIdentity") is not None and not held_before else 0),
        }
        metadata = {"name": self._name} if before is None else before["metadata"]
        return {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": spec}


def is_free(spec: Manifest, unchanged_seconds: float, default_seconds: float) -> bool:
    """Return whether nobody leads by a lease that was not seen to change for so long. `default_seconds` is the duration of a
    lease that names none.
    """
    lasts_seconds = float(spec.get("leaseDurationSeconds") or default_seconds)
    return not spec.get("holderIdentity") or unchanged_seconds >= lasts_seconds


def _spec(lease: Manifest | None) -> Manifest:
    """Return the spec of a lease; it is empty where nobody has led yet."""
    spec: Manifest = (lease or {}).get("spec") or {}
    return spec
