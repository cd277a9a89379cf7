"""A proxy between the operator and the API server that does to its requests what networks and power cuts do."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from enum import Enum, auto
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp import web

from tests.support.api import Api, Manifest
from tests.support.patience import PATIENCE_SECONDS

MUTATING = frozenset({"POST", "PUT", "PATCH", "DELETE"})
HOP_HEADERS = frozenset(
    {"host", "content-length", "transfer-encoding", "connection", "content-encoding", "accept-encoding"}
)


class Fault(Enum):
    """A fault that one request meets."""

    CUT_AFTER = auto()
    """The request is carried out; the operator dies before it sees the answer."""
    LOSE_ANSWER = auto()
    """The request is carried out; the connection breaks before the answer."""
    EXPIRED = auto()
    """401: the credentials have expired, and the API server never sees the request."""
    UNAVAILABLE = auto()
    """503, and the API server never sees the request."""


class FaultProxy:
    """A proxy that forwards all requests but those for which `fault` names a fault. Use as a context."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self.fault: Callable[[str, str, Manifest], Fault | None] = lambda method, path, body: None
        """Function that returns the fault of a changing request."""
        self.cut: Callable[[], None] = lambda: None
        """Function that kills the operator."""
        self.changes: list[str] = []
        """Changing requests so far, as `METHOD path`."""
        self.away = False
        """Whether nothing is answered, as while the API server restarts."""
        self.lost = 0
        """Number of requests while the API server was away."""
        self.silent = False
        """Whether watches show nothing, old and new ones alike."""
        self._connections: set[asyncio.BaseTransport] = set()
        self._deaf: frozenset[asyncio.BaseTransport] = frozenset()
        self._watches: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._ended = asyncio.Event()
        self._sighted = asyncio.Event()
        self._sighted.set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.port = 0

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(PATIENCE_SECONDS)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._ended.set)
        self._thread.join(PATIENCE_SECONDS)

    def kubeconfig(self, folder: Path) -> Path:
        """Write a kubeconfig for an operator, with this proxy as the server and the credentials of the real API server."""
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "proxy",
            "clusters": [{"name": "proxy", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "operator", "user": {"token": self._api.token}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "operator"}}],
        }
        path = folder / "proxy.kubeconfig"
        path.write_text(json.dumps(config))
        return path

    def break_watches(self) -> None:
        """Silence watches from now on."""
        self._loop.call_soon_threadsafe(self._blind)

    def restore_watches(self) -> None:
        """Tell watches that their version is too old: the operator has to list again."""
        self._loop.call_soon_threadsafe(self._sighted.set)

    def deafen(self) -> None:
        """Deafen the open connections: they take every request from now on and answer none; new connections work."""
        self._deaf = frozenset(self._connections)

    def leave(self) -> None:
        """Take the API server away, and with it every connection."""
        self.away = True
        self._loop.call_soon_threadsafe(self._cancel_watches)

    def _blind(self) -> None:
        self._sighted.clear()
        self._cancel_watches()

    def _cancel_watches(self) -> None:
        for task in self._watches:
            task.cancel()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._loop.close()

    async def _serve(self) -> None:
        context = self._api._context
        connector = aiohttp.TCPConnector(ssl=context, limit=0)
        async with aiohttp.ClientSession(connector=connector, auto_decompress=False) as self._session:
            app = web.Application(client_max_size=2**25)
            app.router.add_route("*", "/{path:.*}", self._handle)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            self.port = runner.addresses[0][1]
            self._ready.set()
            await self._ended.wait()
            self._cancel_watches()
            await runner.cleanup()
        await asyncio.sleep(0.1)  # connections close in the background

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        fault = None
        if request.transport is not None:
            self._connections.add(request.transport)
        if request.transport in self._deaf:
            await self._ended.wait()
        if self.away and request.transport is not None:
            self.lost += 1
            request.transport.abort()
            return web.Response(status=500)
        if request.method in MUTATING:
            self.changes.append(f"{request.method} {request.path}")
            fault = self.fault(request.method, request.path, json.loads(await request.read() or b"{}"))
        if fault is Fault.EXPIRED:
            return web.json_response({"kind": "Status", "reason": "Unauthorized", "message": "expired"}, status=401)
        if fault is Fault.UNAVAILABLE:
            return web.json_response(
                {"kind": "Status", "reason": "ServiceUnavailable", "message": "try later"}, status=503
            )
        if request.query.get("watch") == "true":
            return await self._watch(request)
        body = await request.read()
        headers = {key: value for key, value in request.headers.items() if key.lower() not in HOP_HEADERS}
        url = f"{self._api.server}{request.path_qs}"
        async with self._session.request(request.method, url, data=body or None, headers=headers) as answer:
            data = await answer.read()
        if fault is Fault.CUT_AFTER:
            await asyncio.to_thread(self.cut)
        if fault is Fault.LOSE_ANSWER and request.transport is not None:
            request.transport.abort()
        return web.Response(status=answer.status, body=data, content_type=answer.content_type)

    async def _watch(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        task = asyncio.create_task(self._stream(request, response))
        self._watches.add(task)
        try:
            await task
        except ConnectionError:
            return response  # the operator was killed
        except asyncio.CancelledError:
            if self._sighted.is_set():
                raise
            await self._sighted.wait()  # the watch misses what happens meanwhile
            gone = {
                "type": "ERROR",
                "object": {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"},
            }
            await response.write(json.dumps(gone).encode() + b"\n")
        finally:
            self._watches.discard(task)
        return response

    async def _stream(self, request: web.Request, response: web.StreamResponse) -> None:
        headers = {key: value for key, value in request.headers.items() if key.lower() not in HOP_HEADERS}
        forever = aiohttp.ClientTimeout(total=None)
        async with self._session.get(
            f"{self._api.server}{request.path_qs}", headers=headers, timeout=forever
        ) as answer:
            async for chunk in answer.content.iter_any():
                if not self.silent and request.transport not in self._deaf:
                    await response.write(chunk)
        if request.transport in self._deaf:
            await self._ended.wait()
