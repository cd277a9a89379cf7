"""Publishing by the real client to a Hub that speaks its protocol: one commit, nothing but the model, however often."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.volume import Layout
from tests.support.published import FILES, Publishing, seal_model
from tests.support.script_jobs import script_config
from tests.support.stub_hub import FINE_GRAINED_TOKEN, READ_TOKEN, TOKEN, Fault, Repository, StubHub, stub_hub

CARD = b"---\nlicense: mit\nlanguage: en\n---\n# Tiny\n"
PUBLISHED = {*FILES, "README.md"}


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[StubHub]:
    (tmp_path / "tiny").mkdir()
    (tmp_path / "tiny/README.md").write_bytes(CARD)
    with stub_hub() as stub:
        stub.models["us/tiny"] = Repository(tmp_path / "tiny")
        stub.models["somebody/theirs"] = Repository(tmp_path / "tiny")
        yield stub


@pytest.fixture
def publishing(hub: StubHub, tmp_path: Path) -> Publishing:
    """Seal a job's model, with things beside it that must not leave the volume."""
    job = Publishing(tmp_path / "job", hub.endpoint, TOKEN)
    seal_model(job.layout, {"training_args.bin": b"pickled", "optimizer.pt": b"state", "train.log": b"log"})
    return job


def refusal(publishing: Publishing, **options: dict[str, object]) -> ExpectedError:
    """Return the error with which it fails at once, for the user to mend."""
    with pytest.raises(ExpectedError) as raised:
        publishing.run(**options)  # type: ignore[arg-type]
    assert raised.value.cause is Cause.USER
    assert not [line for line in publishing.messages if line.startswith("try ")], "it was not tried again"
    assert TOKEN not in str(raised.value)
    return raised.value


def test_model_tokenizer_and_card_in_one_commit(hub: StubHub, publishing: Publishing) -> None:
    published = publishing.run(publish={"commit_message": "Stars of reviews", "private": True})
    repository = hub.models["me/reviews"]
    (commit,) = repository.commits
    assert published.commit == commit.oid == repository.branches["main"]
    assert (published.repo_id, published.url) == ("me/reviews", f"{hub.endpoint}/me/reviews")
    assert commit.message == "Stars of reviews"
    assert commit.files.keys() == {*PUBLISHED, ".gitattributes"}
    assert {name: commit.files[name] for name in FILES} == FILES
    assert repository.private
    metadata = yaml.safe_load(commit.files["README.md"].decode().split("---\n")[1])
    assert (metadata["license"], metadata["language"], metadata["base_model"]) == ("mit", "en", "us/tiny")
    assert hub.tokens == {TOKEN, ""}, "an address to send a file to is signed: the token is not for it"
    assert publishing.traffic.sent == len(FILES["model.safetensors"])
    assert not [request for request in hub.asked if "whoami" in request], "the Hub answers that one seldom"


def test_run_twice_it_is_one_commit(hub: StubHub, publishing: Publishing) -> None:
    first = publishing.run()
    del hub.models["us/tiny"]  # what its card says is known by now
    assert publishing.run() == first
    assert len(hub.models["me/reviews"].commits) == 1


def test_what_others_put_there_stays(hub: StubHub, publishing: Publishing, tmp_path: Path) -> None:
    (tmp_path / "theirs/onnx").mkdir(parents=True)
    (tmp_path / "theirs/onnx/model.onnx").write_bytes(b"onnx")
    (tmp_path / "theirs/config.json").write_bytes(b"old")
    (tmp_path / "theirs/training_args.bin").write_bytes(b"of before")
    hub.models["team/reviews"] = Repository(tmp_path / "theirs")
    publishing.run(publish={"repo_id": "team/reviews"})
    files = hub.models["team/reviews"].files()
    assert files["onnx/model.onnx"] == b"onnx"
    assert files["training_args.bin"] == b"of before"
    assert files["config.json"] == FILES["config.json"]


def test_no_file_is_left_out_because_the_repository_ignores_it(
    hub: StubHub, publishing: Publishing, tmp_path: Path
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/.gitignore").write_text("model.safetensors\nconfig.json\n")
    hub.models["me/reviews"] = Repository(tmp_path / "mine")
    publishing.run()
    assert hub.models["me/reviews"].files().keys() >= PUBLISHED


def test_a_branch_is_made_where_it_is_missing(hub: StubHub, publishing: Publishing) -> None:
    published = publishing.run(publish={"revision": "exp/v2"})
    repository = hub.models["me/reviews"]
    assert published.url == f"{hub.endpoint}/me/reviews/tree/exp%2Fv2"
    assert repository.branches["exp/v2"] == published.commit != repository.branches["main"]
    assert publishing.run(publish={"revision": "exp/v2"}) == published
    main = publishing.run()
    assert repository.files("main").keys() >= PUBLISHED
    assert repository.branches["exp/v2"] == published.commit != main.commit
    publishing.run(publish={"revision": "v3"})
    assert repository.files("v3").keys() >= PUBLISHED


def test_a_name_without_an_owner_is_the_accounts(hub: StubHub, publishing: Publishing) -> None:
    assert publishing.run(publish={"repo_id": "reviews"}).repo_id == "me/reviews"
    assert hub.models["me/reviews"].commits


def test_what_is_to_be_private_goes_to_no_public_repository(hub: StubHub, publishing: Publishing) -> None:
    hub.models["me/reviews"] = Repository()
    with pytest.raises(ExpectedError, match="me/reviews is public") as raised:
        publishing.run(publish={"private": True})
    assert (raised.value.reason, raised.value.cause) == (Reason.REPO_PUBLIC, Cause.USER)
    assert hub.models["me/reviews"].commits == []


def test_a_base_model_without_a_card_is_no_failure(hub: StubHub, publishing: Publishing) -> None:
    (hub.models["us/tiny"].folder or Path()).joinpath("README.md").unlink()
    publishing.run()
    assert "license" not in hub.models["me/reviews"].files()["README.md"].decode()
    assert [line for line in publishing.messages if "licence and language of us/tiny are not known" in line]


def test_a_licence_that_the_hub_refuses_does_not_keep_the_model_back(hub: StubHub, publishing: Publishing) -> None:
    hub.faults.append(Fault(path="validate-yaml", status=400, error='"license" must be one of'))
    publishing.run()
    card = hub.models["me/reviews"].files()["README.md"].decode()
    assert "license: mit" not in card
    assert "base_model: us/tiny" in card


# --- refused at once -------------------------------------------------------------------------------------------------


def test_a_token_that_may_only_read(hub: StubHub, publishing: Publishing) -> None:
    publishing.token = READ_TOKEN
    error = refusal(publishing)
    assert error.reason is Reason.ACCESS_DENIED
    assert "The token of me may only read" in str(error)
    assert "me/reviews" not in hub.models


@pytest.mark.parametrize(
    "route", ["repos/create", "branch/v2", "preupload", "lfs/objects/batch", "/verify", "/commit/"]
)
def test_no_write_access_on_any_route(hub: StubHub, publishing: Publishing, route: str) -> None:
    hub.faults.append(Fault(method="POST", path=route, times=99, status=403, error="Forbidden: pass on your token"))
    error = refusal(publishing, publish={"revision": "v2"})
    assert error.reason is Reason.ACCESS_DENIED
    assert "Forbidden: pass on your token" in str(error)


@pytest.mark.parametrize("route", ["/api/models/me/", "repos/create", "preupload", "/commit/"])
def test_a_token_that_is_no_longer_valid(hub: StubHub, publishing: Publishing, route: str) -> None:
    hub.faults.append(Fault(path=route, times=99, status=401, error="Invalid credentials in Authorization header"))
    error = refusal(publishing)
    assert error.reason is Reason.ACCESS_DENIED
    assert "Put a valid one that may write into the Secret of spec.hub.tokenSecretRef" in str(error)


def test_an_unknown_token(publishing: Publishing) -> None:
    publishing.token = "hf_never_heard_of"
    assert refusal(publishing).reason is Reason.ACCESS_DENIED


@pytest.mark.parametrize("repo_id", ["somebody/theirs", "somebody/new"])
def test_a_repository_of_somebody_else(hub: StubHub, publishing: Publishing, repo_id: str) -> None:
    error = refusal(publishing, publish={"repo_id": repo_id})
    assert error.reason is Reason.REPO_INVALID
    assert f"spec.publish.repoId {repo_id} belongs to somebody; the token is of me, which is a member of team" in str(
        error
    )
    assert not hub.models["somebody/theirs"].commits


def test_a_token_for_one_repository(hub: StubHub, publishing: Publishing) -> None:
    publishing.token = FINE_GRAINED_TOKEN
    assert refusal(publishing).reason is Reason.ACCESS_DENIED
    assert publishing.run(publish={"repo_id": "me/granted"}).repo_id == "me/granted"


def test_a_name_that_none_can_have(publishing: Publishing) -> None:
    error = refusal(publishing, publish={"repo_id": "me/re--views"})
    assert error.reason is Reason.REPO_INVALID
    assert "no repository's name" in str(error)


def test_a_tag_is_no_branch(hub: StubHub, publishing: Publishing, tmp_path: Path) -> None:
    hub.models["me/reviews"] = Repository(tmp_path / "tiny")
    error = refusal(publishing, publish={"revision": "v1"})
    assert error.reason is Reason.REPO_INVALID
    assert "spec.publish.revision names no branch" in str(error)


@pytest.mark.parametrize(
    ("route", "status", "words"),
    [
        ("PUT", 507, "Insufficient storage"),
        ("POST .*/commit/", 403, "Private repository storage limit reached"),
        ("POST .*lfs/objects/batch", 402, "Payment required"),
    ],
)
def test_a_full_account(hub: StubHub, publishing: Publishing, route: str, status: int, words: str) -> None:
    method, _, path = route.partition(" ")
    hub.faults.append(Fault(method=method, path=path, times=99, status=status, error=words))
    error = refusal(publishing)
    assert error.reason is Reason.QUOTA_EXCEEDED
    assert words in str(error)
    assert "Delete what is not needed there, or enlarge its plan" in str(error)


def test_a_damaged_model_is_not_published(hub: StubHub, publishing: Publishing) -> None:
    (publishing.layout.run.attempt(1).model / "model.safetensors").write_bytes(b"other")
    assert refusal(publishing).reason is Reason.MODEL_DAMAGED
    assert not hub.asked


def test_a_model_of_the_users_own_program_goes_with_the_card_that_it_has(hub: StubHub, tmp_path: Path) -> None:
    publishing = Publishing(tmp_path / "job", hub.endpoint, TOKEN)
    run = script_config(
        tmp_path / "job/output",
        script={"arguments": ("--key=secret",)},
        model={"name": "us/tiny"},
        publish={"repo_id": "me/reviews"},
        hub=publishing.config().hub.model_dump(),
    )
    left = {"model.keras": b"weights", "runs/events.out": b"log", "arguments.pkl": b"pickled"}
    seal_model(Layout.of(run), left, whole=True)
    published = publishing.publish(run)
    (commit,) = hub.models["me/reviews"].commits
    assert published.commit == commit.oid
    assert commit.files.keys() == {"model.keras", "README.md", ".gitattributes"}
    card = commit.files["README.md"].decode()
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert (metadata["license"], metadata["base_model"], metadata["library_name"]) == ("mit", "us/tiny", "keras")
    assert "secret" not in card
    assert "not uploaded: arguments.pkl, runs/events.out" in publishing.messages
    assert publishing.publish(run).commit == commit.oid
