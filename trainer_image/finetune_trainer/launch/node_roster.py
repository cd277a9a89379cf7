"""The other nodes as node 0 sees them: which wait to begin, what they were told, which have ended."""

from __future__ import annotations

import asyncio

from finetune_trainer.contract.launch_protocol import Begin
from finetune_trainer.contract.records import Outcome, ResultRecord


class NodeRoster:
    """The nodes of one attempt, as node 0 knows them."""

    def __init__(self, nodes: int) -> None:
        self._nodes = nodes
        self._changed = asyncio.Condition()
        self._waiting: dict[int, str] = {}
        self._worker_ports: dict[int, int | None] = {}
        self.begin: asyncio.Future[Begin] = asyncio.get_running_loop().create_future()
        self.ended: dict[int, ResultRecord] = {}
        self.seen_as: str | None = None
        """Our own address, as the last peer that joined has reached it."""

    async def joined(self, node: int, address: str, seen_as: str, worker_port: int | None = None) -> None:
        """Note a peer that waits with an open connection."""
        async with self._changed:
            self._waiting[node] = address
            self._worker_ports[node] = worker_port
            self.seen_as = seen_as
            self._changed.notify_all()

    async def left(self, node: int) -> None:
        """Forget a peer whose connection broke before the attempt had begun."""
        async with self._changed:
            self._waiting.pop(node, None)

    @property
    def missing(self) -> list[int]:
        """Nodes that do not wait yet."""
        return [node for node in range(1, self._nodes) if node not in self._waiting]

    async def complete(self) -> dict[int, str]:
        """Return `ip:port` of every peer, once all of them wait at the same time."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._waiting) == self._nodes - 1)
            return dict(self._waiting)

    def workers(self, own: str) -> tuple[str, ...]:
        """Return `host:port` for a program of each node, node 0 (`own`) first; nothing where a peer has named no port."""
        ports = {node: self._worker_ports.get(node) for node in sorted(self._waiting)}
        if None in ports.values():
            return ()
        return (own, *(f"{self._waiting[node].rpartition(':')[0]}:{port}" for node, port in ports.items()))

    async def has_ended(self, record: ResultRecord) -> None:
        async with self._changed:
            self.ended[record.node] = record
            self._changed.notify_all()

    async def all_ended(self) -> None:
        """Wait until every peer has reported its end."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self.ended) == self._nodes - 1)

    @property
    def failed(self) -> ResultRecord | None:
        """The first peer that ended without success."""
        return next((record for record in self.ended.values() if record.outcome is not Outcome.SUCCEEDED), None)
