"""Owner and rights of a token, as the Hub describes them: whether it may write to a repository is known before the Hub refuses.

Only certain problems are reported; in doubt the Hub decides.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from finetune_trainer.contract.records import Reason
from finetune_trainer.contract.run_config import HubSettings
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.hub.token import read_token

WRITING = "repo.write"
READS_ALONE = ("read", "no_access")
"""Roles in an organisation that may not make a repository."""


def required_token(settings: HubSettings) -> str:
    """Read the token of the job. Raise ExpectedError where there is none."""
    token = read_token(settings)
    if token is None:
        raise ExpectedError(
            Reason.ACCESS_DENIED,
            "Publishing needs a token that may write: name a Secret with one in spec.hub.tokenSecretRef.",
        )
    return token


def endpoint_of(settings: HubSettings) -> str | None:
    """Return the address of the Hub; None is the library's default."""
    return settings.endpoint.rstrip("/") if settings.endpoint else None


def full_name(who: Mapping[str, Any], repo_id: str) -> str:
    """Return a repository's name with its owner: a name without one is the account's."""
    return repo_id if "/" in repo_id else f"{who['name']}/{repo_id}"


def problem(who: Mapping[str, Any], repo_id: str) -> ExpectedError | None:
    """Say why a token cannot write to a repository, as far as `whoami` tells; None if `whoami` does not tell."""
    name = str(who.get("name", ""))
    token = (who.get("auth") or {}).get("accessToken") or {}
    if token.get("role") == "read":
        return ExpectedError(
            Reason.ACCESS_DENIED,
            f"The token of {name} may only read: put one with the role `write` into the Secret of "
            "spec.hub.tokenSecretRef.",
        )
    owner = full_name(who, repo_id).split("/")[0]
    orgs = {str(org.get("name", "")).lower(): org for org in who.get("orgs") or ()}
    org = orgs.get(owner.lower())
    if org is None and owner.lower() != name.lower():
        member = f", which is a member of {', '.join(sorted(orgs))}" if orgs else ""
        return ExpectedError(
            Reason.REPO_INVALID,
            f"spec.publish.repoId {repo_id} belongs to {owner}; the token is of {name}{member}. Name a repository of "
            "your own, or use a token of its owner.",
        )
    if org is not None and org.get("roleInOrg") in READS_ALONE:
        return ExpectedError(
            Reason.ACCESS_DENIED,
            f"{name} may only read in {owner}: ask for the role `write` or `contributor` there, or name a repository "
            "of your own in spec.publish.repoId.",
        )
    return _fine_grained_problem(who, token, repo_id) if token.get("role") == "fineGrained" else None


def public_repository(repo_id: str) -> ExpectedError:
    """Make the error for a public repository where a private one is asked for: an upload that all can see can't be undone."""
    return ExpectedError(
        Reason.REPO_PUBLIC,
        f"{repo_id} is public, and spec.publish.private is true: nothing was uploaded. Make the repository private in "
        "its settings, name another one in spec.publish.repoId, or set spec.publish.private to false.",
    )


def _fine_grained_problem(who: Mapping[str, Any], token: Mapping[str, Any], repo_id: str) -> ExpectedError | None:
    granted = token.get("fineGrained") or {}
    if "scoped" not in granted or WRITING in (granted.get("global") or ()):
        return None
    entities = [scope.get("entity") or {} for scope in granted["scoped"] if WRITING in (scope.get("permissions") or ())]
    names = [str(entity.get("name") or "") for entity in entities]
    full = full_name(who, repo_id)
    wanted = {full.lower(), full.split("/")[0].lower()}
    if not all(names) or wanted & {name.lower() for name in names}:
        return None
    writes = f"may write to {', '.join(names)} alone" if names else "may not write to any repository"
    return ExpectedError(
        Reason.ACCESS_DENIED,
        f"The token may not write to {full}: the fine-grained token of {who['name']} {writes}. Give it write access to "
        "that repository or to its owner's.",
    )
