"""Files at `https://` addresses: looked up, fetched from where an earlier try has stopped, refusals in the user's words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from finetune_trainer.contract.records import Reason
from finetune_trainer.prepare.content import COMPRESSIONS
from finetune_trainer.prepare.remote import BeginAgain, changed, patiently, unavailable
from finetune_trainer.shared.addresses import shown
from finetune_trainer.shared.connections import refusal, require_usable
from finetune_trainer.shared.failures import ExpectedError

if TYPE_CHECKING:
    import httpx2

SILENCE_SECONDS = 60.0
LENGTH_DIGITS_MAX = 18
"""Digits of a length that is believed: they are enough for an exabyte less one byte, and Python refuses to parse thousands."""
BUSY = (408, 425, 429)
PARTIAL_CONTENT = 206
NO_HEAD = (400, 403, 404, 405, 501)
"""Answers of servers that refuse to be asked for the head alone, signed addresses among them."""


@dataclass(frozen=True)
class WebFile:
    """A file at an address, as the server described it."""

    name: str
    address: str = field(repr=False)
    size: int | None = None
    version: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """The headers that are sent with each request: who asks."""

    def chunks(self, start: int) -> Iterator[bytes]:
        asked = {"Range": f"bytes={start}-"} if start else {}
        if start and not self._can_resume:
            raise BeginAgain
        with _answer("GET", self, asked) as answer:
            if start and answer.status_code != PARTIAL_CONTENT:
                raise BeginAgain
            packed = "Content-Encoding" in self._checked(answer).headers
            if packed and start:
                raise BeginAgain
            # Some servers compress what they send; a file that is compressed itself is kept so.
            unpack = packed and PurePosixPath(self.name).suffix.lower() not in COMPRESSIONS
            yield from answer.iter_bytes() if unpack else answer.iter_raw()

    def read(self, start: int, length: int) -> bytes:
        with _answer("GET", self, {"Range": f"bytes={start}-{start + length - 1}"}) as answer:
            if answer.status_code != PARTIAL_CONTENT:
                raise ExpectedError(
                    Reason.DATA_INVALID,
                    f"{self.name}: the server does not answer requests for a part of a file. Leave "
                    "spec.dataset.streaming out: the file is fetched then.",
                )
            part = bytes(self._checked(answer).read())
        if len(part) != length:
            raise unavailable(self.name, f"the server answered {len(part)} of {length} bytes")
        return part

    @property
    def _can_resume(self) -> bool:
        return self.version is not None and not self.version.startswith("W/")

    def _checked(self, answer: httpx2.Response) -> httpx2.Response:
        now = _version(answer)
        if self.version is not None and now is not None and now != self.version:
            raise changed(self.name)
        return answer


def find(address: str, headers: Mapping[str, str] | None = None, name: str | None = None) -> WebFile:
    """Return the file at an address; messages call it `name`, or else by its address."""
    file = WebFile(name or shown(address), address, headers=headers or {})
    return patiently(lambda: _looked_up(file))


def _looked_up(file: WebFile) -> WebFile:
    try:
        with _answer("HEAD", file, {}) as answer:
            return _described(file, answer, answer.headers.get("Content-Length"))
    except _RefusedError as error:
        if error.status not in NO_HEAD:
            raise
    with _answer("GET", file, {"Range": "bytes=0-0"}) as answer:
        whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
        length = whole if answer.status_code == PARTIAL_CONTENT else answer.headers.get("Content-Length")
        return _described(file, answer, length)


def _described(file: WebFile, answer: httpx2.Response, length: str | None) -> WebFile:
    if answer.headers.get("Content-Type", "").startswith("text/html"):
        raise ExpectedError(
            Reason.DATA_INVALID,
            f"{file.name} is a web page, not a file of rows. Give the address of the file itself: the link behind "
            "`download` or `raw`.",
        )
    packed = "Content-Encoding" in answer.headers
    is_number = length is not None and len(length) <= LENGTH_DIGITS_MAX and length.isascii() and length.isdigit()
    size = int(length) if length is not None and is_number and not packed else None
    return WebFile(file.name, file.address, size, _version(answer), file.headers)


def _version(answer: httpx2.Response) -> str | None:
    """Return the ETag; else when the file was changed."""
    return answer.headers.get("ETag") or (
        f"W/{answer.headers['Last-Modified']}" if "Last-Modified" in answer.headers else None
    )


class _RefusedError(ExpectedError):
    status: int = 0


@contextmanager
def _answer(method: str, file: WebFile, headers: dict[str, str]) -> Iterator[Any]:
    """Make a request, and yield its answer if it is a good one."""
    import httpx2

    require_usable()
    # Otherwise a server may compress the file on its way, and fetching could not go on in the middle.
    asked = {"Accept-Encoding": "identity", **file.headers, **headers}
    if "Range" in headers and file.version is not None and not file.version.startswith("W/"):
        asked["If-Range"] = file.version
    try:
        with (
            httpx2.Client(timeout=SILENCE_SECONDS, follow_redirects=True) as client,
            client.stream(method, file.address, headers=asked) as answer,
        ):
            if answer.status_code >= 400:
                raise _refused(file.name, answer)
            yield answer
    except httpx2.TransportError as error:
        if (hopeless := refusal(error, file.name)) is not None:
            raise ExpectedError(*hopeless) from None
        raise unavailable(file.name, f"{type(error).__name__}: {' '.join(str(error).split())}".rstrip(". ")) from None
    except (httpx2.TooManyRedirects, httpx2.InvalidURL):
        raise ExpectedError(Reason.FILE_NOT_FOUND, f"{file.name} is no address of a file.") from None


def _refused(name: str, answer: httpx2.Response) -> ExpectedError:
    status = answer.status_code
    answered = (
        f"the server answered {status} ({answer.reason_phrase})"
        if answer.reason_phrase
        else f"the server answered {status}"
    )
    if status >= 500 or status in BUSY:
        return unavailable(name, answered)
    if status in (401, 403):
        reason, why = (
            Reason.ACCESS_DENIED,
            "it may not be read by everybody, or an address with a signature has expired",
        )
    elif status in (404, 410):
        reason, why = Reason.FILE_NOT_FOUND, "there is no such file"
    else:
        reason, why = Reason.FILE_NOT_FOUND, "correct the address in spec.dataset.files"
    refused = _RefusedError(reason, f"{name} cannot be read: {answered}; {why}.")
    refused.status = status
    return refused
