"""A check before an accelerator is taken: that the token may write to the repository that the model is to go to.

Nothing is made or changed on the Hub. A Hub that does not answer now is no failure: publishing will show.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from finetune_trainer.contract.run_config import HubSettings, Publish
from finetune_trainer.shared import connections
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.hub import account
from finetune_trainer.shared.hub.refusals import Passing, translated
from finetune_trainer.shared.retry import Backoff, until_done

if TYPE_CHECKING:
    from huggingface_hub import HfApi

T = TypeVar("T")
BACKOFF = Backoff(first_seconds=1.0, most_seconds=3.0, factor=3.0, jitter=(1.0, 1.0), tries=3)
"""The pauses before tries: short, whatever the Hub asks for, because publishing asks again."""
NOT_FOUND = 404


def check(publish: Publish | None, hub: HubSettings) -> tuple[str, ...]:
    """Return messages for the user. Raise ExpectedError where publishing is sure to fail."""
    if publish is None:
        return ()
    from finetune_trainer.shared.hub.http_client import one_try

    try:
        connections.require_usable()
        token = account.required_token(hub)
        with one_try():
            return _check(publish, account.endpoint_of(hub), token)
    except ExpectedError as error:
        raise ExpectedError(error.reason, f"The model could not be published: {error}", cause=error.cause) from error
    except Passing as error:
        return (f"Whether the model can be published to {publish.repo_id} is not known before it is trained: {error}.",)


def _check(publish: Publish, endpoint: str | None, token: str) -> tuple[str, ...]:
    from huggingface_hub import HfApi
    from huggingface_hub.utils._validators import validate_repo_id

    repo_id = publish.repo_id
    api = HfApi(endpoint=endpoint, token=token)
    _ask(lambda: validate_repo_id(repo_id), repo_id, token)
    who = _ask(lambda: _who(api), repo_id, token)
    if who is not None:
        problem = account.problem(who, repo_id)
        if problem is not None:
            raise problem
        repo_id = account.full_name(who, repo_id)
    private = _ask(lambda: _try_to_write(api, repo_id), repo_id, token)
    if publish.private and private is False:
        raise account.public_repository(repo_id)
    return ()


def _who(api: HfApi) -> Mapping[str, Any] | None:
    """Ask whose the token is; None on a mirror that cannot tell."""
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return dict(api.whoami())
    except HfHubHTTPError as error:
        if error.response.status_code == NOT_FOUND:
            return None
        raise


def _try_to_write(api: HfApi, repo_id: str) -> bool | None:
    """Ask how a file would be sent to an existing repository: the Hub tells only users who may write to it.

    Return whether the repository is private; None where it does not exist.
    """
    from huggingface_hub import CommitOperationAdd
    from huggingface_hub.errors import RepositoryNotFoundError

    try:
        private = api.model_info(repo_id).private
    except RepositoryNotFoundError as error:
        if error.response.status_code == NOT_FOUND:
            return None  # it will be made
        raise
    api.preupload_lfs_files(repo_id, [CommitOperationAdd("README.md", b"a model card\n")])
    return private


def _ask(request: Callable[[], T], repo_id: str, token: str) -> T:
    """Make a request, again where trying again may help."""

    def one_try() -> T:
        try:
            return request()
        except Exception as error:
            meant = translated(error, repo_id, token)
            if meant is None:
                raise
            raise meant from error

    return until_done(one_try, BACKOFF, lambda error: 0.0 if isinstance(error, Passing) else None)
