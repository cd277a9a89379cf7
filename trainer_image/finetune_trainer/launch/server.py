"""The HTTP server of a node: /metrics, /progress and /healthz for the cluster, /rank for its ranks, /peer for nodes.

Handlers parse, hand over to the node's parts, and answer; they decide nothing. Ranks authenticate with a token and come
from loopback; nodes authenticate with the attempt's secret.
"""

from __future__ import annotations

import asyncio
import hmac
import ipaddress
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from typing import TypeVar

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware
from pydantic import BaseModel, ValidationError

from finetune_trainer.contract.frozen_document import Document
from finetune_trainer.contract.launch_protocol import (
    Join,
    NodeCheckpoint,
    NodeEnded,
    NodeHealth,
    RankCheckpoint,
    RankModel,
    RankProgress,
    RankResult,
    SealedCheckpoint,
    Superseded,
)
from finetune_trainer.contract.records import Failure, Outcome
from finetune_trainer.launch.launch_settings import Peer
from finetune_trainer.launch.node import Ending, Node, in_short
from finetune_trainer.launch.peers import HOLD_SECONDS
from finetune_trainer.launch.progress_state import KubeflowStatus
from finetune_trainer.launch.sealing import SupersededError
from finetune_trainer.shared.checkpoints.manifest import BrokenError
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.paths import to_pod
from finetune_trainer.shared.volume import VolumeError

log = structlog.get_logger()

B = TypeVar("B", bound=BaseModel)
T = TypeVar("T")
_BODY_BYTES_MAX = 64 << 20
"""Lists of files can be long; nothing larger is ever sent."""


def application(node: Node) -> web.Application:
    """Return all routes of a node."""
    app = web.Application(middlewares=[_guard(node)], client_max_size=_BODY_BYTES_MAX)
    app.add_routes(_Cluster(node).routes() + _FromRanks(node).routes() + _FromPeers(node).routes())
    return app


def _guard(node: Node) -> Middleware:
    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(("/rank/", "/kubeflow")):
            _require(request, node.ranks.token)
            if not _from_loopback(request):
                raise web.HTTPForbidden(text="only ranks of this pod may ask")
        elif request.path.startswith("/peer/"):
            _require(request, node.secret)
        try:
            return await handler(request)
        except ValidationError as error:
            raise web.HTTPBadRequest(text=str(error)) from error
        except SupersededError as error:
            node.end(Ending.SUPERSEDED, str(error))
            raise web.HTTPConflict(text=str(error)) from error
        except VolumeError as error:
            node.went_wrong(error)
            raise web.HTTPServiceUnavailable(text=str(error)) from error

    return guard


def _require(request: web.Request, secret: str | None) -> None:
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    if secret is None or not hmac.compare_digest(token.encode(), secret.encode()):
        raise web.HTTPUnauthorized(text="the token does not fit")


def _from_loopback(request: web.Request) -> bool:
    address = ipaddress.ip_address(request.remote or "0.0.0.0")
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


async def _body(request: web.Request, kind: type[B]) -> B:
    return kind.model_validate_json(await request.read())


def _json(document: Document, status: int = 200) -> web.Response:
    return web.Response(text=document.to_json(), status=status, content_type="application/json")


async def _held(future: asyncio.Future[T]) -> T:
    """Wait for a result, but not longer than a peer waits for an answer; then answer 204, which means to ask again."""
    try:
        return await asyncio.wait_for(asyncio.shield(future), HOLD_SECONDS)
    except TimeoutError as error:
        raise web.HTTPNoContent from error


class _Cluster:
    """Routes for the operator, Prometheus and kubelet."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/metrics", self.metrics),
            web.get("/progress", self.progress),
            web.get("/healthz", self.healthz),
        ]

    async def metrics(self, _: web.Request) -> web.Response:
        node = self._node
        node.metrics.set_phase(node.progress_state.phase)
        with suppress(OSError, TimeoutError):  # a volume that hangs must not take the other metrics with it
            space = await asyncio.wait_for(asyncio.to_thread(os.statvfs, node.settings.layout.output), 1)
            node.metrics.free_bytes.set(space.f_bavail * space.f_frsize)
        return web.Response(body=node.metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def progress(self, _: web.Request) -> web.Response:
        return _json(self._node.progress_state.document())

    async def healthz(self, _: web.Request) -> web.Response:
        settings = self._node.settings
        begun = self._node.progress_state.begun is not None
        return _json(NodeHealth(uid=settings.config.uid, attempt=settings.attempt, node=settings.node, begun=begun))


class _FromRanks:
    """Routes for the ranks of this node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/rank/prepared", self.prepared),
            web.get("/rank/stopping", self.stopping),
            web.get("/rank/others", self.others),
            web.post("/rank/progress", self.progress),
            web.post("/rank/advanced", self.advanced),
            web.post("/rank/checkpoint", self.checkpoint),
            web.get(r"/rank/checkpoint/{step:\d+}", self.sealed),
            web.post("/rank/model", self.model),
            web.post("/rank/result", self.result),
            web.post("/kubeflow", self.kubeflow),
        ]

    async def prepared(self, _: web.Request) -> web.Response:
        prepared = await asyncio.shield(self._node.prepared)
        return _json(prepared, 409 if isinstance(prepared, Failure) else 200)

    async def stopping(self, _: web.Request) -> web.Response:
        return web.Response(text="true" if self._node.stopped.is_set() else "false")

    async def others(self, _: web.Request) -> web.Response:
        late = await self._node.others_ended()
        if self._node.ended.done():
            raise web.HTTPConflict(text="another rank has not ended well")
        if late is not None:
            raise web.HTTPRequestTimeout(text=late)
        return web.Response()

    async def progress(self, request: web.Request) -> web.Response:
        report = await _body(request, RankProgress)
        self._node.progress_state.absorb(report, datetime.now(UTC))
        self._node.metrics.absorb(report, time.time())
        return _json(self._node.coordinator.saved) if self._node.coordinator is not None else web.Response()

    async def advanced(self, _: web.Request) -> web.Response:
        self._node.client.ranks_advance()
        return web.Response()

    async def kubeflow(self, request: web.Request) -> web.Response:
        status = await _body(request, KubeflowStatus)
        report = self._node.progress_state.absorb_kubeflow(status, datetime.now(UTC))
        if report is not None:
            self._node.metrics.absorb(report, time.time())
        return web.Response()

    async def checkpoint(self, request: web.Request) -> web.Response:
        self._node.checkpoint_writer.rank_reported(await _body(request, RankCheckpoint))
        return web.Response()

    async def sealed(self, request: web.Request) -> web.Response:
        try:
            path = await self._node.sealed(int(request.match_info["step"]))
        except BrokenError as error:
            raise web.HTTPNotFound(text=str(error)) from error
        return _json(SealedCheckpoint(path=path))

    async def model(self, request: web.Request) -> web.Response:
        node = self._node
        if node.coordinator is None:
            raise web.HTTPConflict(text="only rank 0 hands over a model")
        try:
            path = await node.coordinator.seal_model(await _body(request, RankModel))
        except VolumeError:
            raise  # the guard answers, as for every other request
        except ExpectedError as error:
            node.end(Ending.BROKEN, str(error), error.failure)
            raise web.HTTPConflict(text=str(error)) from error
        return _json(SealedCheckpoint(path=path))

    async def result(self, request: web.Request) -> web.Response:
        result = await _body(request, RankResult)
        self._node.rank_reported(result)
        return web.Response()


class _FromPeers:
    """Routes for the `launch` of other nodes; all but /peer/superseded are on node 0 alone."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        of_every_node = [web.post("/peer/superseded", self.superseded)]
        if self._node.roster is None:
            return of_every_node
        return [
            *of_every_node,
            web.post("/peer/join", self.join),
            web.get("/peer/prepared", self.prepared),
            web.post("/peer/checkpoint", self.checkpoint),
            web.get(r"/peer/checkpoint/{step:\d+}", self.sealed),
            web.get("/peer/end", self.end),
            web.post("/peer/ended", self.ended),
        ]

    async def superseded(self, request: web.Request) -> web.Response:
        notice = await _body(request, Superseded)
        if notice.attempt > self._node.settings.attempt:
            self._node.end(Ending.SUPERSEDED, f"attempt {notice.attempt} has begun")
        return web.Response()

    async def join(self, request: web.Request) -> web.Response:
        join = await _body(request, Join)
        roster, settings = self._node.node_zero_parts().roster, self._node.settings
        if (join.uid, join.attempt) != (settings.config.uid, settings.attempt) or join.node >= settings.config.nodes:
            raise web.HTTPConflict(text=f"this is attempt {settings.attempt} of {settings.config.uid}")
        own = request.transport.get_extra_info("sockname")[0] if request.transport else ""
        address = str(Peer(_plain(request.remote or ""), join.port))
        await roster.joined(join.node, address, _plain(own), join.worker_port)
        try:
            begun = await _held(roster.begin)
        except asyncio.CancelledError:
            await roster.left(join.node)
            raise
        return _json(begun)

    async def prepared(self, _: web.Request) -> web.Response:
        prepared = await _held(self._node.prepared)
        return _json(prepared, 409 if isinstance(prepared, Failure) else 200)

    async def checkpoint(self, request: web.Request) -> web.Response:
        await self._node.node_zero_parts().coordinator.node_reported(await _body(request, NodeCheckpoint))
        return web.Response()

    async def sealed(self, request: web.Request) -> web.Response:
        folder = await _held(self._node.node_zero_parts().coordinator.done(int(request.match_info["step"])))
        if folder is None:
            raise web.HTTPNotFound(text="the checkpoint was given up")
        return _json(SealedCheckpoint(path=to_pod(folder)))

    async def end(self, _: web.Request) -> web.Response:
        until = asyncio.get_running_loop().time() + HOLD_SECONDS
        ending, text = await _held(self._node.ended)
        if ending in (Ending.RANKS_DONE, Ending.NOTHING_TO_DO):
            await asyncio.sleep(until - asyncio.get_running_loop().time())
            raise web.HTTPNoContent
        return web.Response(text=text if ending is Ending.PEER_FAILED else f"node 0 has ended: {text or ending}")

    async def ended(self, request: web.Request) -> web.Response:
        record = (await _body(request, NodeEnded)).record
        await self._node.node_zero_parts().roster.has_ended(record)
        if record.outcome is not Outcome.SUCCEEDED:
            self._node.peer_fell(f"node {record.node} has ended: {in_short(record.failure)}")
        return web.Response()


def _plain(address: str) -> str:
    """Return an IPv4 address as such, even where it came through an IPv6 socket."""
    return address.removeprefix("::ffff:")
