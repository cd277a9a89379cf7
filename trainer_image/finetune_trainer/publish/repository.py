"""The repository on the Hub, which is made where it does not exist, its branch too, and the commit that brings the model.

Every step keeps what an earlier try has done, so that a try may end between any two. Nothing is ever deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from finetune_trainer.contract.records import PublishedModel, Reason
from finetune_trainer.contract.run_config import Publish
from finetune_trainer.publish.sealed import SealedModel
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.hub import account
from finetune_trainer.shared.hub.refusals import Passing, translated

if TYPE_CHECKING:
    from huggingface_hub import CommitOperationAdd, HfApi

MAIN = "main"
CARD = "README.md"


@dataclass(frozen=True)
class Head:
    """A branch as it is before our commit."""

    repo_id: str
    """The repository's name as the Hub has it."""
    commit: str | None


@dataclass
class Target:
    """The branch that a model goes to, and the owner of the token once the Hub has told."""

    api: HfApi
    publish: Publish
    token: str
    say: Callable[[str], None]
    _who: Mapping[str, Any] | None = None

    def who(self) -> Mapping[str, Any]:
        """Return whose the token is. The Hub is asked once: it limits this request more than others."""
        if self._who is None:
            self._who = dict(self.api.whoami())
        return self._who

    def push(self, model: SealedModel, card: Callable[[str], str], message: str) -> PublishedModel:
        """Make one try. Raise Passing where another one is worth it, ExpectedError where not."""
        repo_id = self.publish.repo_id
        try:
            repo_id = repo_id if "/" in repo_id else account.full_name(self.who(), repo_id)
            return self._push(self._open(repo_id), model, card, message)
        except Exception as error:
            refusal = translated(error, repo_id, self.token)
            if refusal is None:
                raise
            raise self._explained(refusal, repo_id) from error

    def _explained(self, refusal: ExpectedError | Passing, repo_id: str) -> ExpectedError | Passing:
        """Return a refusal that says more, where the Hub tells what the token may do."""
        if not isinstance(refusal, ExpectedError) or refusal.reason not in (Reason.ACCESS_DENIED, Reason.REPO_INVALID):
            return refusal
        try:
            return account.problem(self.who(), repo_id) or refusal
        except Exception as error:
            if translated(error, repo_id, self.token) is None:
                raise
            return refusal  # the Hub does not tell

    def _open(self, repo_id: str) -> Head:
        """Return the branch; make repository and branch where they do not exist."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

        try:
            return self._head(repo_id)
        except RevisionNotFoundError:
            self._make_branch(repo_id)
        except RepositoryNotFoundError as error:
            if int(error.response.status_code) == HTTPStatus.UNAUTHORIZED:
                raise
            self.say(f"making {repo_id}")
            self.api.create_repo(repo_id, private=self.publish.private, exist_ok=True)
            self._make_branch(repo_id)
        return self._head(repo_id)

    def _head(self, repo_id: str) -> Head:
        info = self.api.model_info(repo_id, revision=self.publish.revision)
        if self.publish.private and info.private is False:
            raise account.public_repository(repo_id)
        return Head(str(info.id or repo_id), info.sha)

    def _make_branch(self, repo_id: str) -> None:
        if self.publish.revision != MAIN:
            self.say(f"making branch {self.publish.revision} of {repo_id}")
            self.api.create_branch(repo_id, branch=self.publish.revision, exist_ok=True)

    def _push(self, head: Head, model: SealedModel, card: Callable[[str], str], message: str) -> PublishedModel:
        revision = self.publish.revision
        files = operations(model, card(head.repo_id))
        # The library would silently leave out files that the repository's .gitignore names: here nothing is ignored.
        self.api.preupload_lfs_files(head.repo_id, files, revision=revision, gitignore_content="", free_memory=False)
        commit = self.api.create_commit(
            head.repo_id,
            files,
            commit_message=message,
            revision=revision,
            # A try before this one may have been cut off from a commit that the Hub is still at work on.
            parent_commit=head.commit,
        )
        self._check(head.repo_id, str(commit.oid), model)
        return PublishedModel(repo_id=head.repo_id, url=self._page(head.repo_id), commit=str(commit.oid))

    def _check(self, repo_id: str, commit: str, model: SealedModel) -> None:
        """Check that all files are in the commit, before success is reported."""
        info = self.api.model_info(repo_id, revision=commit)
        missing = sorted({*model.files} - {sibling.rfilename for sibling in info.siblings or ()})
        if missing:
            raise Passing(f"{missing[0]} is not in commit {commit[:7]} of {repo_id}")

    def _page(self, repo_id: str) -> str:
        page = f"{self.api.endpoint}/{repo_id}"
        return page if self.publish.revision == MAIN else f"{page}/tree/{quote(self.publish.revision, safe='')}"


def operations(model: SealedModel, card: str) -> list[CommitOperationAdd]:
    """Return the operations of the commit. The library changes these objects: each try makes new ones."""
    from huggingface_hub import CommitOperationAdd

    additions = [CommitOperationAdd(CARD, card.encode())]
    for name in model.files:
        operation = CommitOperationAdd(name, str(model.folder / name))
        # The file was compared with the manifest's digest: the library need not read every byte once more.
        operation.upload_info.sha256 = bytes.fromhex(model.manifest.files[name].sha256)
        additions.append(operation)
    return additions
