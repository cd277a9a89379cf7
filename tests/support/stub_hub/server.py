"""The Hub as a server: bytes in, bytes out, and the faults that a test has ordered."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from urllib.parse import unquote, urlsplit

from tests.support.serving import Handler, serving
from tests.support.stub_hub.messages import Answer, Request
from tests.support.stub_hub.routes import respond
from tests.support.stub_hub.state import Fault, StubHub


@contextmanager
def stub_hub(host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> Iterator[StubHub]:
    """Serve a Hub on an address of this machine, until the block ends."""
    hub = StubHub()
    with serving(_Handler, host, tls=tls, hub=hub) as hub.endpoint:
        yield hub


class _Handler(Handler):
    methods = ("GET", "HEAD", "POST", "PUT")
    hub: StubHub

    def serve(self) -> None:
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
        if fault.held is not None:
            fault.held.wait()
        if fault.status is not None and not fault.cut and not fault.lost:
            answer = _refusal(fault)
        else:
            with self.hub.lock:
                answer = respond(self.hub, request)
        fault.done = True
        if fault.lost:
            self.close_connection = True
            return
        self.answer(answer.status, answer.content, answer.headers, cut=fault.cut)

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


def _refusal(fault: Fault) -> Answer:
    if fault.status == HTTPStatus.OK:
        return Answer(HTTPStatus.OK, f"<html>{fault.error}</html>".encode(), {"Content-Type": "text/html"})
    headers = {"Content-Type": "application/json", "X-Error-Message": fault.error, **fault.headers}
    return Answer(fault.status or 503, json.dumps({"error": fault.error}).encode(), headers)
