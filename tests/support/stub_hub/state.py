"""The state of the Hub, which tests set up and read: its repositories, its accounts, and the requests to it."""

from __future__ import annotations

import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.stub_hub.blobs import Blob

TOKEN = "hf_token_of_the_test"
"""Token of account `me`, which is in the organisation `team`: may write."""
READ_TOKEN = "hf_token_that_may_only_read"
"""Token of the same account that may only read."""
FINE_GRAINED_TOKEN = "hf_token_for_one_repository"
"""Token of the same account: may read, and write to `me/granted` alone."""
OTHER_TOKEN = "hf_token_of_somebody_else"
"""Token of account `somebody`, who owns all repositories below `somebody/`."""

COMMITS = {"main": "a" * 40, "v1": "b" * 40}
"""Branch `main` and tag `v1` of every repository that was given as a folder -> commit."""
INITIAL_COMMIT = "c" * 40
"""First commit of every repository that was made through the API; it holds .gitattributes, as on the real Hub."""
GIT_ATTRIBUTES = b"*.bin filter=lfs diff=lfs merge=lfs -text\n*.safetensors filter=lfs diff=lfs merge=lfs -text\n"


@dataclass(frozen=True)
class Account:
    """The account of a token."""

    name: str
    role: str = "write"
    """`write`, `read` or `fineGrained`, as the Hub calls them."""
    orgs: tuple[str, ...] = ()
    """Organisations in which the account may write."""
    writes: tuple[str, ...] = ()
    """Scope of a fine-grained token: repositories or namespaces that it may write to."""


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
    """A model or dataset. Its files are those of its folder, if it has one, until something is committed."""

    folder: Path | None = None
    gated: bool = False
    private: bool = False
    granted: set[str] = field(default_factory=lambda: {"me"})
    """Accounts that may read the repository where it is gated or private; owners always may."""
    commits: list[Commit] = field(default_factory=list)
    """Commits through the API, oldest first, on any branch; the Hub's own initial commit is not among them."""
    branches: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    lfs: dict[str, bytes] = field(default_factory=dict)
    """SHA-256 -> content of each upload, committed or not."""

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
        """Return the files of a branch now: path -> content."""
        oid = self.commit_of(revision)
        return {path: blob.content for path, blob in self.tree(oid).items()} if oid else {}


@dataclass
class Fault:
    """A fault that a test orders. A request meets the first that matches it; after `times` requests a fault is used up."""

    method: str = ".*"
    """Regular expression that the whole method matches."""
    path: str = ""
    """Regular expression that is searched in the path."""
    times: int = 1
    status: int | None = 503
    """Status of the answer. None: the normal answer (after the delay). 200: a web page, as from a server that is no Hub."""
    headers: Mapping[str, str] = field(default_factory=dict)
    error: str = "The Hub is over capacity"
    cut: bool = False
    """Whether the connection is closed in the middle of the request's body or, where that has none, of the answer's."""
    lost: bool = False
    """Whether the request is carried out, but the connection closed before the answer."""
    delay_seconds: float = 0.0
    """Delay of the answer; with `status=None` the Hub is only slow."""
    held: threading.Event | None = None
    """Event for which the request waits before it is carried out and answered."""
    done: bool = False
    """Whether a request that met the fault has been carried out."""


@dataclass
class StubHub:
    models: dict[str, Repository] = field(default_factory=dict)
    datasets: dict[str, Repository] = field(default_factory=dict)
    failing: int = 0
    """Number of requests to answer with 503 from now on."""
    faults: list[Fault] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    """`METHOD path` of each request."""
    tokens: set[str] = field(default_factory=set)
    """Tokens that were sent; an empty text stands for none."""
    endpoint: str = ""
    accounts: dict[str, Account] = field(
        default_factory=lambda: {
            TOKEN: Account("me", orgs=("team",)),
            READ_TOKEN: Account("me", role="read", orgs=("team",)),
            FINE_GRAINED_TOKEN: Account("me", role="fineGrained", orgs=("team",), writes=("me/granted",)),
            OTHER_TOKEN: Account("somebody"),
        }
    )
    """Token -> account and rights."""
    lock: threading.RLock = field(default_factory=threading.RLock, repr=False)

    def repositories(self, kind: str) -> dict[str, Repository]:
        """Return `models` or `datasets`."""
        return self.datasets if kind == "datasets" else self.models

    def fault_for(self, method: str, path: str) -> Fault | None:
        """Return the fault that is due for a request, if there is one, and count it."""
        with self.lock:
            if self.failing > 0:
                self.failing -= 1
                return Fault()
            for fault in self.faults:
                if fault.times > 0 and re.fullmatch(fault.method, method) and re.search(fault.path, path):
                    fault.times -= 1
                    return fault
        return None
