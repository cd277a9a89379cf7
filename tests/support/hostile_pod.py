"""A training image that lies: answers that a tenant may let his own pod give to the operator."""

from __future__ import annotations

import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from tests.support.serving import Handler, serving

PORT = 8080
ENDLESS_BYTES = 2**30
CHUNK = b"x" * 2**16


@dataclass
class HostilePod:
    """A lying pod: its answers, and the requests that it got."""

    address: str
    says: dict[str, Any] = field(default_factory=dict)
    """Content of an honest answer."""
    way: str = "redirect"
    asked: Counter[str] = field(default_factory=Counter)
    """Number of requests by way; by path where that is not the path of progress."""
    sent: int = 0
    """Bytes of endless answers."""
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def answer(self) -> dict[str, Any]:
        """Return the answer, for the ways that answer with JSON."""
        number = next(self.numbers)
        progress = {**self.says, "updated": datetime.now(UTC).isoformat(), "step": number}
        if self.way == "metrics":
            return {**progress, "evaluation": {f"metric {index}": 0.5 for index in range(120_000)}}
        if self.way == "many metrics":
            return {**progress, "evaluation": {f"metric {index}": 0.5 for index in range(5_000)}}
        return {**progress, "messages": [f"\x1b[31mcall 0800 {number} {index}" for index in range(32)]}


class _Handler(Handler):
    pod: HostilePod

    def serve(self) -> None:
        if self.path != "/progress":
            self.pod.asked[self.path] += 1
            return self.answer(200, b"{}")
        self.pod.asked[self.pod.way] += 1
        if self.pod.way == "redirect":
            return self.answer(302, headers={"Location": f"http://{self.pod.address}:{PORT}/elsewhere"})
        if self.pod.way == "endless":
            return self._send_without_end()
        return self.answer(200, json.dumps(self.pod.answer()).encode())

    def _send_without_end(self) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Length", str(ENDLESS_BYTES))
        self.end_headers()
        for _ in range(ENDLESS_BYTES // len(CHUNK)):
            self.wfile.write(CHUNK)
            with _sending:
                self.pod.sent += len(CHUNK)


_sending = threading.Lock()


@contextmanager
def hostile_pod(address: str, **says: Any) -> Iterator[HostilePod]:
    """Serve on the address of a pod, at the port of its progress."""
    pod = HostilePod(address, says)
    with serving(_Handler, address, PORT, pod=pod):
        yield pod
