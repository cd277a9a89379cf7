"""What is on the Hub, who may use it, and what was asked of it: what a test sets up and looks at."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.stub_hub.blobs import Blob

TOKEN = "hf_token_of_the_test"
"""The token of account `me`, which is in the organisation `team`: may write."""
READ_TOKEN = "hf_token_that_may_only_read"
"""A token of the same account that may only read."""
FINE_GRAINED_TOKEN = "hf_token_for_one_repository"
"""A token of the same account: may read, and write to `me/granted` alone."""
OTHER_TOKEN = "hf_token_of_somebody_else"
"""The token of account `somebody`, who owns whatever is below `somebody/`."""

COMMITS = {"main": "a" * 40, "v1": "b" * 40}
"""Branch `main` and tag `v1` of every repository that was given as a folder -> commit."""
INITIAL_COMMIT = "c" * 40
"""The first commit of every repository that was made through the API; it holds .gitattributes, as on the real Hub."""
GIT_ATTRIBUTES = b"*.bin filter=lfs diff=lfs merge=lfs -text\n*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


@dataclass(frozen=True)
class Account:
    """What a token stands for."""

    name: str
    role: str = "write"
    """`write`, `read` or `fineGrained`, as the Hub calls them."""
    orgs: tuple[str, ...] = ()
    """Organisations in which the account may write."""
    writes: tuple[str, ...] = ()
    """The scope of a fine-grained token: repositories or namespaces that it may write to."""


@dataclass(frozen=True)
class Commit:
    oid: str
    message: str
    files: Mapping[str, bytes]
    """All files of the repository after the commit, not the changed ones alone."""
    parent: str
    description: str = ""


@dataclass
class Repository:
    """A model or dataset. Given a folder, its files are those of the folder until something is committed."""

    folder: Path | None = None
    gated: bool = False
    private: bool = False
    granted: set[str] = field(default_factory=lambda: {"me"})
    """Accounts that may read it where it is gated or private; owners may always."""
    commits: list[Commit] = field(default_factory=list)
    """What was committed through the API, oldest first, on any branch; the Hub's own initial commit is not among them."""
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)
    """SHA-256 -> content of what was uploaded, committed or not."""

    def __post_init__(self) -> None:
        if not self.branches:
            self.branches["main"] = INITIAL_COMMIT if self.folder is None else COMMITS["main"]
        if self.folder is not None and not self.tags:
            self.tags["v1"] = COMMITS["v1"]

    def commit_of(self, revision: str) -> str | None:
        """Return the commit that a branch, a tag or a commit's own name stands for."""
        known = {*COMMITS.values()} if self.folder else {INITIAL_COMMIT}
        if revision in known or any(commit.oid == revision for commit in self.commits):
            return revision
        return self.branches.get(revision) or self.tags.get(revision)

    def tree(self, oid: str) -> dict[str, Blob]:
        """Return the files at a commit by path."""
        for commit in self.commits:
            if commit.oid == oid:
                return {path: Blob(path, content) for path, content in sorted(commit.files.items())}
        if self.folder is None:
            return {".gitattributes": Blob(".gitattributes", GIT_ATTRIBUTES)}
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): Blob(path.name, path) for path in files}

    def files(self, revision: str = "main") -> dict[str, bytes]:
        """Return what a branch holds now: path -> content."""
        oid = self.commit_of(revision)
        return {path: blob.content for path, blob in self.tree(oid).items()} if oid else {}


@dataclass
class Fault:
    """A bad answer to order. The first that matches a request is used; after `times` requests it is used up."""

    method: str = ".*"
    """Regular expression that the whole method matches."""
    path: str = ""
    """Regular expression that is searched in the path."""
    times: int = 1
    status: int | None = 503
    """None: the request is answered as always (after the delay). 200: with a web page, as something that is no Hub would."""
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str = "The Hub is over capacity"
    cut: bool = False
    """The connection is closed in the middle of the request's body; where it has none, in the middle of the answer's."""
    lost: bool = False
    """The request is carried out, but the connection is closed before the answer."""
    delay_seconds: float = 0.0
    """How long the answer takes; together with `status=None` a Hub that is only slow."""
    held: threading.Event | None = None
    """The request is carried out, and its answer sent, when this is set."""
    done: bool = False
    """Whether a request that met it has been carried out."""


@dataclass
class StubHub:
    models: dict[str, Repository] = field(default_factory=dict)
    datasets: dict[str, Repository] = field(default_factory=dict)
    failing: int = 0
    """Requests to answer with 503 before it works again."""
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """`METHOD path` of each request."""
    tokens: set[str] = field(default_factory=set)
    """Tokens that were sent; the empty one where none was."""
    endpoint: str = ""
    accounts: dict[str, Account] = field(
        default_factory=lambda: {
            TOKEN: Account("me", orgs=("team",)),
            READ_TOKEN: Account("me", role="read", orgs=("team",)),
            FINE_GRAINED_TOKEN: Account("me", role="fineGrained", orgs=("team",), writes=("me/granted",)),
            OTHER_TOKEN: Account("somebody"),
        }
    )
    """Token -> whose it is and what it may do."""
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def repositories(self, kind: str) -> dict[str, Repository]:
        """Return `models` or `datasets`."""
        return self.datasets if kind == "datasets" else self.models

    def fault_for(self, method: str, path: str) -> Fault | None:
        """Take the fault that is due for a request, if one is."""
        with self.lock:
            if self.failing > 0:
                self.failing -= 1
                return Fault()
            for fault in self.faults:
                if fault.times > 0 and re.fullmatch(fault.method, method) and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None
