"""The errors between the operator and the API server, by what to do about them."""

from __future__ import annotations


class OperatorError(Exception):
    """Base of all errors that the operator raises on purpose."""


class ApiError(OperatorError):
    """An error that the API server answered a request with."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class NotFound(ApiError):
    """404: the object, or its namespace, does not exist."""


class Conflict(ApiError):
    """409: the name is taken, the resourceVersion is old, or the uid is another one."""


class Refused(ApiError):
    """Any other 4xx (admission, quota, RBAC, an invalid object): the same request fails until somebody changes something."""


class Unavailable(ApiError):
    """429, 5xx, or no answer at all (status 0): try again later."""

    def __init__(self, status: int, reason: str, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(status, reason, message)
        self.retry_after_seconds = retry_after_seconds


class Unanswered(Unavailable):
    """The API server has not answered a request yet: an admission webhook may be slow, or the server busy."""

    def __init__(self, request: str) -> None:
        super().__init__(0, "Unanswered", f"the API server has not answered yet: {request}")


class LeadershipLost(OperatorError):
    """Another operator leads, or may lead: this one must end."""


class Undecided(OperatorError):
    """An error for decisions and actions that did not come to rest within the rounds of one reconcile."""
