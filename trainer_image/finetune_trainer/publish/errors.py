"""What the Hub's refusals mean: what passes is tried again, the rest is said in the user's words, with the way out.

No address with a query (it may be signed) and no token is in any message.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus

from finetune_trainer.config import Cause, Failure, Reason

SAID_CHARACTERS = 300
NO_ROOM = re.compile(r"storage|quota|payment required|billing|upgrade your plan", re.IGNORECASE)
EXPIRED = re.compile(r"expired", re.IGNORECASE)
FULL = (HTTPStatus.PAYMENT_REQUIRED, HTTPStatus.INSUFFICIENT_STORAGE, HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
BUSY = (
    HTTPStatus.REQUEST_TIMEOUT,
    HTTPStatus.CONFLICT,
    HTTPStatus.PRECONDITION_FAILED,  # somebody else has committed meanwhile
    HTTPStatus.LOCKED,
    HTTPStatus.TOO_EARLY,
    HTTPStatus.TOO_MANY_REQUESTS,
)


class PublishError(Exception):
    """It is not published, and trying again does not help unless the cause says so."""

    def __init__(self, reason: Reason, message: str, *, cause: Cause = Cause.USER) -> None:
        super().__init__(message)
        self.reason = reason
        self.cause = cause

    @property
    def failure(self) -> Failure:
        """The failure as the result record holds it."""
        return Failure(reason=self.reason, cause=self.cause, message=str(self))


class MetadataRefused(PublishError):
    """The Hub takes the card's metadata for invalid."""


class Passing(Exception):
    """The Hub is down or busy, or a connection was cut: it passes."""

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


def passes(status: int) -> bool:
    """Whether an answer of this status may be another one later."""
    return status in BUSY or (status >= HTTPStatus.INTERNAL_SERVER_ERROR and status not in FULL)


def clean(text: str, token: str | None = None) -> str:
    """Somebody else's words, fit for a log and a status: short, one line, nothing signed or secret."""
    text = re.sub(r"(https?://[^\s?'\"]+)\?[^\s'\"]*", r"\1", " ".join(text.split()))
    if token:
        text = text.replace(token, "<token>")
    return text if len(text) <= SAID_CHARACTERS else f"{text[: SAID_CHARACTERS - 3]}..."


def translated(error: Exception, repo_id: str, token: str | None) -> PublishError | Passing | None:
    """What an error of the client library means; None where it is none of the Hub's."""
    from huggingface_hub import errors

    for link in _chain(error):
        if isinstance(link, PublishError | Passing):
            return link
        if isinstance(link, errors.HFValidationError):
            return PublishError(
                Reason.REPO_INVALID, f"spec.publish.repoId {repo_id!r} is no repository's name: {clean(str(link))}"
            )
        if isinstance(link, errors.HfHubHTTPError):
            return _refused(link, repo_id, token)
    said = clean(str(error), token)
    if isinstance(error, ValueError) and "metadata in README.md" in said:
        return MetadataRefused(Reason.INTERNAL, f"The Hub refuses the model card: {said}", cause=Cause.ERROR)
    # LFS answers errors file by file, Xet has no types of its own: words are all there is.
    if isinstance(error, RuntimeError | ValueError | ConnectionError | TimeoutError) and NO_ROOM.search(said):
        return _no_room(repo_id, said)
    if isinstance(error, ConnectionError | TimeoutError | RuntimeError) or "LFS batch API" in said:
        return Passing(said or type(error).__name__)
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it came from."""
    while error is not None:
        yield error
        error = error.__cause__


def _refused(error: Exception, repo_id: str, token: str | None) -> PublishError | Passing:
    from huggingface_hub import errors

    response = getattr(error, "response")  # noqa: B009 - HfHubHTTPError's, whatever its module's types are
    status = int(response.status_code)
    said = clean(str(getattr(error, "server_message", None) or error), token)
    if status in FULL or (status != HTTPStatus.UNAUTHORIZED and not passes(status) and NO_ROOM.search(said)):
        return _no_room(repo_id, said)
    if passes(status) or (response.request.method == "PUT" and EXPIRED.search(said)):
        return Passing(f"it answered {status}: {said}")
    if isinstance(error, errors.RevisionNotFoundError):
        return PublishError(
            Reason.REPO_INVALID, f"spec.publish.revision is no branch of {repo_id} that can be committed to: {said}"
        )
    if status == HTTPStatus.UNAUTHORIZED:
        return PublishError(
            Reason.ACCESS_DENIED,
            f"The Hub refuses the token for {repo_id}: {said} Put a valid one that may write into the Secret of "
            "spec.hub.tokenSecretRef.",
        )
    if status == HTTPStatus.FORBIDDEN:
        return PublishError(
            Reason.ACCESS_DENIED,
            f"The token may not write to {repo_id}: {said} Give it write access to that repository, or name one of "
            "your own in spec.publish.repoId.",
        )
    if status == HTTPStatus.NOT_FOUND:
        return PublishError(
            Reason.REPO_INVALID,
            f"The Hub finds no repository {repo_id} that the token may write to: {said} Look at spec.publish.repoId.",
        )
    return PublishError(Reason.REPO_INVALID, f"The Hub refuses {repo_id} (it answered {status}): {said}")


def _no_room(repo_id: str, said: str) -> PublishError:
    return PublishError(
        Reason.QUOTA_EXCEEDED,
        f"The account has no room for {repo_id} on the Hub: {said} Delete what is not needed there, or enlarge its plan.",
    )
