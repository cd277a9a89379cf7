"""The search for node 0: by its name, and by the address that it has left on the volume, whichever answers first.

DNS may know nothing of a new pod for a minute or more, and answers "no such name" from a cache. No secret is sent to an
address before it has shown that node 0 of this attempt listens there.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import aiohttp
import structlog

from finetune_trainer.launch.fencing import why_unreachable
from finetune_trainer.launch.launch_settings import Peer, Settings
from finetune_trainer.shared.paths import to_pod

WAITING_SECONDS = 10.0
"""Time without node 0 after which a line is logged; then there is one line a minute."""
WAITING_AGAIN_SECONDS = 60.0
_PAUSE_SECONDS = 0.2
_PAUSE_SECONDS_MAX = 1.0
_ADDRESS_MAX = 100

log = structlog.get_logger()


class Meeting:
    """The search for node 0 of an attempt."""

    def __init__(self, session: aiohttp.ClientSession, settings: Settings) -> None:
        self._session = session
        self._settings = settings
        self._attempt = settings.layout.run.attempt(settings.attempt)

    async def node_zero(self) -> Peer:
        """Return where node 0 answers; wait without a limit, and log what is waited for."""
        name = str(self._settings.peers[0])
        problems = {"by name": f"{name} has not been resolved yet", "by address": "the volume was not read yet"}
        tries = [
            asyncio.create_task(_until_found(self._by_name, "by name", problems)),
            asyncio.create_task(_until_found(self._by_address, "by address", problems)),
        ]
        try:
            seconds, waited = WAITING_SECONDS, 0.0
            while True:
                done, _ = await asyncio.wait(tries, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
                if done:
                    return done.pop().result()
                waited += seconds
                seconds = WAITING_AGAIN_SECONDS
                log.warning("node 0 is not found", seconds=round(waited), **problems)
        finally:
            for task in tries:
                task.cancel()

    async def secret(self) -> str:
        """Return the secret that node 0 has left on the volume for the others; wait for it without a limit, and log that."""
        file, loop = self._attempt.secret, asyncio.get_running_loop()
        tell_at = loop.time() + WAITING_SECONDS
        while True:
            secret, problem = await asyncio.to_thread(_read, file)
            if secret is not None:
                return secret
            if loop.time() >= tell_at:
                tell_at += WAITING_AGAIN_SECONDS
                log.warning(
                    "node 0 answers, but its secret is not on the volume: is it the same one?",
                    file=to_pod(file),
                    problem=problem,
                )
            await asyncio.sleep(_PAUSE_SECONDS)

    async def _by_name(self) -> Peer | str:
        peer = self._settings.peers[0]
        try:
            hosts = await _resolve(peer.host)
        except OSError as error:
            return f"the name {peer.host} can't be resolved: {error.strerror or error}"
        problem = f"the name {peer.host} has no address"
        for host in hosts:
            answer = await self._answers(Peer(host, peer.port))
            if isinstance(answer, Peer):
                return answer
            problem = answer
        return problem

    async def _by_address(self) -> Peer | str:
        address, problem = await asyncio.to_thread(_read, self._attempt.address)
        if address is None:
            return f"{to_pod(self._attempt.address)} can't be read: {problem}"
        try:
            peer = Peer.parse(address[:_ADDRESS_MAX])
        except ValueError:
            return f"{to_pod(self._attempt.address)} holds no address"
        return await self._answers(peer)

    async def _answers(self, peer: Peer) -> Peer | str:
        config = self._settings.config
        return await why_unreachable(self._session, str(peer), config.uid, self._settings.attempt, 0) or peer


async def _until_found(search: Callable[[], Awaitable[Peer | str]], name: str, problems: dict[str, str]) -> Peer:
    pause = _PAUSE_SECONDS
    while True:
        answer = await search()
        if isinstance(answer, Peer):
            return answer
        problems[name] = answer
        await asyncio.sleep(pause)
        pause = min(pause * 1.5, _PAUSE_SECONDS_MAX)


async def _resolve(host: str) -> list[str]:
    """Return the addresses of a name, from a new request; raise OSError. The request's thread is never waited for: it may hang."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def deliver(hosts: list[str] | OSError) -> None:
        if answer.done():
            return
        if isinstance(hosts, OSError):
            answer.set_exception(hosts)
        else:
            answer.set_result(hosts)

    def ask() -> None:
        hosts: list[str] | OSError
        try:
            entries = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            hosts = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
        except OSError as error:
            hosts = error
        except UnicodeError as error:
            hosts = OSError(f"no name of a host: {error}")
        with suppress(RuntimeError):  # the loop has ended meanwhile
            loop.call_soon_threadsafe(deliver, hosts)

    threading.Thread(target=ask, name=f"resolve {host}", daemon=True).start()
    return await answer


def _read(file: Path) -> tuple[str | None, str]:
    """Return the content of a file on the volume, or why it can't be read now: a volume may hang, or be stale for a moment."""
    try:
        return file.read_text(encoding="utf-8", errors="replace").strip(), ""
    except OSError as error:
        return None, error.strerror or str(error)
