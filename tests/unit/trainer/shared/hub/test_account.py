"""What `whoami` tells about a token before the Hub has to refuse it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract.records import Reason
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.hub.account import full_name, problem, required_token
from tests.support.published import config


def who(role: str = "write", **token: Any) -> dict[str, Any]:
    orgs = [{"name": "Team", "roleInOrg": "write"}, {"name": "readers", "roleInOrg": "read"}]
    return {"name": "me", "orgs": orgs, "auth": {"accessToken": {"role": role, **token}}}


def scoped(*permissions: str, name: str | None = "me") -> dict[str, Any]:
    scope = {"entity": {"type": "user", "name": name}, "permissions": list(permissions)}
    return {"fineGrained": {"global": [], "scoped": [scope]}}


@pytest.mark.parametrize("repo_id", ["reviews", "me/reviews", "Me/reviews", "team/reviews"])
def test_ones_own_and_ones_organisations(repo_id: str) -> None:
    assert problem(who(), repo_id) is None


@pytest.mark.parametrize(
    ("token", "repo_id", "reason", "words"),
    [
        (who("read"), "me/reviews", Reason.ACCESS_DENIED, "The token of me may only read"),
        (who(), "somebody/reviews", Reason.REPO_INVALID, "belongs to somebody; the token is of me"),
        (who(), "somebody/reviews", Reason.REPO_INVALID, "a member of readers, team"),
        (who(), "readers/reviews", Reason.ACCESS_DENIED, "me may only read in readers"),
        (
            who("fineGrained", **scoped("repo.content.read")),
            "me/reviews",
            Reason.ACCESS_DENIED,
            "may not write to any repository",
        ),
        (
            who("fineGrained", **scoped("repo.write", name="me/granted")),
            "me/reviews",
            Reason.ACCESS_DENIED,
            "may write to me/granted alone",
        ),
    ],
)
def test_what_is_sure_to_be_refused(token: dict[str, Any], repo_id: str, reason: Reason, words: str) -> None:
    refusal = problem(token, repo_id)
    assert refusal is not None
    assert refusal.reason is reason
    assert words in str(refusal)


def test_what_is_not_sure_is_left_to_the_hub() -> None:
    assert problem(who("fineGrained", **scoped("repo.write")), "me/reviews") is None
    assert problem(who("fineGrained", **scoped("repo.write", name="Me/Reviews")), "reviews") is None
    assert problem(who("fineGrained", **scoped("repo.write", name=None)), "me/reviews") is None
    assert problem(who("fineGrained", fineGrained={"scoped": [], "global": ["repo.write"]}), "me/reviews") is None
    assert problem(who("fineGrained"), "me/reviews") is None
    assert problem({"name": "me"}, "me/reviews") is None
    assert problem(who("god"), "me/reviews") is None


def test_the_owner_is_the_accounts_where_none_is_named() -> None:
    assert full_name(who(), "reviews") == "me/reviews"
    assert full_name(who(), "team/reviews") == "team/reviews"


def test_the_token_is_read_or_asked_for(tmp_path: Path) -> None:
    with pytest.raises(ExpectedError, match=r"name a Secret with one in spec\.hub\.tokenSecretRef"):
        required_token(config(tmp_path).hub)
    run = config(tmp_path, hub={"token_file": str(tmp_path / "token")})
    with pytest.raises(ExpectedError, match="cannot be read: No such file"):
        required_token(run.hub)
    (tmp_path / "token").write_text(" \n")
    with pytest.raises(ExpectedError, match="is empty"):
        required_token(run.hub)
    (tmp_path / "token").write_text("hf_x\n")
    assert required_token(run.hub) == "hf_x"
