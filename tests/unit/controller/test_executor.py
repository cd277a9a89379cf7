"""What comes of actions: a slow answer holds nobody up, a refusal is a value, nothing is asked for twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from finetune_operator.api.resource import FineTuneJob
from finetune_operator.controller import executor
from finetune_operator.controller.cache import JobCache, JobEntry, Key
from finetune_operator.controller.executor import REQUESTS_AT_ONCE, Actor
from finetune_operator.kube.client import Cluster
from finetune_operator.kube.exceptions import ApiError, Unanswered, Unavailable
from finetune_operator.plan.types import UNANSWERED, Create, Manifest, Ref, Refusal, Suspend
from tests.support.simulated import World

JOB = Ref("Job", "yelp-train-1")


class Webhook:
    """Objects that are made once the gate is open, or an error in place of them."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.error: ApiError | None = None
        self.asked: list[str] = []
        self.at_once = 0
        self.most = 0

    async def create_once(self, namespace: str, manifest: Manifest) -> Manifest:
        self.asked.append(manifest["metadata"]["name"])
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await self.gate.wait()
        self.at_once -= 1
        if self.error is not None:
            raise self.error
        metadata = {**manifest["metadata"], "namespace": namespace, "uid": "made", "resourceVersion": "1"}
        return {**manifest, "metadata": metadata}

    async def suspend_job(self, namespace: str, name: str) -> Manifest:
        self.asked.append(name)
        await self.gate.wait()
        metadata = {"name": name, "namespace": namespace, "uid": "made", "resourceVersion": "2"}
        return {"kind": "Job", "metadata": metadata, "spec": {"suspend": True}}


class Fixture:
    """An executor, one job, and the keys that were woken."""

    def __init__(self) -> None:
        self.webhook = Webhook()
        self.woken: list[Key] = []
        self.actor = Actor(cast(Cluster, self.webhook), self.woken.append)
        self.store = JobCache()
        self.edit(1)

    def edit(self, generation: int) -> None:
        self.job = World(generation=generation).job()
        metadata = {**self.job.metadata.model_dump(mode="json", by_alias=True), "resourceVersion": str(generation)}
        self.store.observe({"kind": "FineTuneJob", "metadata": metadata, "spec": {}}, deleted=False)

    @property
    def state(self) -> JobEntry:
        return next(iter(self.store))

    async def act(self, *wanted: Any, job: FineTuneJob | None = None) -> bool:
        return await self.actor.act(self.state, job or self.job, wanted or (create(),))

    async def answer(self, error: ApiError | None = None) -> None:
        self.webhook.error = error
        self.webhook.gate.set()
        await until(lambda: bool(self.woken))


def create(name: str = JOB.name) -> Create:
    return Create({"kind": "Job", "metadata": {"name": name}})


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what is waited for is the actor's own doing
            await asyncio.sleep(0.001)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "PATIENCE_SECONDS", 0.01)


async def test_a_slow_creation_is_let_go_and_wakes_the_job_when_it_is_answered() -> None:
    fixture = Fixture()
    assert not await fixture.act()
    assert fixture.state.refusals() == (Refusal(JOB, 0, UNANSWERED, ""),)
    assert await fixture.act(), "it is not asked for a second time"
    assert (fixture.webhook.asked, fixture.woken) == ([JOB.name], [])

    await fixture.answer()
    assert (fixture.woken, fixture.state.refusals()) == ([fixture.state.key], ())
    assert fixture.state.find(*JOB) is not None


async def test_unanswered_create_is_a_value() -> None:
    """What the server cannot answer is a value, and is tried again later."""
    fixture = Fixture()
    fixture.webhook.error = Unavailable(500, "InternalError", "failed calling webhook")
    fixture.webhook.gate.set()
    assert not await fixture.act()
    assert fixture.state.refusals() == (Refusal(JOB, 500, "InternalError", "failed calling webhook"),)
    assert await fixture.act()
    assert fixture.webhook.asked == [JOB.name]


async def test_a_slow_refusal_of_what_was_edited_meanwhile_is_not_believed() -> None:
    fixture = Fixture()
    await fixture.act()
    fixture.edit(2)
    assert fixture.state.refusals(), "the first one may still be made: it is not asked for beside it"
    await fixture.answer(ApiError(403, "Forbidden", "too many GPUs"))
    assert fixture.state.refusals() == ()
    fixture.woken.clear()
    await fixture.act()
    assert len(fixture.webhook.asked) == 2


async def test_a_slow_suspension_is_told_and_wakes_the_job_when_it_is_answered() -> None:
    fixture = Fixture()
    for _ in range(2):
        with pytest.raises(Unanswered, match="Suspend Job 'yelp-train-1'"):
            await fixture.act(Suspend(JOB.name))
    assert fixture.webhook.asked == [JOB.name]
    await fixture.answer()
    job = fixture.state.find(*JOB)
    assert job is not None
    assert job["spec"]["suspend"]


async def test_what_a_slow_webhook_holds_is_bounded_in_one_namespace() -> None:
    fixture = Fixture()
    await fixture.act(*(create(f"job-{number}") for number in range(REQUESTS_AT_ONCE * 3)))
    assert len(fixture.webhook.asked) == REQUESTS_AT_ONCE
    fixture.webhook.gate.set()
    await until(lambda: len(fixture.webhook.asked) == REQUESTS_AT_ONCE * 3)
    assert fixture.webhook.most == REQUESTS_AT_ONCE


async def test_nothing_is_asked_for_after_it_was_broken_off() -> None:
    fixture = Fixture()
    await fixture.act(*(create(f"job-{number}") for number in range(REQUESTS_AT_ONCE + 1)))
    fixture.actor.break_off()
    fixture.webhook.gate.set()
    await until(lambda: len(fixture.woken) == REQUESTS_AT_ONCE + 1)
    assert len(fixture.webhook.asked) == REQUESTS_AT_ONCE
    assert fixture.state.refusals() == ()
