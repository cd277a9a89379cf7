"""A proxy as companies have it, which forwards the connections of people whom it knows."""

from __future__ import annotations

import base64
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from tests.support.serving import Handler, serving


@dataclass
class Proxy:
    account: str = ""
    """`name:password` of the user who may connect; empty: everybody may."""
    asked: list[str] = field(default_factory=list)
    """`host:port` of the connections that went through it."""
    endpoint: str = ""


@contextmanager
def proxy(account: str = "") -> Iterator[Proxy]:
    """Serve on an address of this machine, until the block ends."""
    made = Proxy(account)
    with serving(_Handler, proxy=made) as made.endpoint:
        yield made


class _Handler(Handler):
    methods = ("CONNECT",)
    proxy: Proxy

    def serve(self) -> None:
        wanted = f"Basic {base64.b64encode(self.proxy.account.encode()).decode()}"
        if self.proxy.account and self.headers.get("Proxy-Authorization") != wanted:
            self.answer(407, b"who are you?", {"Proxy-Authenticate": "Basic"})
            return
        self.proxy.asked.append(self.path)
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port))) as beyond:
            self.send_response(200)
            self.end_headers()
            self.wfile.flush()
            back = threading.Thread(target=_pass_on, args=(beyond, self.connection), daemon=True)
            back.start()
            _pass_on(self.connection, beyond)
            back.join()
        self.close_connection = True


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
