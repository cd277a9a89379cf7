"""Requests to the Hub: one try each, no wait without end, bytes counted.

The client library would try again by itself, for as long as a Retry-After says; here the loop of `shared.retry` alone decides that.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import httpx2
from huggingface_hub import set_client_factory
from huggingface_hub.utils._http import default_client_factory

from finetune_trainer.shared.connections import refusal
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.hub.refusals import Passing, asked_seconds, clean, passes

TIMEOUT = httpx2.Timeout(connect=15.0, write=60.0, read=300.0, pool=None)
"""The longest silences between two bytes. Reading is slow where the Hub works on a large commit."""


class Traffic:
    """A count of the bytes of files that were sent; several threads send."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.sent = 0

    def add(self, count: int) -> None:
        with self._lock:
            self.sent += count


class _Counted(httpx2.SyncByteStream):
    def __init__(self, stream: Any, traffic: Traffic) -> None:
        self._stream, self._traffic = stream, traffic

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._stream:
            yield chunk
            self._traffic.add(len(chunk))


class OneTryClient(httpx2.Client):
    """A client that raises `Passing` for an error that may pass: the library does not know `Passing`, and so does not try again."""

    def __init__(self, traffic: Traffic, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._traffic = traffic

    def send(self, request: httpx2.Request, **kwargs: Any) -> httpx2.Response:
        if request.method == "PUT":
            request.stream = _Counted(request.stream, self._traffic)
        try:
            response = super().send(request, **kwargs)
        except httpx2.TransportError as error:
            if (refused := refusal(error, request.url.host)) is not None:
                raise ExpectedError(*refused) from error
            message = clean(str(error)) or "no answer"
            raise Passing(f"{request.method} {_address(request)}: {type(error).__name__}: {message}") from error
        if passes(response.status_code):
            response.close()
            raise Passing(
                f"{request.method} {_address(request)}: it answered {response.status_code}",
                asked_seconds(response.headers),
            )
        return response


def _address(request: httpx2.Request) -> str:
    """Return the address of a request without the query, which may be signed."""
    return f"{request.url.host}{request.url.path}"


@contextmanager
def one_try(traffic: Traffic | None = None) -> Iterator[None]:
    """Let the client library make each request once within the block."""

    def make() -> OneTryClient:
        stock = default_client_factory()
        hooks = stock.event_hooks
        stock.close()
        return OneTryClient(traffic or Traffic(), event_hooks=hooks, follow_redirects=True, timeout=TIMEOUT)

    set_client_factory(make)
    try:
        yield
    finally:
        set_client_factory(default_client_factory)


def monotonic_deadline(moment: datetime) -> float:
    """Turn a moment of the wall clock into one of `time.monotonic`, which no change of the clock moves."""
    return time.monotonic() + (moment - datetime.now(UTC)).total_seconds()
