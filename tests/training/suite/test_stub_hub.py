"""The Hub of the tests, proven with the real client: what is uploaded can be downloaded, and it refuses as the Hub does."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub_jobs import hub_of_this_process
from tests.support.stub_hub import (
    COMMITS,
    FINE_GRAINED_TOKEN,
    OTHER_TOKEN,
    READ_TOKEN,
    TOKEN,
    Fault,
    Repository,
    StubHub,
    stub_hub,
)

CARD = """---
license: mit
pipeline_tag: text-classification
tags: [reviews]
---
# A model
"""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHub]:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    with stub_hub() as stub:
        yield stub


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(bytes(range(256)) * 4000)
    (folder / "config.json").write_text('{"model_type": "bert"}')
    (folder / "README.md").write_text(CARD)
    return folder


def api(hub: StubHub, token: str | None = TOKEN) -> Any:
    from huggingface_hub import HfApi

    return HfApi(endpoint=hub.endpoint, token=token or False)


def upload(hub: StubHub, folder: Path, repo: str = "me/x", token: str = TOKEN, **more: Any) -> Any:
    client = api(hub, token)
    client.create_repo(repo, exist_ok=True)
    return client.upload_folder(repo_id=repo, folder_path=folder, commit_message="A model", **more)


def asked(hub: StubHub, method: str, part: str) -> list[str]:
    return [line for line in hub.asked if line.startswith(f"{method} ") and part in line]


def status(call: Any) -> int:
    from huggingface_hub.errors import HfHubHTTPError

    with pytest.raises(HfHubHTTPError) as raised:
        call()
    return int(raised.value.response.status_code)


def test_what_was_uploaded_can_be_downloaded(hub: StubHub, model: Path, tmp_path: Path) -> None:
    info = upload(hub, model)
    repository = hub.models["me/x"]
    (commit,) = repository.commits
    assert (commit.oid, commit.message) == (info.oid, "A model")
    assert commit.files["model.safetensors"] == (model / "model.safetensors").read_bytes()
    assert set(commit.files) == {".gitattributes", "README.md", "config.json", "model.safetensors"}
    assert info.commit_url == f"{hub.endpoint}/me/x/commit/{commit.oid}"

    client = api(hub)
    folder = Path(client.snapshot_download("me/x", cache_dir=tmp_path / "cache"))
    assert folder.name == commit.oid
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == commit.files
    remote = client.model_info("me/x")
    assert (remote.sha, remote.pipeline_tag, remote.card_data.license) == (commit.oid, "text-classification", "mit")
    entries = {entry.path: entry for entry in client.list_repo_tree("me/x")}
    weights = hashlib.sha256(commit.files["model.safetensors"]).hexdigest()
    assert entries["model.safetensors"].lfs.sha256 == weights
    assert [entry.title for entry in client.list_repo_commits("me/x")] == ["A model", "initial commit"]


def test_the_same_content_again_makes_no_commit(hub: StubHub, model: Path) -> None:
    first = upload(hub, model)
    again = upload(hub, model)
    assert again.oid == first.oid
    assert len(hub.models["me/x"].commits) == 1
    assert len(asked(hub, "PUT", "/lfs/")) == 1


def test_a_changed_file_and_a_deleted_one(hub: StubHub, model: Path) -> None:
    upload(hub, model)
    (model / "config.json").write_text("{}")
    (model / "README.md").unlink()
    upload(hub, model, delete_patterns="*")
    assert hub.models["me/x"].files().keys() == {".gitattributes", "config.json", "model.safetensors"}
    assert hub.models["me/x"].files()["config.json"] == b"{}"


def test_a_commit_on_an_old_parent_is_refused(hub: StubHub, model: Path) -> None:
    first = upload(hub, model)
    (model / "config.json").write_text("{}")
    upload(hub, model)
    (model / "config.json").write_text('{"third": 3}')
    assert status(lambda: upload(hub, model, parent_commit=first.oid)) == 412


def test_a_branch_of_its_own(hub: StubHub, model: Path) -> None:
    api(hub).create_repo("team/x", private=True)
    assert status(lambda: upload(hub, model, "team/x", revision="feature/a")) == 404
    api(hub).create_branch("team/x", branch="feature/a")
    info = upload(hub, model, "team/x", revision="feature/a")
    assert hub.models["team/x"].private
    assert api(hub).model_info("team/x", revision="feature/a").sha == info.oid
    refs = api(hub).list_repo_refs("team/x")
    assert {branch.name: branch.target_commit for branch in refs.branches}["feature/a"] == info.oid
    assert hub.models["team/x"].files("main").keys() == {".gitattributes"}


def test_what_is_there_as_a_folder_can_be_committed_to(hub: StubHub, model: Path, tmp_path: Path) -> None:
    hub.models["me/base"] = Repository(model)
    (tmp_path / "more").mkdir()
    (tmp_path / "more/notes.txt").write_text("more")
    assert api(hub).model_info("me/base").sha == COMMITS["main"]
    upload(hub, tmp_path / "more", "me/base")
    assert set(hub.models["me/base"].files()) == {"README.md", "config.json", "model.safetensors", "notes.txt"}
    assert set(hub.models["me/base"].files("v1")) == {"README.md", "config.json", "model.safetensors"}


def test_who_may_write(hub: StubHub, model: Path) -> None:
    hub.models["me/x"], hub.models["somebody/x"] = Repository(model), Repository(model)
    (model.parent / "new").mkdir()
    (model.parent / "new/a.txt").write_text("a")

    def write(token: str | None, repo: str) -> Any:
        return api(hub, token).upload_folder(repo_id=repo, folder_path=model.parent / "new")

    refused = [(TOKEN, "somebody/x"), (READ_TOKEN, "me/x"), (FINE_GRAINED_TOKEN, "me/x"), (OTHER_TOKEN, "me/x")]
    assert [status(lambda: write(*who)) for who in refused] == [403, 403, 403, 403]  # noqa: B023
    assert [status(lambda: write(token, "me/x")) for token in (None, "hf_wrong")] == [401, 401]  # noqa: B023
    assert [status(lambda: api(hub, token).create_repo("me/new")) for token in (READ_TOKEN, OTHER_TOKEN)] == [403, 403]  # noqa: B023
    assert status(lambda: api(hub).create_repo("somebody/new")) == 403
    assert status(lambda: api(hub).create_repo("me/x")) == 409
    hub.models["me/granted"] = Repository(model)
    assert write(FINE_GRAINED_TOKEN, "me/granted").oid == hub.models["me/granted"].commits[0].oid
    roles = [
        api(hub, token).whoami()["auth"]["accessToken"]["role"] for token in (TOKEN, READ_TOKEN, FINE_GRAINED_TOKEN)
    ]
    assert roles == ["write", "read", "fineGrained"]
    assert [org["name"] for org in api(hub).whoami()["orgs"]] == ["team"]


def test_gated_and_private(hub: StubHub, model: Path, tmp_path: Path) -> None:
    from huggingface_hub.errors import GatedRepoError, RepositoryNotFoundError

    hub.models["us/gated"] = Repository(model, gated=True)
    hub.models["us/private"] = Repository(model, private=True)

    def config(token: str | None, repo: str, cache: str) -> Any:
        return api(hub, token).hf_hub_download(repo, "config.json", cache_dir=tmp_path / cache)

    for token in (None, OTHER_TOKEN):
        assert api(hub, token).model_info("us/gated").gated == "manual"
        with pytest.raises(GatedRepoError):
            config(token, "us/gated", f"none-{token}")
        with pytest.raises(RepositoryNotFoundError):
            config(token, "us/private", f"none-{token}")
    assert Path(config(READ_TOKEN, "us/gated", "a")).is_file()
    assert Path(config(READ_TOKEN, "us/private", "b")).is_file()


def test_faults_come_in_order_and_are_used_up(hub: StubHub, model: Path) -> None:
    hub.faults.append(Fault(method="POST", path=r"/repos/create$", status=503))
    assert status(lambda: upload(hub, model)) == 503
    hub.faults.append(Fault(method="PUT", path="/lfs/", times=1, status=429, headers={"Retry-After": "0"}))
    hub.faults.append(Fault(method="PUT", path="/lfs/", times=1, cut=True))
    upload(hub, model)
    assert len(asked(hub, "PUT", "/lfs/")) == 3
    assert not [fault for fault in hub.faults if fault.times]
    assert hub.models["me/x"].files()["model.safetensors"] == (model / "model.safetensors").read_bytes()


def test_an_answer_that_is_lost_leaves_the_commit(hub: StubHub, model: Path) -> None:
    import httpx2

    hub.faults.append(Fault(method="POST", path="/commit/", lost=True))
    with pytest.raises(httpx2.TransportError):
        upload(hub, model)
    assert len(hub.models["me/x"].commits) == 1
    assert upload(hub, model).oid == hub.models["me/x"].commits[0].oid
    assert len(hub.models["me/x"].commits) == 1


def test_a_download_that_is_cut_goes_on_where_it_was(hub: StubHub, model: Path, tmp_path: Path) -> None:
    hub.models["us/x"] = Repository(model)
    hub.faults.append(Fault(method="GET", path="/resolve/.*safetensors", cut=True))
    path = api(hub).hf_hub_download("us/x", "model.safetensors", cache_dir=tmp_path / "cache")
    assert Path(path).read_bytes() == (model / "model.safetensors").read_bytes()
    assert len(asked(hub, "GET", "/resolve/")) == 2


def test_a_slow_answer_holds_up_no_other(hub: StubHub, model: Path) -> None:
    hub.models["us/x"] = Repository(model)
    released = threading.Event()
    hub.faults.append(Fault(method="GET", path="/api/models/us/x/refs", status=None, held=released))
    slow: list[object] = []

    def wait() -> None:
        slow.append(api(hub).list_repo_refs("us/x"))

    thread = threading.Thread(target=wait)
    thread.start()
    for _ in range(5):
        api(hub).model_info("us/x")
    assert not slow
    released.set()
    thread.join()
    assert slow


@pytest.mark.parametrize(
    ("block", "problem"),
    [
        ("tags: [a", "YAML Metadata Error"),
        ("license: [mit]", '"license" must be a string'),
        ("model-index:\n- name: x\n  results:\n  - task: {type: a}", '"dataset.type" is required'),
    ],
)
def test_a_card_that_the_hub_does_not_take(block: str, problem: str, hub: StubHub, model: Path) -> None:
    (model / "README.md").write_text(f"---\n{block}\n---\n# A model\n")
    with pytest.raises(ValueError, match=problem):
        upload(hub, model)
    assert not hub.models["me/x"].commits


def test_transformers_loads_what_was_uploaded(hub: StubHub, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from tests.support.tiny import word_tokenizer

    word_tokenizer().save_pretrained(tmp_path / "tokenizer")
    upload(hub, tmp_path / "tokenizer")
    with hub_of_this_process(hub, tmp_path / "cache"):
        loaded = AutoTokenizer.from_pretrained("me/x", token=TOKEN)
    assert loaded("good food")["input_ids"] == word_tokenizer()("good food")["input_ids"]


def test_it_can_stand_on_another_address(model: Path) -> None:
    with stub_hub(host="127.0.0.2") as hub:
        hub.models["us/x"] = Repository(model)
        assert hub.endpoint.startswith("http://127.0.0.2:")
        assert api(hub).model_info("us/x").sha == COMMITS["main"]
