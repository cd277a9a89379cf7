"""Meaning of the Hub's refusals: those that pass are tried again, the others are told in the user's words, with the way out.

No address with a query (it may be signed) and no token is in any message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from http import HTTPStatus

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.contract.text import printable
from finetune_trainer.shared.connections import refusal
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.retry import retry_after_seconds

ERROR_CHARACTERS = 300
READ_CHARACTERS = 20_000
NO_ROOM = re.compile(r"storage|quota|payment required|billing|upgrade your plan", re.IGNORECASE)
XET_STATUS = re.compile(r"HTTP status \w+ error \((\d{3})")
"""Pattern of the status in the words of Xet, which has no types of errors for answers."""
RATE_LIMIT = re.compile(r"rate.?limit", re.IGNORECASE)
"""Words for a limit of the rate: such a message speaks of a quota too, but the limit passes."""
FULL = (HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.INSUFFICIENT_STORAGE, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
BUSY = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.PRECONDITION_FAILED,  # somebody else has committed meanwhile
    HTTPStatus.LOCKED,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
)


class MetadataRefused(ExpectedError):
    """Error of a Hub that takes the card's metadata for invalid."""


class Passing(Exception):
    """Error that passes: the Hub is down or busy, or a connection was cut."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


def asked_seconds(headers: Mapping[str, str]) -> float | None:
    """Return how long the Hub asks to wait, by its rate limit or by Retry-After; None where it does not ask."""
    from huggingface_hub.utils._http import parse_ratelimit_headers

    limit = parse_ratelimit_headers(headers)
    return float(limit.reset_in_seconds) if limit is not None and limit.remaining == 0 else retry_after_seconds(headers)


def passes(status: int) -> bool:
    """Tell whether a request that got this status may succeed later."""
    return status in BUSY or (status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in FULL)


def clean(text: str, token: str | None = None) -> str:
    """Make a text from outside fit for a log and a status: short, one line, nothing signed or secret."""
    text = re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", " ".join(printable(text, READ_CHARACTERS).split()))
    if token:
        text = text.replace(token, "<token>")
    return text if len(text) <= ERROR_CHARACTERS else f"{text[: ERROR_CHARACTERS - 3]}..."


def translated(error: Exception, repo_id: str, token: str | None) -> ExpectedError | Passing | None:
    """Say what an error of the client library means; None where it does not come from the Hub."""
    from huggingface_hub import errors

    if isinstance(error, ValueError) and "metadata in README.md" in str(error):
        return MetadataRefused(
            Reason.INTERNAL, f"The Hub refuses the model card: {clean(str(error), token)}", cause=Cause.ERROR
        )
    for link in _chain(error):
        if isinstance(link, ExpectedError | Passing):
            return link
        if isinstance(link, errors.HFValidationError):
            return ExpectedError(
                Reason.REPO_INVALID, f"spec.publish.repoId {repo_id!r} is no repository's name: {clean(str(link))}"
            )
        if isinstance(link, errors.HfHubHTTPError):
            message = clean(str(link.server_message or link), token)
            if isinstance(link, errors.RevisionNotFoundError):
                return _no_branch(repo_id, message)
            status = int(link.response.status_code)
            if link.response.request.method == "PUT" and not _is_full(status, message):
                # The storage knows no tokens: a signed address was over, or too slow. The next try gets another one.
                return Passing(f"the storage refused a file (it answered {status}): {message}")
            return refused(status, message, repo_id)
    return _of_words(error, clean(str(error), token), repo_id)


def _of_words(error: Exception, message: str, repo_id: str) -> ExpectedError | Passing | None:
    """Judge an error by its words: LFS answers errors file by file, and Xet has no types of its own."""
    if isinstance(error, ValueError):
        if "LFS batch API" not in message:
            return None
    elif not isinstance(error, RuntimeError | ConnectionError | TimeoutError):
        return None
    if (hopeless := refusal(error, "the storage of the Hub")) is not None:
        return ExpectedError(*hopeless)
    status = XET_STATUS.search(message)
    if status is not None:
        return refused(int(status[1]), message, repo_id)
    if NO_ROOM.search(message) and not RATE_LIMIT.search(message):
        return _no_room(repo_id, message)
    return Passing(message or type(error).__name__)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes, each once: the client library leaves some that are their own cause."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def refused(status: int, message: str, repo_id: str) -> ExpectedError | Passing:
    """Say what an answer of the Hub means, by its status and words."""
    if _is_full(status, message):
        return _no_room(repo_id, message)
    if passes(status):
        return Passing(f"it answered {status}: {message}")
    message = _sentence(message)
    if status == HTTPStatus.UNAUTHORIZED:
        return ExpectedError(
            Reason.ACCESS_DENIED,
            f"The Hub refuses the token for {repo_id}: {message} Put a valid one that may write into the Secret of "
            "spec.hub.tokenSecretRef.",
        )
    if status == HTTPStatus.FORBIDDEN:
        return ExpectedError(
            Reason.ACCESS_DENIED,
            f"The token may not write to {repo_id}: {message} Give it write access to that repository, or name one of "
            "your own in spec.publish.repoId.",
        )
    if status == HTTPStatus.NOT_FOUND:
        return ExpectedError(
            Reason.REPO_INVALID,
            f"The Hub finds no repository {repo_id} that the token may write to: {message} Look at spec.publish.repoId.",
        )
    return ExpectedError(Reason.REPO_INVALID, f"The Hub refuses {repo_id} (it answered {status}): {message}")


def _sentence(message: str) -> str:
    """End a text from outside as a sentence, so that ours may follow."""
    return message if message.endswith((".", "!", "?")) else f"{message}."


def _is_full(status: int, message: str) -> bool:
    """Tell whether an answer means that the account may not store so much."""
    if status in FULL:
        return True
    return status != HTTPStatus.UNAUTHORIZED and not passes(status) and bool(NO_ROOM.search(message))


def _no_branch(repo_id: str, message: str) -> ExpectedError:
    return ExpectedError(
        Reason.REPO_INVALID,
        f"spec.publish.revision names no branch of {repo_id} that can be committed to (a tag or a commit?): {_sentence(message)}",
    )


def _no_room(repo_id: str, message: str) -> ExpectedError:
    return ExpectedError(
        Reason.QUOTA_EXCEEDED,
        f"The account has no room for {repo_id} on the Hub: {_sentence(message)} Delete what is not needed there, or enlarge its plan.",
    )
