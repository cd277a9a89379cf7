"""Before training: a token or a repository that publishing is sure to fail with, found without changing the Hub."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.prepare import preflight
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.failures import ExpectedError
from tests.support.published import config
from tests.support.stub_hub import FINE_GRAINED_TOKEN, READ_TOKEN, TOKEN, Fault, Repository, StubHub, stub_hub

HARMLESS = {
    "GET /api/whoami-v2",
    "GET /api/models/me/reviews",
    "POST /api/models/me/reviews/preupload/main",
}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHub]:
    monkeypatch.setattr(preflight, "BACKOFF", replace(preflight.BACKOFF, first_seconds=0.01, most_seconds=0.01))
    with stub_hub() as stub:
        stub.models["somebody/theirs"] = Repository()
        yield stub


def job(hub: StubHub, folder: Path, token: str = TOKEN, **publish: Any) -> TaskConfig:
    (folder / "token").write_text(token)
    access = {"endpoint": hub.endpoint, "token_file": str(folder / "token")}
    return config(folder / "output", publish=publish, hub=access, model={"name": str(folder / "no-such-model")})


def checked(run: TaskConfig) -> tuple[str, ...]:
    return preflight.check(run.publish, run.hub)


def refusal(run: TaskConfig) -> ExpectedError:
    with pytest.raises(ExpectedError) as raised:
        preflight.check(run.publish, run.hub)
    assert raised.value.cause is Cause.USER
    assert str(raised.value).startswith("The model could not be published: ")
    return raised.value


def test_a_good_token_is_let_through_and_nothing_is_made(hub: StubHub, tmp_path: Path) -> None:
    assert checked(job(hub, tmp_path)) == ()
    assert "me/reviews" not in hub.models
    hub.models["me/reviews"] = Repository()
    assert checked(job(hub, tmp_path)) == ()
    assert checked(job(hub, tmp_path, revision="made-later")) == ()
    assert checked(job(hub, tmp_path, repo_id="reviews")) == ()
    assert set(hub.asked) == HARMLESS
    assert hub.models["me/reviews"] == Repository()
    assert checked(job(hub, tmp_path, repo_id="team/reviews")) == ()


def test_public_repository_for_private_model_is_refused(hub: StubHub, tmp_path: Path) -> None:
    """A public repository for what is to be private is refused before training."""
    hub.models["me/reviews"] = Repository()
    with pytest.raises(ExpectedError, match="me/reviews is public") as raised:
        checked(job(hub, tmp_path, private=True))
    assert raised.value.reason is Reason.REPO_PUBLIC
    hub.models["me/reviews"] = Repository(private=True)
    assert checked(job(hub, tmp_path, private=True)) == ()


def test_a_job_that_is_not_published_asks_nothing(hub: StubHub, tmp_path: Path) -> None:
    assert preflight.check(None, job(hub, tmp_path).hub) == ()
    assert not hub.asked


@pytest.mark.parametrize(
    ("token", "repo_id", "reason", "words"),
    [
        (READ_TOKEN, "me/reviews", Reason.ACCESS_DENIED, "The token of me may only read"),
        ("hf_never_heard_of", "me/reviews", Reason.ACCESS_DENIED, "refuses the token"),
        (TOKEN, "somebody/theirs", Reason.REPO_INVALID, "belongs to somebody"),
        (TOKEN, "somebody/new", Reason.REPO_INVALID, "belongs to somebody"),
        (TOKEN, "me/re--views", Reason.REPO_INVALID, "is no repository's name"),
        (FINE_GRAINED_TOKEN, "me/there", Reason.ACCESS_DENIED, "may write to me/granted alone"),
        (FINE_GRAINED_TOKEN, "me/new", Reason.ACCESS_DENIED, "may write to me/granted alone"),
    ],
)
def test_what_publishing_would_fail_with(
    hub: StubHub, tmp_path: Path, token: str, repo_id: str, reason: Reason, words: str
) -> None:
    hub.models["me/there"] = Repository()
    error = refusal(job(hub, tmp_path, token, repo_id=repo_id))
    assert error.reason is reason
    assert words in str(error)
    assert token not in str(error)


def test_a_job_without_a_token(hub: StubHub, tmp_path: Path) -> None:
    run = job(hub, tmp_path).model_copy(update={"hub": config(tmp_path).hub})
    assert "name a Secret with one in spec.hub.tokenSecretRef" in str(refusal(run))


@pytest.mark.parametrize("path", ["whoami", "/api/models/me/there", "preupload"])
def test_a_hub_that_is_down_keeps_nobody_from_training(hub: StubHub, tmp_path: Path, path: str) -> None:
    hub.models["me/there"] = Repository()
    hub.faults.append(Fault(path=path, times=2))
    assert checked(job(hub, tmp_path, repo_id="me/there")) == (), "it came back"
    hub.faults.append(Fault(path=path, times=99))
    (message,) = checked(job(hub, tmp_path, repo_id="me/there"))
    assert message.startswith("Whether the model can be published to me/there is not known before it is trained: ")
    assert "it answered 503" in message


def test_a_mirror_that_tells_no_names(hub: StubHub, tmp_path: Path) -> None:
    hub.models["me/there"] = Repository()
    hub.faults.append(Fault(path="whoami", times=99, status=404, error="Cannot GET /api/whoami-v2"))
    assert checked(job(hub, tmp_path, repo_id="me/there")) == ()
    assert refusal(job(hub, tmp_path, READ_TOKEN, repo_id="me/there")).reason is Reason.ACCESS_DENIED


def test_prepare_asks_before_anything_else(hub: StubHub, tmp_path: Path) -> None:
    with pytest.raises(ExpectedError, match="may only read"):
        prepare(job(hub, tmp_path, READ_TOKEN))
    with pytest.raises(ExpectedError, match="no-such-model does not exist"):
        prepare(job(hub, tmp_path))
