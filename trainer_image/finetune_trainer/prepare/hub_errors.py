"""Errors of the Hub in the user's words: which field is wrong, which names exist instead, the way out.

Makes no request: callers hand in the names that exist.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from json import JSONDecodeError
from typing import Literal

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.contract.run_config import DatasetSource, ModelSource
from finetune_trainer.data.data_errors import names
from finetune_trainer.shared.connections import refusal
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.hub import refusals

ERROR_CHARACTERS = 300
BUSY = (408, 425, 429)
TOKEN_FIELD = "spec.hub.tokenSecretRef"


@dataclass(frozen=True)
class Wanted:
    """A repository that a job reads, as its manifest names it."""

    kind: Literal["model", "dataset"]
    name: str
    revision: str | None
    endpoint: str | None = None
    """The address in `spec.hub.endpoint`."""

    @classmethod
    def of(cls, source: ModelSource | DatasetSource, endpoint: str | None) -> Wanted:
        kind: Literal["model", "dataset"] = "model" if isinstance(source, ModelSource) else "dataset"
        return cls(kind, str(source.name), source.revision, endpoint)

    def __str__(self) -> str:
        return f"{self.kind} {self.name!r}"

    @property
    def not_found(self) -> Reason:
        return Reason.MODEL_NOT_FOUND if self.kind == "model" else Reason.DATASET_NOT_FOUND


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and its causes: libraries wrap the Hub's answer in errors of their own, some of them in a circle."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__


def translated(error: Exception, wanted: Wanted, *, has_token: bool) -> ExpectedError | None:
    """Say what an error of the client means to the user; None where it is none of the Hub's."""
    from huggingface_hub import errors

    status = _status(error)
    if status is None and (hopeless := refusal(error, _hub_name(wanted.endpoint))) is not None:
        return ExpectedError(*hopeless)
    if is_busy(error):
        return _unavailable(error, wanted, status)
    if isinstance(error, JSONDecodeError):
        return unavailable(wanted, "what answers there does not speak as a Hub does")
    if isinstance(error, errors.GatedRepoError) or status == 403:
        return ExpectedError(Reason.ACCESS_DENIED, f"Access to the {wanted} is restricted. {_entrance(has_token)}")
    if isinstance(error, errors.RevisionNotFoundError):
        return revision_missing(wanted, {})
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        return repository_missing(wanted, (), has_token=has_token)
    if status == 401:
        hint = (
            f"The token of {TOKEN_FIELD} is not valid (any more)." if has_token else f"Name a token in {TOKEN_FIELD}."
        )
        return ExpectedError(Reason.ACCESS_DENIED, f"The Hub refused access to the {wanted}. {hint}")
    if isinstance(error, errors.HFValidationError):
        return ExpectedError(wanted.not_found, f"The {wanted} has no valid name: {error}")
    return None


def is_busy(error: Exception) -> bool:
    """Tell whether an error may pass: the Hub is down, busy or out of reach, or a connection was cut."""
    import httpx2
    from huggingface_hub import errors

    passing = (httpx2.TransportError, ConnectionError, TimeoutError, errors.LocalEntryNotFoundError)
    status = _status(error)
    if status is not None:
        return status >= 500 or status in BUSY
    return any(isinstance(link, passing) for link in chain(error))


def _unavailable(error: Exception, wanted: Wanted, status: int | None) -> ExpectedError:
    root = list(chain(error))[-1]
    message = (
        f"it answered {status}" if status else " ".join(f"{type(root).__name__}: {root}".split())[:ERROR_CHARACTERS]
    )
    return unavailable(wanted, message.rstrip("."))


def unavailable(wanted: Wanted, message: str) -> ExpectedError:
    """Make the error for a Hub that may answer later."""
    hub_name = _hub_name(wanted.endpoint)
    return ExpectedError(
        Reason.HUB_UNAVAILABLE,
        f"{hub_name[0].upper()}{hub_name[1:]} cannot be reached for the {wanted}: {message}.",
        cause=Cause.ERROR,
    )


def _hub_name(endpoint: str | None) -> str:
    return f"the Hub at {endpoint} (spec.hub.endpoint)" if endpoint else "the Hub"


def _entrance(has_token: bool) -> str:
    if has_token:
        return (
            "Its owner must grant access to the account of the token: ask on its page. A fine-grained token must "
            "also be allowed to read gated repositories."
        )
    return f"Ask for access on its page, then name a Secret with your token in {TOKEN_FIELD}."


def revision_missing(wanted: Wanted, refs: dict[str, Sequence[str]]) -> ExpectedError:
    """Make the error for a revision; `refs`: `branches` and `tags` of the repository, as far as they are known."""
    known = [name for of_kind in refs.values() for name in of_kind]
    listed = " and ".join(f"the {kind} {names(list(of_kind))}" for kind, of_kind in refs.items() if of_kind)
    return ExpectedError(
        wanted.not_found,
        f"The {wanted} has no revision {wanted.revision!r}{f'; it has {listed}' if listed else ''}."
        f"{meant(str(wanted.revision), known)} Set spec.{wanted.kind}.revision to a branch, a tag or a commit of it.",
    )


def repository_missing(wanted: Wanted, known: Sequence[str], *, has_token: bool) -> ExpectedError:
    """Make the error for a repository; `known`: others of the same owner, as far as they are known."""
    hint = (
        "If it is private, the account of the token must have access to it."
        if has_token
        else f"If it is private, name a Secret with your token in {TOKEN_FIELD}."
    )
    close = meant(wanted.name.split("/")[-1], [name.split("/")[-1] for name in known], known)
    return ExpectedError(wanted.not_found, f"The {wanted} is not on the Hub.{close} {hint}")


def config_missing(wanted: Wanted, config: str | None, configs: Sequence[str]) -> ExpectedError:
    """Make the error for a configuration that a dataset does not have, or that must be chosen."""
    if config is None:
        return ExpectedError(
            Reason.DATASET_NOT_FOUND,
            f"The {wanted} has several configs: {names(list(configs))}. Choose one in spec.dataset.config.",
        )
    return ExpectedError(
        Reason.DATASET_NOT_FOUND,
        f"The {wanted} has no config {config!r}; it has {names(list(configs))}.{meant(config, configs)} "
        "Set spec.dataset.config.",
    )


def split_missing(wanted: str, splits: Sequence[str], field: str) -> ExpectedError:
    """Make the error for a split that a dataset does not have."""
    return ExpectedError(
        Reason.DATASET_NOT_FOUND,
        f"The dataset has no split {wanted!r}; it has {names(list(splits))}.{meant(wanted, splits)} "
        f"Set spec.dataset.splits.{field}.",
    )


def file_missing(wanted: Wanted, path: str, files: Sequence[str]) -> ExpectedError:
    """Make the error for a file that a dataset does not have, or a pattern that none of its files fits."""
    return ExpectedError(
        Reason.FILE_NOT_FOUND,
        f"The {wanted} has no file {path!r}; it has {names(list(files)) or 'none'}.{meant(path, files)} "
        "Set spec.dataset.files.",
    )


def meant(name: str, known_names: Sequence[str], shown: Sequence[str] = ()) -> str:
    """Return ` Did you mean 'x'?` where a name is spelt almost like a known one; `shown`: the known names as the message writes them."""
    by_plain_name = {
        other.casefold(): name_shown for other, name_shown in zip(known_names, shown or known_names, strict=True)
    }
    close = get_close_matches(name.casefold(), by_plain_name, 1)
    return f" Did you mean {by_plain_name[close[0]]!r}?" if close else ""


def _status(error: BaseException) -> int | None:
    """Return the HTTP status of an error or of what caused it."""
    response = next((answer for link in chain(error) if (answer := getattr(link, "response", None)) is not None), None)
    return None if response is None else int(response.status_code)


def asked_seconds(error: BaseException) -> float:
    """Return how long the Hub asks to wait; 0 where it does not say."""
    response = next((answer for link in chain(error) if (answer := getattr(link, "response", None)) is not None), None)
    return 0.0 if response is None else refusals.asked_seconds(response.headers) or 0.0
