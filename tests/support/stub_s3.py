"""An S3 for its clients: HEAD, GET of a range, listings a page at a time, refusals in XML. Buckets are dictionaries.

A request without a signature of the known key is refused, unless its bucket is public. Signatures are not computed again:
that is the client library's business; ours is that one is sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from tests.support.serving import Handler, part_of, serving

ACCESS_KEY, SECRET_KEY = "AKIATEST", "a-secret-of-the-test"
PAGE = 2
"""Keys in a part of a listing."""
MODIFIED = "Thu, 01 Jan 2026 00:00:00 GMT"


@dataclass
class StubS3:
    buckets: dict[str, dict[str, bytes]] = field(default_factory=dict)
    public: set[str] = field(default_factory=set)
    failing: int = 0
    """Number of requests to answer with 503 from now on."""
    asked: list[str] = field(default_factory=list)
    """`METHOD /bucket/key range`."""
    endpoint: str = ""


@contextmanager
def stub_s3() -> Iterator[StubS3]:
    """Serve an S3 on an address of this machine, until the block ends."""
    s3 = StubS3()
    with serving(_Handler, s3=s3) as s3.endpoint:
        yield s3


class _Handler(Handler):
    s3: StubS3

    def serve(self) -> None:
        address = urlsplit(self.path)
        bucket, _, key = unquote(address.path).lstrip("/").partition("/")
        asked = self.headers.get("Range", "")
        self.s3.asked.append(f"{self.command} /{bucket}/{key} {asked}".strip())
        if self.s3.failing > 0:
            self.s3.failing -= 1
            return self._refuse(503, "SlowDown", "Please reduce your request rate.")
        signature = self.headers.get("Authorization", "")
        if bucket not in self.s3.public and f"Credential={ACCESS_KEY}/" not in signature:
            code = "InvalidAccessKeyId" if signature else "AccessDenied"
            return self._refuse(403, code, "Access Denied")
        if bucket not in self.s3.buckets:
            return self._refuse(404, "NoSuchBucket", "The specified bucket does not exist")
        objects = self.s3.buckets[bucket]
        if not key:
            return self._list(bucket, objects, {name: values[0] for name, values in parse_qs(address.query).items()})
        if key not in objects:
            return self._refuse(404, "NoSuchKey", "The specified key does not exist.")
        return self._object(objects[key], asked)

    def _object(self, content: bytes, asked: str) -> None:
        headers = {
            "ETag": f'"{_etag(content)}"',
            "Last-Modified": MODIFIED,
            "Accept-Ranges": "bytes",
            "Content-Type": "application/octet-stream",
        }
        part = part_of(content, asked)
        if part is None:
            return self.answer(200, content, headers)
        content, place = part
        if not content:
            return self._refuse(416, "InvalidRange", "The requested range is not satisfiable")
        return self.answer(206, content, headers | place)

    def _list(self, bucket: str, objects: dict[str, bytes], query: dict[str, str]) -> None:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        entries: dict[str, bytes | None] = {}
        for key in sorted(objects):
            if key.startswith(prefix):
                inner = key[len(prefix) :].split(delimiter)[0] if delimiter else key[len(prefix) :]
                folder = bool(delimiter) and len(inner) < len(key) - len(prefix)
                entries[f"{prefix}{inner}{delimiter}" if folder else key] = None if folder else objects[key]
        names = [name for name in entries if name > query.get("continuation-token", "")]
        page, rest = names[:PAGE], names[PAGE:]
        parts = [f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(page)}</KeyCount>"]
        parts.append(f"<MaxKeys>{PAGE}</MaxKeys><IsTruncated>{str(bool(rest)).lower()}</IsTruncated>")
        if rest:
            parts.append(f"<NextContinuationToken>{escape(page[-1])}</NextContinuationToken>")
        for name in page:
            content = entries[name]
            if content is None:
                parts.append(f"<CommonPrefixes><Prefix>{escape(name)}</Prefix></CommonPrefixes>")
            else:
                parts.append(
                    f"<Contents><Key>{escape(name)}</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
                    f"<ETag>&quot;{_etag(content)}&quot;</ETag><Size>{len(content)}</Size></Contents>"
                )
        space = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
        body = f'<?xml version="1.0" encoding="UTF-8"?><ListBucketResult {space}>{"".join(parts)}</ListBucketResult>'
        self.answer(200, body.encode(), {"Content-Type": "application/xml"})

    def _refuse(self, status: int, code: str, message: str) -> None:
        body = f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>{message}</Message></Error>'
        self.answer(status, body.encode(), {"Content-Type": "application/xml"})


def _etag(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
