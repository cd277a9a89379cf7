"""A web server with files: entity tags, parts of files, cut connections, refusals, as a test orders them."""

from __future__ import annotations

import hashlib
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.support.serving import Handler, part_of, serving


@dataclass
class StubWeb:
    files: dict[str, bytes] = field(default_factory=dict)
    """Path -> content."""
    tags: bool = True
    """Whether the server sends an ETag."""
    parts: bool = True
    """Whether the server answers requests for a part of a file."""
    heads: bool = True
    """Whether the server answers HEAD."""
    cuts: int = 0
    """Answers to break off half way."""
    statuses: dict[str, int] = field(default_factory=dict)
    """Path -> status of the answer in place of the file."""
    kind: str = "application/octet-stream"
    encoding: str = ""
    """Content encoding that the answers claim to have."""
    asked: list[str] = field(default_factory=list)
    """`METHOD /path range`."""
    endpoint: str = ""


@contextmanager
def stub_web(tls: ssl.SSLContext | None = None) -> Iterator[StubWeb]:
    """Serve on an address of this machine, until the block ends."""
    web = StubWeb()
    with serving(_Handler, tls=tls, web=web) as web.endpoint:
        yield web


class _Handler(Handler):
    web: StubWeb

    def serve(self) -> None:
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
        part = part_of(content, asked)
        if part is None or not web.parts or self.headers.get("If-Range", headers.get("ETag")) != headers.get("ETag"):
            return self._send(200, content, headers)
        content, place = part
        return self._send(206, content, headers | place)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        cut = self.command != "HEAD" and self.web.cuts > 0
        self.web.cuts -= cut
        self.answer(status, content, {**headers, "Content-Type": self.web.kind}, cut=cut)
