"""What refusals mean: who pays, which reason, and that nothing secret or signed is in a message."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest
from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._http import hf_raise_for_status

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.hub.refusals import MetadataRefused, Passing, asked_seconds, clean, passes, translated

TOKEN = "hf_secret"
HUB = "https://hub.example.com"


def answer(
    status: int,
    message: str = "no",
    *,
    code: str = "",
    method: str = "POST",
    path: str = "/api/models/me/x/commit/main",
) -> Exception:
    """Return what the client library raises for an answer."""
    headers = {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})}
    request = httpx2.Request(method, f"{HUB}{path}?X-Amz-Signature=signed")
    try:
        hf_raise_for_status(httpx2.Response(status, headers=headers, request=request, json={"error": message}))
    except httpx2.HTTPError as error:
        return error
    raise AssertionError("not refused")


def meaning(error: Exception) -> Any:
    return translated(error, "me/x", TOKEN)


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (answer(401, "Invalid username or password."), Reason.ACCESS_DENIED, "Put a valid one that may write"),
        (answer(401, "Invalid credentials in Authorization header"), Reason.ACCESS_DENIED, "spec.hub.tokenSecretRef"),
        (answer(403, "Forbidden: no write access"), Reason.ACCESS_DENIED, "Give it write access"),
        (answer(403, "gated", code="GatedRepo"), Reason.ACCESS_DENIED, "gated"),
        (answer(404, "Repository not found", code="RepoNotFound"), Reason.REPO_INVALID, "spec.publish.repoId"),
        (answer(404, "Invalid rev id", code="RevisionNotFound"), Reason.REPO_INVALID, "spec.publish.revision"),
        (answer(400, "Invalid repo name"), Reason.REPO_INVALID, "Invalid repo name"),
        (answer(403, "Your storage patterns tripped our internal systems!"), Reason.QUOTA_EXCEEDED, "no room"),
        (answer(403, "pass `create_pr=1` as a query parameter"), Reason.ACCESS_DENIED, "may not write to me/x"),
        (answer(402, "Payment required"), Reason.QUOTA_EXCEEDED, "no room"),
        (answer(403, "Private repository storage limit reached"), Reason.QUOTA_EXCEEDED, "storage limit"),
        (answer(413, "too large"), Reason.QUOTA_EXCEEDED, "no room"),
        (answer(507, "Insufficient storage"), Reason.QUOTA_EXCEEDED, "no room"),
        (HFValidationError("Repo id must use alphanumeric chars"), Reason.REPO_INVALID, "no repository's name"),
        (
            ConnectionError("Network error: HTTP status client error (403 Forbidden), domain: https://cas"),
            Reason.ACCESS_DENIED,
            "may not write",
        ),
        (
            ValueError("LFS batch API returned errors:\nEncountered error for file: `storage quota exceeded`"),
            Reason.QUOTA_EXCEEDED,
            "storage quota",
        ),
    ],
)
def test_what_no_retry_mends_is_the_users(error: Exception, reason: Reason, words: str) -> None:
    meant = meaning(error)
    assert isinstance(meant, ExpectedError)
    assert (meant.reason, meant.cause) == (reason, Cause.USER)
    assert words in str(meant)


@pytest.mark.parametrize(
    "error",
    [
        *(answer(status, "over capacity") for status in (408, 409, 412, 423, 425, 429, 500, 502, 503, 504, 520)),
        answer(503, "storage is over capacity"),
        answer(403, "Request has expired", method="PUT", path="/bucket/abc"),
        answer(403, "", method="PUT", path="/bucket/abc"),
        answer(400, "RequestTimeout", method="PUT", path="/bucket/abc"),
        answer(429, "We had to rate limit you, you hit the quota of 1000 api requests. Upgrade to PRO"),
        ValueError("LFS batch API returned errors:\nWe had to rate limit you, you hit the quota of requests"),
        ConnectionError("Network error: HTTP status server error (503 Service Unavailable)"),
        ConnectionResetError("reset"),
        TimeoutError("slow"),
        ValueError("LFS batch API returned errors:\nEncountered error for file: `try again`"),
    ],
)
def test_what_passes_is_tried_again(error: Exception) -> None:
    assert isinstance(meaning(error), Passing)


def while_uploading(cause: Exception) -> Exception:
    """Make the error by which the client library hands on what happened to one file."""
    error = RuntimeError("Error while uploading 'model.safetensors' to the Hub.")
    error.__cause__ = cause
    return error


def test_the_cause_is_found_behind_other_errors() -> None:
    inner = Passing("cut")
    assert meaning(while_uploading(inner)) is inner
    assert meaning(while_uploading(answer(403, "storage limit", method="PUT"))).reason is Reason.QUOTA_EXCEEDED


def test_a_mistake_of_our_own_is_none_of_the_hubs() -> None:
    assert meaning(KeyError("x")) is None
    assert meaning(ValueError("not a number")) is None
    assert meaning(OSError(28, "No space left on device")) is None


def test_refused_metadata_is_told_apart() -> None:
    assert isinstance(
        meaning(ValueError('Invalid metadata in README.md.\n- "license" must be one of')), MetadataRefused
    )


def test_messages_hold_nothing_secret_or_signed() -> None:
    texts = [str(meaning(answer(403, f"token {TOKEN} at {HUB}/x?X-Amz-Signature=signed is bad")))]
    texts.append(clean(f"for url '{HUB}/a?Signature=signed&b=c' {TOKEN}", TOKEN))
    for text in texts:
        assert TOKEN not in text
        assert "signed" not in text
    assert len(clean("x" * 5000)) == 300


def test_which_answers_pass() -> None:
    assert [status for status in range(400, 600) if passes(status)] == [
        *(408, 409, 412, 423, 425, 429),
        *(status for status in range(500, 600) if status != 507),
    ]


def test_the_hub_asks_for_time_by_its_rate_limit_or_as_every_server_does() -> None:
    assert asked_seconds({}) is None
    assert asked_seconds({"Retry-After": "7"}) == 7.0
    assert asked_seconds({"RateLimit": '"api";r=0;t=55', "Retry-After": "1"}) == 55.0
    assert asked_seconds({"RateLimit": '"api";r=3;t=55'}) is None
