"""Which exception an answer of the API server is."""

import json

import pytest

from finetune_operator.kube.exceptions import Conflict, NotFound, OperatorError, Refused, Unavailable
from finetune_operator.kube.responses import Answer, error_of


def answer(status: int, reason: str = "Whatever", message: str = "said so") -> Answer:
    return Answer(status, json.dumps({"kind": "Status", "reason": reason, "message": message}).encode(), 3.0)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Refused),
        (403, Refused),
        (404, NotFound),
        (409, Conflict),
        (413, Refused),
        (422, Refused),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
        (504, Unavailable),
    ],
)
def test_by_status(status: int, kind: type[OperatorError]) -> None:
    error = error_of(answer(status))
    assert type(error) is kind
    assert (error.status, error.reason, error.message) == (status, "Whatever", "said so")


def test_a_busy_server_says_when_to_come_again() -> None:
    error = error_of(answer(429))
    assert isinstance(error, Unavailable)
    assert error.retry_after_seconds == 3.0


@pytest.mark.parametrize("data", [b"<html>Bad Gateway</html>", b"", b"[]", b"\xff\xfe"])
def test_an_answer_of_something_in_between(data: bytes) -> None:
    error = error_of(Answer(502, data, None))
    assert isinstance(error, Unavailable)
    assert error.reason == "Unknown"
