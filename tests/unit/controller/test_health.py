"""An operator that waits lives; it is ready when it works, or is ready to follow the one that does."""

from __future__ import annotations

import socket

import aiohttp
import pytest
from prometheus_client import CollectorRegistry, Gauge

from finetune_operator.controller.health import Health, serve
from finetune_operator.settings import OperatorSettings


@pytest.mark.parametrize(
    ("begun", "standing_by", "working", "alive", "ready"),
    [
        (False, False, False, True, False),
        (False, True, False, True, True),
        (True, True, True, True, True),
        (True, False, True, True, True),
        (True, True, False, False, False),
        (True, False, False, False, False),
    ],
    ids=["waits", "stands-by", "leads", "works-alone", "led-and-is-dead", "is-dead"],
)
def test_alive_and_ready(begun: bool, standing_by: bool, working: bool, alive: bool, ready: bool) -> None:
    health = Health(lambda: working)
    health.begun, health.standing_by = begun, standing_by
    assert (health.alive, health.ready) == (alive, ready)


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
async def test_without_a_host_every_address_answers(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as held:
        held.bind((address, 0))
        port = held.getsockname()[1]
    host = OperatorSettings.model_fields["metrics_host"].default
    server = await serve(host, port, CollectorRegistry(), Health(lambda: True))
    try:
        at = f"[{address}]" if family is socket.AF_INET6 else address
        async with aiohttp.ClientSession(f"http://{at}:{port}") as session:
            assert (await session.get("/healthz")).status == 200
    finally:
        await server.cleanup()


async def test_what_is_asked_is_answered() -> None:
    registry, health = CollectorRegistry(), Health(lambda: False)
    Gauge("answer", "An answer.", registry=registry).set(42)
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    server = await serve("127.0.0.1", port, registry, health)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as session:
            assert (await session.get("/healthz")).status == 200
            assert (await session.get("/readyz")).status == 503
            health.standing_by = True
            assert (await session.get("/readyz")).status == 200
            assert "answer 42.0" in await (await session.get("/metrics")).text()
            health.begun = True
            assert (await session.get("/healthz")).status == 503
    finally:
        await server.cleanup()
