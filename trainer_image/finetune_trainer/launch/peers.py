"""The requests of a node to node 0. Every wait is a sequence of short requests, so that a dead peer is noticed."""

from __future__ import annotations

import asyncio
import errno
from http import HTTPStatus

import aiohttp
import structlog

from finetune_trainer.contract.frozen_document import Document, PodPath
from finetune_trainer.contract.launch_protocol import Begin, Join, NodeCheckpoint, NodeEnded, SealedCheckpoint
from finetune_trainer.contract.prepared import Prepared
from finetune_trainer.contract.records import Failure, ResultRecord
from finetune_trainer.launch.launch_settings import Settings
from finetune_trainer.launch.meeting import Meeting
from finetune_trainer.shared import host

HOLD_SECONDS = 5.0
"""Time that node 0 holds a request that it can't answer yet."""
ANSWER_SECONDS = HOLD_SECONDS + 3
"""Time after which a request without an answer is lost, and made again."""
LOST_SECONDS = 60.0
"""Time without an answer after which node 0 is gone, unless the ranks advance: those of node 0 are among them."""
SILENCE_SECONDS = 10.0
"""Time without an answer after which a line is logged."""
TELL_SECONDS = 5.0
"""Time for reporting the end of this node; one try takes no longer than `TELL_TRY_SECONDS`."""
TELL_TRY_SECONDS = 1.5
_RETRY_SECONDS = 0.2
_CONNECT_SECONDS = 3.0

log = structlog.get_logger()


class PeerLostError(Exception):
    """Node 0 can't be reached any more."""


class NodeZero:
    """Client of the /peer endpoints of node 0."""

    def __init__(self, session: aiohttp.ClientSession, settings: Settings) -> None:
        self._session = session
        self._settings = settings
        self._url = ""
        """Built from the address at which node 0 was met: its name is not resolved again."""
        self._secret = ""
        self._answered = 0.0
        self._advanced = 0.0
        self._silence_logged = False

    def ranks_advance(self) -> None:
        """Note that a rank of this node advanced, so the ranks of node 0 are alive, whatever becomes of our requests."""
        self._advanced = asyncio.get_running_loop().time()

    async def join(self) -> Begin:
        """Wait, without a limit, for node 0 to begin the attempt."""
        meeting = Meeting(self._session, self._settings)
        while True:
            self._url = f"http://{await meeting.node_zero()}"
            self._secret = await meeting.secret()
            begun = await self._wait_to_begin()
            if begun is not None:
                return begun
            await asyncio.sleep(_RETRY_SECONDS)

    async def _wait_to_begin(self) -> Begin | None:
        """Return the answer of node 0 when the attempt begins; None where it does not answer any more, or does not know us."""
        settings = self._settings
        body = Join(
            uid=settings.config.uid,
            attempt=settings.attempt,
            node=settings.node,
            port=settings.port,
            worker_port=host.free_port(settings.bind or "127.0.0.1"),
        )
        while True:
            try:
                status, answer = await self._request("POST", "/peer/join", body)
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                log.info("node 0 does not answer yet", error=str(error))
                return None
            if status == HTTPStatus.OK:
                return Begin.model_validate_json(answer)
            if status != HTTPStatus.NO_CONTENT:
                return None

    async def prepared(self) -> Prepared | Failure:
        """Return the prepared data, once it exists, or why preparing failed."""
        status, answer = await self._until_answered("GET", "/peer/prepared")
        return Prepared.model_validate_json(answer) if status == HTTPStatus.OK else Failure.model_validate_json(answer)

    async def report_checkpoint(self, report: NodeCheckpoint) -> None:
        await self._until_answered("POST", "/peer/checkpoint", report)

    async def checkpoint(self, step: int) -> PodPath | None:
        """Return the path of the sealed checkpoint; None if it was given up."""
        status, answer = await self._until_answered("GET", f"/peer/checkpoint/{step}")
        return SealedCheckpoint.model_validate_json(answer).path if status == HTTPStatus.OK else None

    async def end(self) -> str:
        """Wait until node 0 reports that it has ended without success; return why."""
        _, answer = await self._until_answered("GET", "/peer/end")
        return answer.decode()

    async def ended(self, record: ResultRecord) -> None:
        """Report the end of this node to node 0, several times because an answer may be lost. Raise TimeoutError if none came."""
        body = NodeEnded(record=record)
        async with asyncio.timeout(TELL_SECONDS):
            while True:
                try:
                    status, _ = await asyncio.wait_for(self._request("POST", "/peer/ended", body), TELL_TRY_SECONDS)
                except (aiohttp.ClientError, TimeoutError, OSError) as error:
                    if isinstance(error, aiohttp.ClientConnectorError) and error.os_error.errno == errno.ECONNREFUSED:
                        raise  # nobody listens there any more
                else:
                    if status < HTTPStatus.INTERNAL_SERVER_ERROR:
                        return
                await asyncio.sleep(_RETRY_SECONDS)

    async def _until_answered(self, method: str, path: str, body: Document | None = None) -> tuple[int, bytes]:
        """Repeat a request until it is answered. Raise PeerLostError when node 0 and the ranks were silent for too long."""
        now = asyncio.get_running_loop().time
        began = now()
        while True:
            try:
                status, answer = await self._request(method, path, body)
                problem = f"status {status}" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else None
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                status, answer, problem = 0, b"", repr(error)
            if problem is not None:  # 5xx: node 0 has trouble with its volume, or a proxy answers
                self._no_answer(max(began, self._answered), problem)
                await asyncio.sleep(_RETRY_SECONDS)
                continue
            self._answered = now()
            if self._silence_logged:
                self._silence_logged = False
                log.info("node 0 answers again")
            if status in (HTTPStatus.OK, HTTPStatus.NOT_FOUND, HTTPStatus.CONFLICT):
                return status, answer
            if status != HTTPStatus.NO_CONTENT:
                raise RuntimeError(f"{method} {path} was answered with {status}: {answer[:200]!r}")

    def _no_answer(self, since: float, problem: str) -> None:
        """Judge a request without an answer by how long node 0 has been silent."""
        now = asyncio.get_running_loop().time()
        if now - max(since, self._advanced) > LOST_SECONDS:
            text = f"node 0 at {self._url} has not answered for {now - since:.0f} s, nor do the ranks get on: {problem}"
            raise PeerLostError(text)
        if now - since > SILENCE_SECONDS and not self._silence_logged:
            self._silence_logged = True
            log.warning("node 0 does not answer", seconds=round(now - since), problem=problem)

    async def _request(self, method: str, path: str, body: Document | None = None) -> tuple[int, bytes]:
        headers = {"Authorization": f"Bearer {self._secret}", "Content-Type": "application/json"}
        data = body.to_json() if body else None
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS, sock_connect=_CONNECT_SECONDS)
        async with self._session.request(
            method, self._url + path, data=data, headers=headers, timeout=timeout, allow_redirects=False
        ) as response:
            return response.status, await response.read()
