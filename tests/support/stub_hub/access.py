"""Rights to read and write repositories; refusals have the words and codes of the real Hub."""

from __future__ import annotations

from typing import Any

from tests.support.stub_hub.messages import Refused, Request
from tests.support.stub_hub.state import Account, Repository, StubHub


def account_of(hub: StubHub, request: Request) -> Account | None:
    """Return the account whose token was sent; None where none was."""
    if not request.token:
        return None
    account = hub.accounts.get(request.token)
    if account is None:
        raise Refused(401, "Invalid credentials in Authorization header")
    return account


def owns(account: Account, namespace: str) -> bool:
    """Return whether a namespace is the account's own, or that of one of its organisations."""
    return namespace in (account.name, *account.orgs)


def readable(hub: StubHub, kind: str, name: str, account: Account | None) -> Repository:
    """Return a repository that the account may know of."""
    repository = hub.repositories(kind).get(name)
    if repository is None or (repository.private and not _granted(repository, name, account)):
        raise Refused(404 if account else 401, "Repository not found", "RepoNotFound")
    return repository


def visible(hub: StubHub, kind: str, account: Account | None) -> list[str]:
    """Return the names of the repositories that the account may know of."""
    named = hub.repositories(kind).items()
    return sorted(name for name, repository in named if not repository.private or _granted(repository, name, account))


def check_gate(repository: Repository, name: str, account: Account | None) -> None:
    """Refuse files of a gated repository to those who were not let in."""
    if repository.gated and not _granted(repository, name, account):
        problem = "you are not in the authorized list" if account else "you must have access to it and be authenticated"
        raise Refused(403 if account else 401, f"Access to this repository is restricted, {problem}", "GatedRepo")


def writable(hub: StubHub, kind: str, name: str, account: Account | None) -> Repository:
    """Return a repository that the account may change."""
    if account is None:
        raise Refused(401, "Invalid username or password.")
    repository = readable(hub, kind, name, account)
    if not may_write(account, name):
        raise Refused(403, f"Forbidden: you don't have write access to {name}")
    return repository


def may_write(account: Account, name: str) -> bool:
    """Return whether the token may change, or make, a repository of this name."""
    namespace = name.split("/")[0]
    if account.role == "fineGrained":
        return name in account.writes or namespace in account.writes
    return account.role == "write" and owns(account, namespace)


def whoami(account: Account | None) -> dict[str, Any]:
    """Return the Hub's answer about a token."""
    if account is None:
        raise Refused(401, "Invalid username or password.")
    token: dict[str, Any] = {"displayName": "test", "role": account.role}
    if account.role == "fineGrained":
        token["fineGrained"] = {
            "canReadGatedRepos": True,
            "global": [],
            "scoped": [_scope(name) for name in account.writes],
        }
    orgs = [{"type": "org", "name": org, "fullname": org, "roleInOrg": "write"} for org in account.orgs]
    auth = {"type": "access_token", "accessToken": token}
    return {
        "type": "user",
        "id": account.name,
        "name": account.name,
        "fullname": account.name,
        "orgs": orgs,
        "auth": auth,
    }


def _scope(name: str) -> dict[str, Any]:
    entity = {"_id": name, "type": "model" if "/" in name else "user", "name": name}
    return {"entity": entity, "permissions": ["repo.content.read", "repo.write"]}


def _granted(repository: Repository, name: str, account: Account | None) -> bool:
    return account is not None and (account.name in repository.granted or owns(account, name.split("/")[0]))
