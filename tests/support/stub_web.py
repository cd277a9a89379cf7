"""A web server with files: entity tags, parts of files, cut connections, refusals, as a test orders them."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit


@dataclass
class StubWeb:
    files: dict[str, bytes] = field(default_factory=dict)
    """Path -> content."""
    tags: bool = True
    """Whether it tells an ETag."""
    parts: bool = True
    """Whether it answers requests for a part of a file."""
    heads: bool = True
    """Whether it answers HEAD."""
    cuts: int = 0
    """Answers to break off half way."""
    statuses: dict[str, int] = field(default_factory=dict)
    """Path -> what it answers in place of the file."""
    kind: str = "application/octet-stream"
    encoding: str = ""
    """How it says that it has packed what it sends."""
    asked: list[str] = field(default_factory=list)
    """`METHOD /path range`."""
    endpoint: str = ""


@contextmanager
def stub_web() -> Iterator[StubWeb]:
    """A server on an address of this machine, until the block ends."""
    web = StubWeb()
    server = _Server(("127.0.0.1", 0), type("Handler", (_Handler,), {"web": web}))
    web.endpoint = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    try:
        yield web
    finally:
        server.shutdown()
        server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up when they have what they need."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    web: StubWeb

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._serve()

    def do_GET(self) -> None:
        self._serve()

    def _serve(self) -> None:
        web, path, asked = self.web, urlsplit(self.path).path, self.headers.get("Range", "")
        web.asked.append(f"{self.command} {path} {asked}".strip())
        status = web.statuses.get(path, 200 if path in web.files else 404)
        if self.command == "HEAD" and not web.heads:
            status = 405
        if status != 200:
            return self._send(status, b"not for you", {})
        content = web.files[path]
        headers = {"ETag": f'"{hashlib.sha256(content).hexdigest()[:16]}"'} if web.tags else {}
        headers |= {"Content-Encoding": web.encoding} if web.encoding else {}
        match = re.fullmatch(r"bytes=(\d+)-(\d*)", asked)
        if match is None or not web.parts or self.headers.get("If-Range", headers.get("ETag")) != headers.get("ETag"):
            return self._send(200, content, headers)
        first, last = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
        headers["Content-Range"] = f"bytes {first}-{last}/{len(content)}"
        return self._send(206, content[first : last + 1], headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Type": self.web.kind, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.web.cuts > 0:
            self.web.cuts -= 1
            content, self.close_connection = content[: len(content) // 2], True
        self.wfile.write(content)
