"""Models and datasets of the Hugging Face Hub: commits resolved, files downloaded once, errors in the user's words.

A failure that may pass (the Hub is down or refuses connections) is tried again here a few times, then left to the next try
of the Job.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from http import HTTPStatus
from json import JSONDecodeError
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

from finetune_trainer.contract.records import Cause
from finetune_trainer.contract.run_config import DatasetSource, HubSettings, ModelSource
from finetune_trainer.data.split import Split
from finetune_trainer.prepare import hub_errors
from finetune_trainer.prepare.hub_dataset import cached, load, stream
from finetune_trainer.prepare.hub_errors import Wanted, translated
from finetune_trainer.prepare.hub_model import check_files, files_of_one_form, needed_files
from finetune_trainer.prepare.patterns import fitting, is_pattern
from finetune_trainer.prepare.remote import tell_of_pause
from finetune_trainer.shared import connections, retry
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.hub.account import endpoint_of
from finetune_trainer.shared.hub.environment import SILENCE_SECONDS
from finetune_trainer.shared.hub.token import read_token

if TYPE_CHECKING:
    import httpx2
    from huggingface_hub import DatasetInfo, HfApi

T = TypeVar("T")
BACKOFF = retry.Backoff(first_seconds=1.0, most_seconds=15.0, tries=6, asked_most_seconds=900.0)
"""The pauses before tries; a Hub that asks for a longer one is left to the next try of the Job."""
SUGGESTIONS_FROM = 200
"""The number of an owner's repositories that a misspelt name is compared with."""


@dataclass(frozen=True)
class HubFile:
    """A file of a dataset at a commit."""

    name: str
    """The name as the user wrote it, a pattern resolved."""
    dataset: DatasetSource
    commit: str
    path: str


class HubReader:
    """The Hub as one job sees it: by its endpoint and token."""

    def __init__(self, settings: HubSettings) -> None:
        self._endpoint = endpoint_of(settings)
        self._token = read_token(settings)

    @cached_property
    def _api(self) -> HfApi:
        from huggingface_hub import HfApi, set_client_factory

        connections.require_usable()
        set_client_factory(_client)
        return HfApi(endpoint=self._endpoint, token=self._token or False)

    def model(self, source: ModelSource, cache: Path, *, of_task: bool = True) -> tuple[Path, str]:
        """Download the files that training needs; return their folder and the commit.

        What a program reads that is not a task's nobody knows: all but its weights in further forms.
        """
        wanted = Wanted.of(source, self._endpoint)
        info = self._ask(
            lambda: self._api.model_info(source.name, revision=source.revision, timeout=SILENCE_SECONDS), wanted
        )
        commit, files = str(info.sha), [sibling.rfilename for sibling in info.siblings or []]
        if of_task:
            check_files(wanted, files)
        needed = needed_files(files) if of_task else files_of_one_form(files)
        return self._snapshot(wanted, commit, cache, needed), commit

    def dataset_folder(self, source: DatasetSource, commit: str, cache: Path) -> Path:
        """Download all files of a dataset; returns the folder."""
        return self._snapshot(Wanted.of(source, self._endpoint), commit, cache)

    def _snapshot(self, wanted: Wanted, commit: str, cache: Path, files: list[str] | None = None) -> Path:
        def download() -> str:
            return self._api.snapshot_download(
                wanted.name,
                repo_type=wanted.kind,
                revision=commit,
                allow_patterns=files,
                cache_dir=cache / "hub",
                max_workers=4,
            )

        return Path(self._ask(download, wanted))

    def dataset_commit(self, source: DatasetSource) -> str:
        """Return the commit that a dataset's revision stands for now. Raise ExpectedError for who may not read the dataset."""
        return str(self._dataset_info(source).sha)

    def _dataset_info(self, source: DatasetSource) -> DatasetInfo:
        name, wanted = str(source.name), Wanted.of(source, self._endpoint)
        info = self._ask(
            lambda: self._api.dataset_info(name, revision=source.revision, timeout=SILENCE_SECONDS), wanted
        )
        if info.gated:  # `datasets` would lose the reason
            self._ask(lambda: self._check_gate(name), wanted)
        return info

    def dataset_files(self, address: str) -> list[HubFile]:
        """Find the files that `owner/name[@revision]/path` means, a pattern of them by name."""
        parts = address.split("/")
        repository, path = "/".join(parts[:2]), "/".join(parts[2:])
        name, _, revision = repository.partition("@")
        source = DatasetSource(name=name, revision=unquote(revision) or None)
        info = self._dataset_info(source)
        files = sorted(sibling.rfilename for sibling in info.siblings or [])
        paths = [path] if path in files else fitting(path, files) if is_pattern(path) else []
        if not paths:
            raise hub_errors.file_missing(Wanted.of(source, self._endpoint), path, files)
        return [HubFile(f"hf://datasets/{repository}/{file}", source, str(info.sha), file) for file in paths]

    def dataset_file(self, file: HubFile, cache: Path) -> Path:
        """Download the file into the cache."""
        wanted = Wanted.of(file.dataset, self._endpoint)
        name, commit = str(file.dataset.name), file.commit
        path = self._ask(
            lambda: self._api.hf_hub_download(
                name, file.path, repo_type="dataset", revision=commit, cache_dir=cache / "hub"
            ),
            wanted,
        )
        return Path(path)

    def direct(self, file: HubFile) -> tuple[str, dict[str, str]]:
        """Return the address of the file, and the headers of a request for it."""
        from huggingface_hub import hf_hub_url

        address = hf_hub_url(
            str(file.dataset.name), file.path, repo_type="dataset", revision=file.commit, endpoint=self._endpoint
        )
        return address, {"Authorization": f"Bearer {self._token}"} if self._token else {}

    def _check_gate(self, name: str) -> None:
        from huggingface_hub import errors

        try:
            self._api.auth_check(name, repo_type="dataset")
        except errors.RepositoryNotFoundError:  # the error for a gated repository is one, too
            raise
        except errors.HfHubHTTPError as error:
            if error.response.status_code != HTTPStatus.NOT_FOUND:  # a mirror need not have this route
                raise

    def dataset(self, source: DatasetSource, commit: str) -> dict[str, Split]:
        """Load all splits of the dataset at a commit, by their names on the Hub."""
        wanted = Wanted.of(source, self._endpoint)
        return self._ask(lambda: load(wanted, source.config, commit, self._token), wanted)

    def dataset_cache(self, source: DatasetSource, commit: str) -> Path:
        """Let the `datasets` library load the dataset at a commit; returns the folder in its cache."""
        wanted = Wanted.of(source, self._endpoint)
        return self._ask(lambda: cached(wanted, source.config, commit, self._token), wanted)

    def streamed(self, source: DatasetSource, commit: str, take: Callable[[Any], T]) -> T:
        """Return what `take` makes of the streams of a dataset's splits; nothing of the dataset is kept."""
        wanted = Wanted.of(source, self._endpoint)
        return self._ask(lambda: stream(wanted, source.config, commit, self._token, take), wanted)

    def _ask(self, request: Callable[[], T], wanted: Wanted) -> T:
        """Make a request, again where trying again may help."""

        def one_try() -> T:
            try:
                return request()
            except ExpectedError:
                raise
            except Exception as error:
                problem = self._problem(error, wanted)
                if problem is None:
                    raise
                raise problem from error

        return retry.until_done(one_try, BACKOFF, _seconds_to_wait, tell=tell_of_pause)

    def _problem(self, error: Exception, wanted: Wanted) -> ExpectedError | None:
        """Make the error for the user, which suggests names that exist for one that does not; None where it is none of the Hub's."""
        from huggingface_hub import errors

        if isinstance(error, errors.RevisionNotFoundError):
            return hub_errors.revision_missing(wanted, self._revisions(wanted))
        if isinstance(error, errors.RepositoryNotFoundError) and not isinstance(error, errors.GatedRepoError):
            others = self._others(wanted)
            return hub_errors.repository_missing(wanted, others, has_token=self._token is not None)
        return translated(error, wanted, has_token=self._token is not None)

    def _revisions(self, wanted: Wanted) -> dict[str, Sequence[str]]:
        refs = _if_answered(lambda: self._api.list_repo_refs(wanted.name, repo_type=wanted.kind))
        if refs is None:
            return {}
        return {"branches": [ref.name for ref in refs.branches], "tags": [ref.name for ref in refs.tags]}

    def _others(self, wanted: Wanted) -> Sequence[str]:
        owner, _, name = wanted.name.partition("/")
        if not name:
            return ()
        listing = self._api.list_models if wanted.kind == "model" else self._api.list_datasets
        return (
            _if_answered(lambda: [repository.id for repository in listing(author=owner, limit=SUGGESTIONS_FROM)]) or ()
        )


def _seconds_to_wait(error: Exception) -> float | None:
    """Return how long the Hub asks to wait before another try; None where no other try helps."""
    if not isinstance(error, ExpectedError) or error.cause is not Cause.ERROR:
        return None
    return hub_errors.asked_seconds(error)


def _if_answered(ask: Callable[[], T]) -> T | None:
    """Return the answer to a question that only improves a message; None where the Hub does not answer."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return ask()
    except (HfHubHTTPError, httpx2.TransportError, JSONDecodeError):
        return None


def _client() -> httpx2.Client:
    """Make the library's own client, but with a timeout."""
    import httpx2
    from huggingface_hub.utils._http import default_client_factory

    client = default_client_factory()
    client.timeout = httpx2.Timeout(SILENCE_SECONDS)
    return client
