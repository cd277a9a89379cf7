"""Who leads, against a Lease that is kept as an API server would keep it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest

from finetune_operator.exceptions import Conflict, LeadershipLost, NotFound, Unavailable
from finetune_operator.leader import Leadership
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


def contender(server: OneLease) -> Leadership:
    return Leadership(server, "system", "operator", SECONDS)


async def test_one_leads_and_the_other_waits_until_it_lets_go() -> None:
    server = OneLease()
    first, second = contender(server), contender(server)
    await first.gain()
    holding = asyncio.create_task(first.hold())
    waiting = asyncio.create_task(second.gain())
    await asyncio.sleep(3 * SECONDS)
    assert not waiting.done()
    assert server.spec["holderIdentity"] == first.identity

    holding.cancel()
    with suppress(asyncio.CancelledError):
        await holding
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


async def test_who_can_not_renew_stops_before_another_may_lead() -> None:
    server = OneLease()
    first, second = contender(server), contender(server)
    await first.gain()
    holding = asyncio.create_task(first.hold())
    waiting = asyncio.create_task(second.gain())
    server.cut_off.add(first.identity)
    with pytest.raises(LeadershipLost, match="could not be renewed"):
        await holding
    assert not waiting.done()
    await asyncio.wait_for(waiting, 2 * SECONDS)


async def test_a_renewal_whose_answer_was_lost_costs_nothing() -> None:
    server = OneLease()
    first = contender(server)
    await first.gain()
    holding = asyncio.create_task(first.hold())
    server.deaf.add(first.identity)
    await asyncio.sleep(2 * SECONDS)
    assert not holding.done()
    assert first.identity not in server.deaf
    holding.cancel()


async def test_who_finds_another_in_its_place_ends() -> None:
    server = OneLease()
    first = contender(server)
    await first.gain()
    assert server.lease is not None
    server._store({**server.lease, "spec": {**server.spec, "holderIdentity": "other"}})
    with pytest.raises(LeadershipLost, match="other leads now"):
        await first.hold()


async def test_a_lease_that_somebody_deletes_is_made_again() -> None:
    server = OneLease()
    first = contender(server)
    await first.gain()
    holding = asyncio.create_task(first.hold())
    server.lease = None
    await asyncio.sleep(SECONDS / 2)
    assert not holding.done()
    assert server.spec["holderIdentity"] == first.identity
    holding.cancel()
