"""The Hub as a server: bytes in, bytes out, and the bad days that a test has ordered."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from tests.support.stub_hub.messages import Answer, Request
from tests.support.stub_hub.routes import respond
from tests.support.stub_hub.state import Fault, StubHub


@contextmanager
def stub_hub(host: str = "127.0.0.1") -> Iterator[StubHub]:
    """A Hub on an address of this machine, until the block ends."""
    hub = StubHub()
    server = _Server((host, 0), _handler(hub))
    hub.endpoint = f"http://{host}:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients that are killed in the middle of a request are what tests are about."""


def _handler(hub: StubHub) -> type[BaseHTTPRequestHandler]:
    return type("Handler", (_Handler,), {"hub": hub})


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    hub: StubHub

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_PUT(self) -> None:
        self._serve()

    def _serve(self) -> None:
        address = urlsplit(self.path)
        path, parts = unquote(address.path), tuple(unquote(part) for part in address.path.strip("/").split("/"))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.hub.asked.append(f"{self.command} {path}")
        fault = self.hub.fault_for(self.command, path) or Fault(status=None)
        if fault.cut and self._length() > 0:
            self.rfile.read(self._length() // 2)
            self.close_connection = True
            return
        request = Request(self.command, path, parts, address.query, headers, self._body())
        self.hub.tokens.add(request.token)
        time.sleep(fault.delay_seconds)
        if fault.status is not None and not fault.cut and not fault.lost:
            self._send(_refusal(fault))
            return
        with self.hub.lock:
            answer = respond(self.hub, request)
        if fault.lost:
            self.close_connection = True
            return
        self._send(answer, cut=fault.cut)

    def _length(self) -> int:
        return int(self.headers.get("Content-Length") or 0)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(self._length())
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def _send(self, answer: Answer, *, cut: bool = False) -> None:
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.content[: len(answer.content) // 2] if cut else answer.content)
        self.close_connection = self.close_connection or cut


def _refusal(fault: Fault) -> Answer:
    if fault.status == HTTPStatus.OK:
        return Answer(HTTPStatus.OK, f"<html>{fault.error}</html>".encode(), {"Content-Type": "text/html"})
    headers = {"Content-Type": "application/json", "X-Error-Message": fault.error, **fault.headers}
    return Answer(fault.status or 503, json.dumps({"error": fault.error}).encode(), headers)
