"""Whether another operator serves a job, against leases that are kept as an API server would keep them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from finetune_operator.controller.other_operators import OtherOperators
from finetune_operator.kube.exceptions import NotFound, Refused, Unavailable
from finetune_operator.plan.types import Manifest

MINE, THEIRS = "system/finetune-operator", "team/finetune-operator"
SECONDS = 15


class Leases:
    """Leases by `namespace/name`; an exception in place of a lease is raised."""

    def __init__(self) -> None:
        self.leases: dict[str, Manifest | Exception] = {}
        self.looks = 0

    async def get(self, kind: str, namespace: str, name: str) -> Manifest:
        self.looks += 1
        await asyncio.sleep(0)
        answer = self.leases.get(f"{namespace}/{name}", NotFound(404, "NotFound", "no lease"))
        if isinstance(answer, Exception):
            raise answer
        return answer

    def renew(self, moment: int, **spec: Any) -> None:
        usual = {"holderIdentity": "them", "leaseDurationSeconds": SECONDS, "renewTime": str(moment)}
        self.leases[THEIRS] = {"spec": {**usual, **spec}}


class World:
    def __init__(self, mine: str = MINE) -> None:
        self.now = 1000.0
        self.server = Leases()
        self.others = OtherOperators(self.server, mine, lambda: self.now)

    async def serves(self, mark: str | None = THEIRS) -> bool:
        return await self.others.seconds_to_wait(job(mark)) is None


def job(mark: str | None) -> Manifest:
    return {"status": {"operator": mark} if mark else {}}


@pytest.mark.parametrize("mark", [None, MINE], ids=["nobody's", "its own"])
async def test_a_job_without_anothers_mark_is_served_without_a_look(mark: str | None) -> None:
    world = World()
    assert await world.serves(mark)
    assert world.server.looks == 0


@pytest.mark.parametrize("mine", [MINE, ""], ids=["with a lease", "without a lease"])
async def test_a_job_whose_operator_renews_its_lease_is_left_alone(mine: str) -> None:
    world = World(mine)
    for moment in range(0, 100, 5):
        world.now += 5
        world.server.renew(moment)
        assert not await world.serves()
    assert world.others.count([job(THEIRS), job(mine), job(None)]) == 1


async def test_lease_unchanged_for_its_duration_has_expired() -> None:
    """The times in the lease do not count: the other machine's clock may be wrong."""
    world = World()
    world.server.renew(0)
    assert not await world.serves()
    world.now += SECONDS - 1
    assert not await world.serves()
    world.now += 2
    assert await world.serves()
    assert world.others.count([job(THEIRS)]) == 0


async def test_returning_operator_gets_its_jobs_back() -> None:
    """An operator that comes back gets its jobs back where nobody took them."""
    world = World()
    world.server.renew(0)
    assert not await world.serves()
    world.now += SECONDS + 1
    assert await world.serves()
    world.server.renew(1)
    world.now += 2
    assert not await world.serves()


@pytest.mark.parametrize(
    "lease",
    [NotFound(404, "NotFound", "no lease"), {}, {"spec": {"holderIdentity": "", "leaseDurationSeconds": 1}}],
    ids=["not there", "never held", "released"],
)
async def test_a_lease_that_nobody_holds_is_free_at_once(lease: Manifest | Exception) -> None:
    world = World()
    world.server.leases[THEIRS] = lease
    assert await world.serves()


async def test_a_lease_that_cannot_be_read_is_taken_to_live() -> None:
    world = World()
    world.server.leases[THEIRS] = Refused(403, "Forbidden", "leases is forbidden")
    for _ in range(5):
        world.now += SECONDS
        assert not await world.serves()
    assert world.others.count([job(THEIRS)]) == 1


async def test_while_the_api_server_does_not_answer_nothing_is_concluded() -> None:
    world = World()
    world.server.renew(0)
    assert not await world.serves()
    world.server.leases[THEIRS] = Unavailable(0, "Timeout", "no answer")
    world.now += SECONDS / 3
    with pytest.raises(Unavailable):
        await world.serves()


async def test_many_jobs_of_another_are_one_look() -> None:
    world = World()
    world.server.renew(0)
    await asyncio.gather(*(world.serves() for _ in range(100)))
    assert world.server.looks == 1
