"""What a node asks and tells node 0. Every wait is a sequence of short requests, so that a dead peer is noticed."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import structlog

from finetune_trainer.config import Document, Failure, PodPath, Prepared, ResultRecord
from finetune_trainer.launch.fencing import answers
from finetune_trainer.launch.protocol import Begin, Join, NodeCheckpoint, NodeEnded, SealedCheckpoint
from finetune_trainer.launch.settings import Settings

HOLD_SECONDS = 15.0
"""How long node 0 holds a request that it can't answer yet."""
LOST_SECONDS = 20.0
"""A node 0 that can't be reached for so long after the attempt has begun is gone."""
_RETRY_SECONDS = 0.2
_WAITING_RETRY_SECONDS_MAX = 1.0
_TIMEOUT = aiohttp.ClientTimeout(total=HOLD_SECONDS + 10, sock_connect=3)

log = structlog.get_logger()


class PeerLostError(Exception):
    """Node 0 can't be reached any more."""


class NodeZero:
    """Client of node 0's /peer endpoints."""

    def __init__(self, session: aiohttp.ClientSession, settings: Settings) -> None:
        self._session = session
        self._settings = settings
        self._url = f"http://{settings.peers[0]}"
        self._secret = ""

    async def join(self, secret: Path) -> Begin:
        """Wait, without a limit, for node 0 to begin the attempt."""
        settings, pause = self._settings, _RETRY_SECONDS
        uid, attempt = settings.config.uid, settings.attempt
        while not await answers(self._session, str(settings.peers[0]), uid, attempt, 0):
            await asyncio.sleep(pause)
            pause = min(pause * 1.5, _WAITING_RETRY_SECONDS_MAX)
        body = Join(uid=uid, attempt=attempt, node=settings.node, port=settings.port)
        while True:
            text = await asyncio.to_thread(_read_if_there, secret)
            if text is not None:
                self._secret = text
                try:
                    status, answer = await self._request("POST", "/peer/join", body)
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    log.info("node 0 does not answer yet", error=str(error))
                    status = 0
                if status == 200:
                    return Begin.model_validate_json(answer)
                if status == 204:
                    continue
            await asyncio.sleep(_RETRY_SECONDS)

    async def prepared(self) -> Prepared | Failure:
        """What prepare left, once it is there, or why it failed."""
        status, answer = await self._until_answered("GET", "/peer/prepared")
        return Prepared.model_validate_json(answer) if status == 200 else Failure.model_validate_json(answer)

    async def report_checkpoint(self, report: NodeCheckpoint) -> None:
        await self._until_answered("POST", "/peer/checkpoint", report)

    async def checkpoint(self, step: int) -> PodPath | None:
        """Path of the sealed checkpoint; None if it was given up."""
        status, answer = await self._until_answered("GET", f"/peer/checkpoint/{step}")
        return SealedCheckpoint.model_validate_json(answer).path if status == 200 else None

    async def end(self) -> str:
        """Wait until node 0 says that it has ended without success; returns why."""
        _, answer = await self._until_answered("GET", "/peer/end")
        return answer.decode()

    async def ended(self, record: ResultRecord) -> None:
        """Tell node 0 how this node ended."""
        await asyncio.wait_for(self._request("POST", "/peer/ended", NodeEnded(record=record)), 5)

    async def _until_answered(self, method: str, path: str, body: Document | None = None) -> tuple[int, bytes]:
        """Repeat a request until it is answered; raise PeerLostError when node 0 has been silent for too long."""
        now = asyncio.get_running_loop().time
        last_answer = now()
        while True:
            try:
                status, answer = await self._request(method, path, body)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                if now() - last_answer > LOST_SECONDS:
                    raise PeerLostError(f"node 0 at {self._url} does not answer: {error!r}") from error
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            last_answer = now()
            if status in (200, 404, 409):
                return status, answer
            if status != 204:
                raise RuntimeError(f"{method} {path} was answered with {status}: {answer[:200]!r}")

    async def _request(self, method: str, path: str, body: Document | None = None) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self._secret}", "Content-Type": "application/json"}
        data = body.to_json() if body else None
        async with self._session.request(method, self._url + path, data=data, headers=headers, timeout=_TIMEOUT) as got:
            return got.status, await got.read()


def _read_if_there(file: Path) -> str | None:
    try:
        return file.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
