"""How a node finds node 0, and what it says when it can't."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from finetune_trainer.contract.launch_protocol import NodeHealth
from finetune_trainer.launch import meeting
from finetune_trainer.launch.launch_settings import Peer, Settings
from finetune_trainer.launch.meeting import Meeting
from tests.support.checkpoints import run_config

NODE_0 = NodeHealth(uid="u", attempt=1, node=0, begun=False)
UNKNOWN = "node-0.invalid"


@asynccontextmanager
async def answering(*answers: NodeHealth | str) -> AsyncIterator[list[Peer]]:
    """Serve answers to /healthz, each at a port of its own."""
    runners = []
    for answer in answers:

        async def healthz(_: web.Request, answer: NodeHealth | str = answer) -> web.Response:
            return web.Response(text=answer if isinstance(answer, str) else answer.to_json())

        app = web.Application()
        app.router.add_get("/healthz", healthz)
        runners.append(web.AppRunner(app))
        await runners[-1].setup()
        await web.TCPSite(runners[-1], "127.0.0.1", 0).start()
    try:
        yield [Peer("127.0.0.1", runner.addresses[0][1]) for runner in runners]
    finally:
        for runner in runners:
            await runner.cleanup()


def settings(folder: Path, peer: Peer) -> Settings:
    config = run_config(output=str(folder), uid="u", nodes=2)
    own = Settings(config, folder / "run.json", 1, 1, (peer, Peer("127.0.0.1", 1)), "127.0.0.1", folder / "log")
    own.layout.run.attempt(1).folder.mkdir(parents=True)
    return own


async def until(what: Callable[[], bool]) -> None:
    """Look until something is true."""
    for _ in iter(what, True):
        await asyncio.sleep(0.01)


async def found(own: Settings) -> Peer:
    async with aiohttp.ClientSession() as session:
        return await asyncio.wait_for(Meeting(session, own).node_zero(), 60)


def test_a_name_that_resolves_is_enough(tmp_path: Path) -> None:
    async def run() -> tuple[Peer, Peer]:
        async with answering(NODE_0) as (here,):
            return here, await found(settings(tmp_path, Peer("localhost", here.port)))

    here, met = asyncio.run(run())
    assert met == here


def test_a_name_that_never_resolves_leaves_the_address_on_the_volume(tmp_path: Path) -> None:
    async def run() -> tuple[Peer, Peer]:
        async with answering(NODE_0) as (here,):
            own = settings(tmp_path, Peer(UNKNOWN, 1))
            own.layout.run.attempt(1).address.write_text(f"{here}\n")
            return here, await found(own)

    here, met = asyncio.run(run())
    assert met == here


@pytest.mark.parametrize(
    ("other", "problem"),
    [
        (NODE_0.model_copy(update={"attempt": 2}), "answers node 0 of attempt 2 of u"),
        (NODE_0.model_copy(update={"uid": "v"}), "answers node 0 of attempt 1 of v"),
        (NODE_0.model_copy(update={"node": 1}), "answers node 1 of attempt 1 of u"),
        ("anything else", "is no launch"),
    ],
)
def test_who_is_not_node_0_of_this_attempt_is_not_met(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: NodeHealth | str, problem: str
) -> None:
    monkeypatch.setattr(meeting, "WAITING_SECONDS", 0.01)
    monkeypatch.setattr(meeting, "WAITING_AGAIN_SECONDS", 0.01)

    async def run() -> tuple[Peer, Peer]:
        async with answering(other, NODE_0) as (exists, here):
            own = settings(tmp_path, Peer(UNKNOWN, 1))
            address = own.layout.run.attempt(1).address
            address.write_text(f"{exists}\n")
            looking = asyncio.create_task(found(own))
            with capture_logs() as logs:
                await until(lambda: any(problem in line["by address"] for line in logs))
            assert not looking.done()
            address.write_text(f"{here}\n")
            return here, await looking

    here, met = asyncio.run(run())
    assert met == here


def test_what_is_not_there_yet_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(meeting, "WAITING_SECONDS", 0.01)
    monkeypatch.setattr(meeting, "WAITING_AGAIN_SECONDS", 0.01)

    async def run() -> str:
        own = settings(tmp_path, Peer("127.0.0.1", 1))
        secret = own.layout.run.attempt(1).secret
        async with aiohttp.ClientSession() as session:
            waiting = Meeting(session, own)
            with capture_logs() as logs:
                looking = asyncio.create_task(waiting.node_zero())
                await until(lambda: any("127.0.0.1:1 can't be reached" in line["by name"] for line in logs))
                looking.cancel()
                assert "address can't be read: No such file or directory" in logs[-1]["by address"]
                reading = asyncio.create_task(waiting.secret())
                await until(lambda: any("its secret is not on the volume" in line["event"] for line in logs))
                secret.write_text("s\n")
                return await reading

    assert asyncio.run(run()) == "s"


def test_a_volume_that_cannot_be_read_for_a_moment_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file server answers with a stale handle or the like now and then: here a folder is in the file's place."""
    monkeypatch.setattr(meeting, "WAITING_SECONDS", 0.01)
    monkeypatch.setattr(meeting, "WAITING_AGAIN_SECONDS", 0.01)

    async def run() -> tuple[Peer, Peer, str]:
        async with answering(NODE_0) as (here,), aiohttp.ClientSession() as session:
            own = settings(tmp_path, here)
            attempt = own.layout.run.attempt(1)
            attempt.address.mkdir()
            attempt.secret.mkdir()
            waiting = Meeting(session, own)
            met = await waiting.node_zero()
            with capture_logs() as logs:
                reading = asyncio.create_task(waiting.secret())
                await until(lambda: any("Is a directory" in line["problem"] for line in logs))
                attempt.secret.rmdir()
                attempt.secret.write_text("s\n")
                return here, met, await reading

    here, met, secret = asyncio.run(run())
    assert (met, secret) == (here, "s")
