"""Requests and answers as values, so that routes are plain functions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    """Path without the query, percent-decoded."""
    parts: tuple[str, ...]
    """Parts of the path between slashes, decoded after the split: a branch may have a slash in its name."""
    query: str
    headers: Mapping[str, str]
    """Headers by names in lower case."""
    body: bytes

    @property
    def token(self) -> str:
        return self.headers.get("authorization", "").removeprefix("Bearer ")

    @property
    def origin(self) -> str:
        """Address by which the client calls this server, and which links must have."""
        return f"http://{self.headers['host']}"

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Answer:
    status: int = 200
    content: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def answer(body: Any, status: int = 200) -> Answer:
    """Return an answer in JSON."""
    return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json"})


class Refused(Exception):
    """A refusal, which the server turns into the answer of the real Hub."""

    def __init__(self, status: int, message: str, code: str = "", **body: Any) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.body = body

    @property
    def answer(self) -> Answer:
        headers = {"Content-Type": "application/json", "X-Error-Message": self.message}
        if self.code:
            headers["X-Error-Code"] = self.code
        return Answer(self.status, json.dumps({"error": self.message, **self.body}).encode(), headers)
