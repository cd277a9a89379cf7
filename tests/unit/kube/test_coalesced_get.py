"""What many jobs look up at once is asked for once; what was not there is asked for again."""

import asyncio
from collections.abc import Iterator

import pytest

from finetune_operator.kube.coalesced_get import Recent
from finetune_operator.kube.exceptions import NotFound
from finetune_operator.plan.types import Manifest
from tests.support.virtual_time import virtual_time


@pytest.fixture(autouse=True)
def nobody_waits_for_real() -> Iterator[None]:
    with virtual_time():
        yield


class Answers:
    """A source that takes a moment, and notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.exists = True

    async def get(self, kind: str, namespace: str, name: str) -> Manifest:
        self.asked.append(f"{kind} {namespace}/{name}")
        await asyncio.sleep(0.01)
        if not self.exists:
            raise NotFound(404, "NotFound", f"{name} is not there")
        return {"kind": kind, "metadata": {"name": name}}


async def test_those_who_ask_at_once_share_one_request() -> None:
    source = Answers()
    recent = Recent(source.get)
    claims = await asyncio.gather(*(recent.get("PersistentVolumeClaim", "ns", "claim") for _ in range(20)))
    assert source.asked == ["PersistentVolumeClaim ns/claim"]
    assert all(claim["metadata"]["name"] == "claim" for claim in claims)


async def test_objects_of_other_names_and_namespaces_are_others() -> None:
    source = Answers()
    recent = Recent(source.get)
    await asyncio.gather(recent.get("ConfigMap", "a", "x"), recent.get("ConfigMap", "b", "x"))
    assert sorted(source.asked) == ["ConfigMap a/x", "ConfigMap b/x"]


async def test_what_was_not_there_is_asked_for_again() -> None:
    source = Answers()
    recent = Recent(source.get)
    source.exists = False
    with pytest.raises(NotFound):
        await recent.get("ConfigMap", "ns", "x")
    source.exists = True
    assert (await recent.get("ConfigMap", "ns", "x"))["metadata"]["name"] == "x"
    assert len(source.asked) == 2


async def test_an_answer_grows_old(monkeypatch: pytest.MonkeyPatch) -> None:
    source = Answers()
    recent = Recent(source.get)
    monkeypatch.setattr("finetune_operator.kube.coalesced_get.AGE_SECONDS", 0.02)
    await recent.get("ConfigMap", "ns", "x")
    await asyncio.sleep(0.03)
    await recent.get("ConfigMap", "ns", "x")
    assert len(source.asked) == 2


async def test_who_stops_waiting_does_not_stop_the_others() -> None:
    source = Answers()
    recent = Recent(source.get)
    impatient = asyncio.create_task(recent.get("ConfigMap", "ns", "x"))
    patient = asyncio.create_task(recent.get("ConfigMap", "ns", "x"))
    await asyncio.sleep(0)
    impatient.cancel()
    assert (await patient)["metadata"]["name"] == "x"
    assert len(source.asked) == 1
