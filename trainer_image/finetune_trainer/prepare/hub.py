"""Models and datasets of the Hugging Face Hub: commits resolved, files downloaded once, errors in the user's words.

What passes (the Hub is down or refuses connections) is tried again here a few times, then left to the next try of the
Job.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from finetune_trainer.config import Cause, DatasetSource, ModelSource, Reason, RunConfig
from finetune_trainer.paths import to_local
from finetune_trainer.prepare.errors import PrepareError, names
from finetune_trainer.prepare.source import Source, Split, row_place

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
RETRY_SECONDS = (1.0, 2.0, 4.0, 8.0)
WEIGHTS = (".safetensors", ".bin")
TEXT_FILES = (".json", ".txt", ".model", ".jinja", ".tiktoken")


def environment(config: RunConfig, cache: Path) -> dict[str, str]:
    """Variables that huggingface_hub and datasets read when they are imported."""
    variables = {"HF_HOME": str(cache), "HF_HUB_DISABLE_TELEMETRY": "1"}
    if config.hub.endpoint:
        # A mirror need not speak Xet, and the client does not fall back.
        variables |= {"HF_ENDPOINT": config.hub.endpoint.rstrip("/"), "HF_HUB_DISABLE_XET": "1"}
    return variables


class Hub:
    """The Hub as one job sees it: its endpoint, token and cache."""

    def __init__(self, config: RunConfig) -> None:
        self._endpoint = config.hub.endpoint.rstrip("/") if config.hub.endpoint else None
        self._token = _token(config)

    def _api(self) -> HfApi:
        from huggingface_hub import HfApi

        return HfApi(endpoint=self._endpoint, token=self._token or False)

    def model(self, source: ModelSource, cache: Path) -> tuple[Path, str]:
        """Download the files that training needs; returns the folder and the commit."""
        api, what = self._api(), f"model {source.name!r}"
        info = self._ask(lambda: api.model_info(source.name, revision=source.revision), what, source.revision)
        commit = str(info.sha)
        wanted = needed_files([sibling.rfilename for sibling in info.siblings or []])
        folder = self._ask(
            lambda: api.snapshot_download(
                source.name, revision=commit, allow_patterns=wanted, cache_dir=cache / "hub", max_workers=4
            ),
            what,
            source.revision,
        )
        return Path(folder), commit

    def dataset_commit(self, source: DatasetSource) -> str:
        """The commit that a dataset's revision stands for now."""
        name, api = str(source.name), self._api()
        info = self._ask(lambda: api.dataset_info(name, revision=source.revision), f"dataset {name!r}", source.revision)
        return str(info.sha)

    def dataset(self, source: DatasetSource, commit: str) -> dict[str, Split]:
        """All splits of the dataset at a commit, by their names on the Hub."""
        import datasets

        name, what = str(source.name), f"dataset {source.name!r}"

        def load() -> Any:
            return datasets.load_dataset(name, source.config, revision=commit, token=self._token or False)

        try:
            loaded = self._ask(load, what, source.revision)
        except (ValueError, RuntimeError, datasets.exceptions.DatasetGenerationError) as error:
            reason = error.__cause__ or error
            raise PrepareError(Reason.DATA_INVALID, f"The dataset {name!r} cannot be read: {reason}") from error
        return {split: _split(rows, f"split {split!r} of {name}") for split, rows in loaded.items()}

    def _ask(self, request: Callable[[], T], what: str, revision: str | None) -> T:
        """Make a request, again where trying again may help."""
        for pause in (*RETRY_SECONDS, None):
            try:
                return request()
            except Exception as error:
                problem = translated(error, what, revision, has_token=self._token is not None)
                if problem is None:
                    raise
                if problem.cause is not Cause.ERROR or pause is None:
                    raise problem from error
                time.sleep(pause)
        raise AssertionError("unreachable")


def _token(config: RunConfig) -> str | None:
    if config.hub.token_file is None:
        return None
    path = to_local(config.hub.token_file)
    try:
        token = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise PrepareError(
            Reason.ACCESS_DENIED, f"The token file {config.hub.token_file} cannot be read: {error.strerror}."
        ) from error
    if not token:
        raise PrepareError(Reason.ACCESS_DENIED, "The key that spec.hub.tokenSecretRef names is empty.")
    return token


def needed_files(files: list[str]) -> list[str]:
    """Of a model's files those that training reads: at the top level, and weights in one format only."""
    top = [name for name in files if "/" not in name]
    weights = next((suffix for suffix in WEIGHTS if any(name.endswith(suffix) for name in top)), None)
    return [name for name in top if name.endswith(TEXT_FILES) or (weights and _is_weight(name, weights))]


def _is_weight(name: str, suffix: str) -> bool:
    return name.endswith(suffix) and not name.startswith(("training_args", "optimizer"))


def _split(rows: Any, name: str) -> Split:
    """A `datasets.Dataset` as a table, its class names beside it."""
    import datasets

    table = rows.data.table if rows._indices is None else rows.flatten_indices().data.table
    features = rows.features
    classes = {
        column: tuple(feature.names) for column, feature in features.items() if isinstance(feature, datasets.ClassLabel)
    }
    return Split(table, (Source(name, table.num_rows, row_place),), classes)


def translated(error: Exception, what: str, revision: str | None, *, has_token: bool) -> PrepareError | None:
    """What an error of the client means to the user; None where it is none of the Hub's."""
    import httpx2
    from huggingface_hub import errors

    status = _status(error)
    if isinstance(error, errors.GatedRepoError) or status == 403:
        way_out = (
            "Its owner must grant access to the account of the token: ask on its page."
            if has_token
            else "Ask for access on its page, then name a Secret with your token in spec.hub.tokenSecretRef."
        )
        return PrepareError(Reason.ACCESS_DENIED, f"Access to the {what} is restricted. {way_out}")
    if isinstance(error, errors.RevisionNotFoundError):
        return PrepareError(_not_found(what), f"The {what} has no revision {revision!r}.")
    if isinstance(error, errors.RepositoryNotFoundError) or status == 404:
        hint = "" if has_token else " If it is private, name a Secret with your token in spec.hub.tokenSecretRef."
        return PrepareError(_not_found(what), f"The {what} is not on the Hub.{hint}")
    if status == 401:
        hint = "The token is not valid (any more)." if has_token else "Name a token in spec.hub.tokenSecretRef."
        return PrepareError(Reason.ACCESS_DENIED, f"The Hub refused access to the {what}. {hint}")
    if isinstance(error, errors.HFValidationError):
        return PrepareError(_not_found(what), f"The {what} has no valid name: {error}")
    transient = (httpx2.TransportError, ConnectionError, TimeoutError, errors.LocalEntryNotFoundError)
    if isinstance(error, transient) or (status is not None and (status >= 500 or status in (408, 429))):
        reason = f"it answered {status}" if status else f"{type(error).__name__}: {error}"
        return PrepareError(
            Reason.HUB_UNAVAILABLE, f"The Hub cannot be reached for the {what}: {reason}.", cause=Cause.ERROR
        )
    return None


def _not_found(what: str) -> Reason:
    return Reason.MODEL_NOT_FOUND if what.startswith("model") else Reason.DATASET_NOT_FOUND


def _status(error: BaseException | None) -> int | None:
    """HTTP status of an error or of what caused it."""
    while error is not None:
        response = getattr(error, "response", None)
        if response is not None:
            return int(response.status_code)
        error = error.__cause__
    return None


def split_missing(wanted: str, there: dict[str, Split], field: str) -> PrepareError:
    """The error for a split that a dataset does not have."""
    return PrepareError(
        Reason.DATASET_NOT_FOUND,
        f"The dataset has no split {wanted!r}; it has {names(list(there))}. Set spec.dataset.splits.{field}.",
    )
