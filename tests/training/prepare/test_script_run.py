"""What a script finds: the model and the data that its job names, at one commit, offline, under the ids that it loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import try_to_load_from_cache

from finetune_trainer.contract.prepared import Prepared
from finetune_trainer.contract.records import Failure, Reason
from finetune_trainer.contract.run_config import ScriptConfig
from finetune_trainer.prepare import hub as hub_module
from finetune_trainer.prepare import hub_home, preflight
from finetune_trainer.prepare.prepare_command import attempt
from tests.support.hub_content import datasets
from tests.support.hub_jobs import hub_of_this_process
from tests.support.script_jobs import UID, index_of, script_config, wheel
from tests.support.stub_hub import COMMITS, TOKEN, Repository, StubHub, stub_hub
from tests.support.stub_web import stub_web
from tests.support.tiny import tiny_bert

PROGRAM = """
import json, os, sparkle
from datasets import load_dataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

def refused(load):
    try:
        load()
    except Exception:
        return True
    return False

def lengths(splits):
    return {name: len(rows) for name, rows in splits.items()}

AutoTokenizer.from_pretrained("us/tiny")
model = AutoModelForSequenceClassification.from_pretrained("us/tiny")
by_name, by_folder = load_dataset("us/reviews"), load_dataset(os.environ["DATA_DIR"])
print(json.dumps({
    "package": sparkle.VERSION,
    "model": model.config.model_type,
    "name": lengths(by_name),
    "folder": lengths(by_folder),
    "mapped": lengths(by_name.map(lambda row: row)),
    "streamed": sorted(next(iter(load_dataset("us/reviews", split="train", streaming=True)))),
    "refused": [refused(lambda: load_dataset("us/reviews", data_files="data/train.parquet")),
                refused(lambda: load_dataset("us/reviews", data_dir="data")),
                refused(lambda: load_dataset("us/configs"))],
}))
"""
RUN = """
import sys
from pathlib import Path
from finetune_trainer.contract.prepared import Prepared
from finetune_trainer.contract.run_config import ScriptConfig
from finetune_trainer.script import program

config, prepared = (Path(name).read_bytes() for name in sys.argv[1:])
program.run(ScriptConfig.model_validate_json(config), Prepared.model_validate_json(prepared))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model with its weights in several forms."""
    model = tiny_bert(tmp_path_factory.mktemp("hub") / "model")
    (model / "onnx").mkdir()
    for name in ("onnx/model.onnx", "pytorch_model.bin", "tf_model.h5", "modeling_tiny.py"):
        (model / name).write_bytes(b"#")
    return model


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHub]:
    monkeypatch.setattr(hub_module, "BACKOFF", replace(hub_module.BACKOFF, first_seconds=0.01, tries=2))
    with stub_hub() as stub, hub_of_this_process(stub, tmp_path / "claim/.finetune/hub"):
        stub.models["us/tiny"] = Repository(folder)
        stub.datasets.update(datasets(tmp_path / "datasets"))
        yield stub


def config(tmp_path: Path, hub: StubHub | None = None, **fields: Any) -> ScriptConfig:
    endpoint = hub.endpoint if hub is not None else None
    return script_config(tmp_path / "claim", hub={"endpoint": endpoint}, **fields)


def prepared(run: ScriptConfig, first_attempt: int | None = None) -> Prepared:
    outcome = attempt(run, first_attempt=first_attempt)
    assert isinstance(outcome, Prepared), outcome
    return outcome


def failure(run: ScriptConfig) -> Failure:
    outcome = attempt(run)
    assert isinstance(outcome, Failure), outcome
    return outcome


def commit_of(home: str | None, name: str = "us/tiny", revision: str | None = None) -> str:
    """Return the commit that the libraries take for a model, offline."""
    file = try_to_load_from_cache(name, "config.json", cache_dir=f"{home}/hub", revision=revision)
    assert isinstance(file, str), file
    return Path(file).parent.name


def run_program(run: ScriptConfig, left: Prepared, folder: Path) -> str:
    """Run the program as a rank does, in an image with caches of its own; returns what it prints."""
    (folder / "train.py").write_text(PROGRAM)
    (folder / "run.json").write_text(run.to_json())
    (folder / "prepared.json").write_text(left.to_json())
    image = {"HF_HOME": str(folder / "of-image"), "HF_DATASETS_CACHE": str(folder / "of-image/datasets")}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(folder / "run.json"), str(folder / "prepared.json")],
        env={**os.environ, "HF_HUB_OFFLINE": "1", **image},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_program_loads_model_and_dataset_offline_by_their_ids(
    hub: StubHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel(tmp_path / "index", "sparkle", "2.0")
    for name, value in index_of(tmp_path / "index").items():
        monkeypatch.setenv(name, value)
    program = {"path": f"{tmp_path}/train.py", "requirements": ["sparkle"]}
    run = config(tmp_path, hub, script=program, model={"name": "us/tiny"}, dataset={"name": "us/reviews"})
    left = prepared(run)
    assert left.resolved.model_revision == left.resolved.dataset_revision == COMMITS["main"]
    assert left.hub_home == str(tmp_path / "claim/my-script/runs" / UID / "hub")
    splits = {"train": 40, "test": 20}
    assert json.loads(run_program(run, left, tmp_path)) == {
        "package": "2.0",
        "model": "bert",
        "name": splits,
        "folder": splits,
        "mapped": splits,
        "streamed": ["review", "stars"],
        "refused": [True, True, True],
    }


def test_a_config_of_a_dataset_is_loaded_by_its_name(hub: StubHub, tmp_path: Path) -> None:
    left = prepared(config(tmp_path, hub, dataset={"name": "us/configs", "config": "short"}))
    (loaded,) = Path(str(left.hub_home)).glob("datasets/us___configs/short/*/*")
    assert json.loads((loaded / "dataset_info.json").read_text())["splits"].keys() == {"train"}


def test_what_the_program_may_read_is_fetched_and_its_weights_in_one_form(hub: StubHub, tmp_path: Path) -> None:
    left = prepared(config(tmp_path, hub, model={"name": "us/tiny"}))
    files = {
        path.relative_to(str(left.model)).as_posix() for path in Path(str(left.model)).rglob("*") if path.is_file()
    }
    assert files == {"config.json", "model.safetensors", "modeling_tiny.py", "tokenizer.json", "tokenizer_config.json"}


def test_ids_lead_to_the_commits_of_the_run_whatever_others_resolve(hub: StubHub, tmp_path: Path) -> None:
    first = prepared(config(tmp_path, hub, uid="first", model={"name": "us/tiny"}))
    hub.models["us/tiny"].branches["main"] = COMMITS["v1"]
    second = prepared(config(tmp_path, hub, uid="second", model={"name": "us/tiny"}))
    assert (commit_of(first.hub_home), commit_of(second.hub_home)) == (COMMITS["main"], COMMITS["v1"])
    assert Path(str(first.model)).is_relative_to(tmp_path / "claim/.finetune/hub"), "the bytes are those of the claim"


def test_a_revision_that_the_job_names_is_main_and_itself(hub: StubHub, tmp_path: Path) -> None:
    left = prepared(config(tmp_path, hub, model={"name": "us/tiny", "revision": "v1"}))
    assert commit_of(left.hub_home) == commit_of(left.hub_home, revision="v1") == COMMITS["v1"]


def test_on_a_volume_without_links_ids_lead_to_commits_too(
    hub: StubHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(hub_home, "replace_link", refused)
    left = prepared(config(tmp_path, hub, model={"name": "us/tiny", "revision": "v1"}))
    assert left.hub_home == str(tmp_path / "claim/.finetune/hub")
    assert commit_of(left.hub_home) == COMMITS["v1"]


def test_a_dataset_that_needs_a_config_is_there_as_files(hub: StubHub, tmp_path: Path) -> None:
    left = prepared(config(tmp_path, hub, dataset={"name": "us/configs"}))
    assert (Path(str(left.data)) / "data/train.parquet").is_file()
    assert any("load_dataset('us/configs') will not work" in text and "plain, short" in text for text in left.messages)
    wrong = failure(config(tmp_path, hub, dataset={"name": "us/configs", "config": "shrot"}))
    assert wrong.reason is Reason.DATASET_NOT_FOUND
    assert "Did you mean 'short'?" in wrong.message


def test_a_dataset_that_the_library_cannot_read_is_there_as_files(hub: StubHub, tmp_path: Path) -> None:
    left = prepared(config(tmp_path, hub, dataset={"name": "us/broken"}))
    assert (Path(str(left.data)) / "train.jsonl").is_file()
    assert any("load_dataset('us/broken') will not work" in text for text in left.messages)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"model": {"name": "us/nowhere"}}, Reason.MODEL_NOT_FOUND),
        ({"model": {"name": "us/tiny", "revision": "v9"}}, Reason.MODEL_NOT_FOUND),
        ({"model": {"name": "/models/nowhere"}}, Reason.MODEL_NOT_FOUND),
        ({"dataset": {"name": "us/nowhere"}}, Reason.DATASET_NOT_FOUND),
        ({"dataset": {"name": "us/gated"}}, Reason.ACCESS_DENIED),
        ({"dataset": {"files": {"train": ["/data/nowhere.csv"]}}}, Reason.FILE_NOT_FOUND),
        ({"dataset": {"files": {"train": ["hf://datasets/us/reviews/nowhere.csv"]}}}, Reason.FILE_NOT_FOUND),
    ],
)
def test_what_is_not_there_is_said_before_anything_starts(
    fields: dict[str, Any], reason: Reason, hub: StubHub, tmp_path: Path
) -> None:
    assert failure(config(tmp_path, hub, **fields)).reason is reason


def test_files_on_a_volume_stay_where_they_are(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for name in ("images/1.png", "train.csv", "held-out.csv"):
        (tmp_path / name).write_text("rows")
    files = {"train": [f"{tmp_path}/train.csv"], "validation": [f"{tmp_path}/held-*.csv"]}
    assert prepared(config(tmp_path, dataset={"files": files})).data == str(tmp_path)
    assert prepared(config(tmp_path, dataset={"files": {"train": [f"{tmp_path}/images"]}})).data == f"{tmp_path}/images"
    missing = failure(config(tmp_path, dataset={"files": {**files, "test": [f"{tmp_path}/nowhere.csv"]}}))
    assert missing.reason is Reason.FILE_NOT_FOUND
    assert "images" in missing.message


def test_a_model_on_a_volume_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "start.keras").write_bytes(b"weights")
    left = prepared(config(tmp_path, model={"name": f"{tmp_path}/start.keras"}))
    assert (left.model, left.hub_home, left.resolved.model_revision) == (f"{tmp_path}/start.keras", None, None)


def test_files_at_addresses_are_fetched_once_into_one_folder(hub: StubHub, tmp_path: Path) -> None:
    of_hub = "hf://datasets/us/reviews/data/test.parquet"
    with stub_web() as web:
        web.files = {"/a/images.tar": b"images", "/b/labels.csv": b"labels"}
        files = {
            "train": [f"{web.endpoint}/a/images.tar", f"{web.endpoint}/b/labels.csv?signature=x"],
            "test": [of_hub],
        }
        first = prepared(config(tmp_path, hub, dataset={"files": files}))
        data = Path(str(first.data))
        assert data.is_relative_to(tmp_path / "claim/.finetune/files")
        assert {path.name for path in data.iterdir()} == {"images.tar", "labels.csv", "test.parquet"}
        assert (data / "images.tar").read_bytes() == b"images"
        assert "Files of the script in DATA_DIR: images.tar, labels.csv, test.parquet." in first.messages
        web.asked.clear()
        assert prepared(config(tmp_path, hub, uid="another", dataset={"files": files})).data == first.data
        assert {line.split()[0] for line in web.asked} == {"HEAD"}
        (data / "images.tar").write_bytes(b"IMAGES")
        again = prepared(config(tmp_path, hub, dataset={"files": files}))
        assert any("the content of files/images.tar has changed" in message for message in again.messages)
        web.files["/b/labels.csv"] = b"other labels"
        assert prepared(config(tmp_path, hub, dataset={"files": files})).data != first.data
    kept = prepared(config(tmp_path, hub, dataset={"files": files}))
    assert any("is not known" in message for message in kept.messages), "the server is away, the files are here"
    assert first.resolved.dataset_revision is None


def test_files_that_one_folder_cannot_hold_are_refused(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("rows")
    with stub_web() as web:
        web.files = {"/a/train.csv": b"rows", "/b/train.csv": b"other rows"}
        first, second = f"{web.endpoint}/a/train.csv", f"{web.endpoint}/b/train.csv"
        clash = failure(config(tmp_path, dataset={"files": {"train": [first], "test": [second]}}))
        assert f"{first} and {second} have one name" in clash.message
        mixed = failure(config(tmp_path, dataset={"files": {"train": [first, f"{tmp_path}/train.csv"]}}))
        assert f"{tmp_path}/train.csv lies on a volume" in mixed.message


def test_within_a_round_what_is_prepared_needs_no_hub(hub: StubHub, tmp_path: Path) -> None:
    run = config(tmp_path, hub, model={"name": "us/tiny"}, prepare="inline")
    first = prepared(run, first_attempt=1)
    hub.asked.clear()
    assert prepared(run, first_attempt=1) == first
    assert not hub.asked
    hub.failing = 1000
    kept = prepared(run, first_attempt=2)
    assert (kept.model, kept.first_attempt) == (first.model, 2)
    hub.failing = 0
    other = config(tmp_path, hub, model={"name": "us/tiny", "revision": "v1"}, prepare="inline")
    assert prepared(other, first_attempt=2).resolved.model_revision == COMMITS["v1"]


def test_a_token_that_may_not_publish_costs_no_training(
    hub: StubHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preflight, "BACKOFF", replace(preflight.BACKOFF, first_seconds=0.01))
    (tmp_path / "token").write_text(TOKEN)
    access = {"endpoint": hub.endpoint, "token_file": str(tmp_path / "token")}
    refused = failure(script_config(tmp_path / "claim", hub=access, publish={"repo_id": "somebody/model"}))
    assert (refused.reason, TOKEN in refused.message) == (Reason.REPO_INVALID, False)
    assert prepared(script_config(tmp_path / "claim", hub=access, publish={"repo_id": "me/model"})).model is None
