"""Who leads, against a Lease that is kept as an API server would keep it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from finetune_operator.controller.leader_election import Leadership
from finetune_operator.kube.exceptions import Conflict, LeadershipLost, NotFound, Unavailable
from finetune_operator.plan.types import Manifest
from tests.support.virtual_time import virtual_time

SECONDS = 15.0


@pytest.fixture(autouse=True)
def nobody_waits_for_real() -> Iterator[None]:
    with virtual_time():
        yield


class OneLease:
    """A Lease with versions, on a server that can be cut off."""

    def __init__(self) -> None:
        self.lease: Manifest | None = None
        self.version = 0
        self.cut_off: set[str] = set()
        """Identities whose requests do not arrive."""
        self.deaf: set[str] = set()
        """Identities whose requests arrive, and whose answers do not."""
        self.swallows = asyncio.Event()
        """Event that, while set, lets the present connection take requests and answer none."""
        self.connections = 1

    async def reconnect(self) -> None:
        self.connections += 1
        self.swallows.clear()

    async def get(self, kind: str, namespace: str, name: str) -> Manifest:
        if self.lease is None:
            raise NotFound(404, "NotFound", "no lease")
        return self.lease

    async def create(self, namespace: str, manifest: Manifest) -> Manifest:
        if self.lease is not None:
            raise Conflict(409, "AlreadyExists", "there is one")
        return self._store(manifest)

    async def replace(self, namespace: str, manifest: Manifest) -> Manifest:
        holder = manifest["spec"]["holderIdentity"]
        if self.swallows.is_set():
            await asyncio.Event().wait()
        if holder in self.cut_off:
            raise Unavailable(0, "Timeout", "no answer")
        if self.lease is None:
            raise NotFound(404, "NotFound", "no lease")
        if manifest["metadata"].get("resourceVersion") != str(self.version):
            raise Conflict(409, "Conflict", "it has changed")
        stored = self._store(manifest)
        if holder in self.deaf:
            self.deaf.discard(holder)
            raise Unavailable(0, "Timeout", "no answer")
        return stored

    def _store(self, manifest: Manifest) -> Manifest:
        self.version += 1
        metadata = {**manifest["metadata"], "resourceVersion": str(self.version)}
        self.lease = {**manifest, "metadata": metadata}
        return self.lease

    @property
    def spec(self) -> dict[str, Any]:
        assert self.lease is not None
        spec: dict[str, Any] = self.lease["spec"]
        return spec


def contender(server: OneLease, identity: str = "", seconds: float = SECONDS) -> Leadership:
    return Leadership(server, "system", "operator", seconds, identity)


class Holding:
    """A leader that holds its lease, and the calls that it got meanwhile."""

    def __init__(self, leadership: Leadership) -> None:
        self.calls: list[str] = []
        self.changed = asyncio.Event()
        self.task = asyncio.create_task(leadership.hold(self._doubt, self._sure))

    def _doubt(self) -> None:
        self.calls.append("doubt")
        self.changed.set()

    async def _sure(self) -> None:
        self.calls.append("sure")
        self.changed.set()

    async def next(self) -> str:
        async with asyncio.timeout(60):
            await self.changed.wait()
        self.changed.clear()
        return self.calls[-1]

    async def end(self) -> None:
        self.task.cancel()
        with suppress(asyncio.CancelledError):
            await self.task


async def test_one_leads_and_the_other_waits_until_it_lets_go() -> None:
    server = OneLease()
    first, second = contender(server), contender(server)
    await first.gain()
    holding = Holding(first)
    waiting = asyncio.create_task(second.gain())
    await asyncio.sleep(3 * SECONDS)
    assert not waiting.done()
    assert server.spec["holderIdentity"] == first.identity

    await holding.end()
    await first.release()
    await asyncio.wait_for(waiting, SECONDS)
    assert server.spec["holderIdentity"] == second.identity
    assert server.spec["leaseTransitions"] == 1
    assert (first.held, second.held) == (False, True)


async def test_an_empty_lease_of_an_installation_is_free() -> None:
    server = OneLease()
    server._store({"kind": "Lease", "metadata": {"name": "operator"}, "spec": {}})
    first = contender(server)
    await asyncio.wait_for(first.gain(), SECONDS)
    assert (server.spec["holderIdentity"], server.spec["leaseTransitions"]) == (first.identity, 0)


async def test_who_does_not_renew_is_followed_after_the_lease_and_not_before() -> None:
    server = OneLease()
    first, second = contender(server), contender(server)
    await first.gain()
    begun = asyncio.get_running_loop().time()
    await second.gain()
    assert SECONDS <= asyncio.get_running_loop().time() - begun <= 2 * SECONDS


async def test_leader_that_cannot_renew_stops_first() -> None:
    """A leader that cannot renew stops before another may lead, and ends when another does."""
    server = OneLease()
    first, second = contender(server), contender(server)
    await first.gain()
    holding = Holding(first)
    waiting = asyncio.create_task(second.gain())
    server.cut_off.add(first.identity)
    assert await holding.next() == "doubt"
    assert not waiting.done()
    await asyncio.wait_for(waiting, 60)
    assert not holding.task.done(), "it goes on trying"
    server.cut_off.clear()
    with pytest.raises(LeadershipLost, match=f"{second.identity} leads now"):
        await asyncio.wait_for(holding.task, 60)
    assert holding.calls == ["doubt"]


async def test_leader_without_successor_goes_on() -> None:
    """A leader that could not renew for longer than the lease lasts goes on if nobody followed."""
    server = OneLease()
    first = contender(server)
    await first.gain()
    holding = Holding(first)
    server.cut_off.add(first.identity)
    assert await holding.next() == "doubt"
    await asyncio.sleep(SECONDS)
    server.cut_off.clear()
    assert await holding.next() == "sure"
    assert server.spec["leaseTransitions"] == 0
    assert holding.calls == ["doubt", "sure"]
    await holding.end()


async def test_a_connection_that_goes_deaf_costs_one_try() -> None:
    server = OneLease()
    first = contender(server, seconds=6 * SECONDS)
    await first.gain()
    holding = Holding(first)
    server.swallows.set()
    version = server.version
    async with asyncio.timeout(60):
        while server.version == version:  # noqa: ASYNC110 - the server's own doing
            await asyncio.sleep(0.01)
    assert server.connections == 2
    assert holding.calls == []
    await holding.end()


async def test_one_that_starts_again_under_its_name_leads_at_once() -> None:
    server = OneLease()
    await contender(server, "pod-1").gain()
    other, again = contender(server, "pod-2"), contender(server, "pod-1")
    await other._try_once()
    assert not other.held
    await again._try_once()
    assert again.held
    assert server.spec["leaseTransitions"] == 0


async def test_a_renewal_whose_answer_was_lost_costs_nothing() -> None:
    server = OneLease()
    first = contender(server)
    await first.gain()
    holding = Holding(first)
    server.deaf.add(first.identity)
    await asyncio.sleep(2 * SECONDS)
    assert not holding.task.done()
    assert first.identity not in server.deaf
    await holding.end()


async def test_who_finds_another_in_its_place_ends() -> None:
    server = OneLease()
    first = contender(server)
    await first.gain()
    assert server.lease is not None
    server._store({**server.lease, "spec": {**server.spec, "holderIdentity": "other"}})
    with pytest.raises(LeadershipLost, match="other leads now"):
        await Holding(first).task


async def test_a_lease_that_somebody_deletes_is_made_again() -> None:
    server = OneLease()
    first = contender(server)
    await first.gain()
    holding = Holding(first)
    server.lease = None
    await asyncio.sleep(SECONDS / 2)
    assert not holding.task.done()
    assert server.spec["holderIdentity"] == first.identity
    await holding.end()
