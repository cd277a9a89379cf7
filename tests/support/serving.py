"""The common part of the tests' HTTP servers: their start, their answers, and their end with the test."""

from __future__ import annotations

import re
import ssl
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@contextmanager
def serving(
    handler: type[Handler],
    host: str = "127.0.0.1",
    port: int = 0,
    tls: ssl.SSLContext | None = None,
    **known: Any,
) -> Iterator[str]:
    """Serve until the block ends; yield the address. `known` values are attributes of the handlers."""
    methods = {f"do_{method}": handler.serve for method in handler.methods}
    server = _Server((host, port), type(handler.__name__, (handler,), {**known, **methods}))
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield f"{'https' if tls else 'http'}://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore clients that hang up or are killed in the middle of a request: tests do that on purpose."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


class Handler(BaseHTTPRequestHandler):
    """A handler of requests on connections that stay open; it keeps no log."""

    methods: tuple[str, ...] = ("GET", "HEAD")
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def serve(self) -> None:
        raise NotImplementedError

    def answer(
        self, status: int, content: bytes = b"", headers: Mapping[str, str] | None = None, *, cut: bool = False
    ) -> None:
        """Send the whole answer; where it is cut, close the connection in the middle of it."""
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content[: len(content) // 2] if cut else content)
        self.close_connection = self.close_connection or cut


def part_of(content: bytes, asked: str) -> tuple[bytes, dict[str, str]] | None:
    """Return the part of the content that a Range header asks for, and the header of the answer.

    The part is empty where the range begins behind the end. Return None where the header names no range.
    """
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
    if match is None:
        return None
    first, last = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
    return content[first : last + 1], {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
