"""Models and datasets from a Hub: commits resolved, downloaded once, and its refusals in the user's words."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Cause, Failure, Reason, ResultRecord
from finetune_trainer.contract.run_config import DatasetSource, ModelSource, TaskConfig
from finetune_trainer.data.column_request import ColumnRequest
from finetune_trainer.data.split import Source, Split, row_place
from finetune_trainer.prepare import hub as hub_module
from finetune_trainer.prepare import splits
from finetune_trainer.prepare.hub import HubReader
from finetune_trainer.prepare.hub_model import needed_files
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.prepare.splits import chosen
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.hub.environment import environment
from finetune_trainer.shared.volume import read_checked
from finetune_trainer.tasks.chat import conversations
from tests.support.hub_jobs import HubJobs, hub_of_this_process
from tests.support.ranks import PACKAGES
from tests.support.runs import run_config
from tests.support.stub_hub import COMMITS, TOKEN, Fault, Repository, StubHub, stub_hub
from tests.support.tiny import reviews, tiny_bert, write_rows

CARD = """---
dataset_info:
  features:
  - name: review
    dtype: string
  - name: stars
    dtype:
      class_label:
        names:
          '0': awful
          '1': lovely
configs:
- config_name: default
  data_files:
  - split: train
    path: data/train.parquet
  - split: test
    path: data/test.parquet
---
"""


LOOK_UPS = """
import os, sys

def heard(event, arguments):
    if event == "socket.getaddrinfo":
        with open(os.environ["LOOK_UPS"], "a") as file:
            print(arguments[0], file=file)

sys.addaudithook(heard)
"""
"""A sitecustomize that writes down each name that a process asks the network for."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("hub")
    model = tiny_bert(folder / "model")
    (model / "onnx").mkdir()
    (model / "onnx/model.onnx").write_bytes(b"not needed")
    (model / "training_args.bin").write_bytes(b"not needed")
    dataset = folder / "dataset"
    write_rows(dataset / "data/train.parquet", reviews(40, labels=(0, 1)))
    write_rows(dataset / "data/test.parquet", reviews(20, seed=1, labels=(0, 1)))
    (dataset / "README.md").write_text(CARD)
    return {"model": model, "dataset": dataset}


@pytest.fixture
def hub(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHub]:
    monkeypatch.setattr(hub_module, "BACKOFF", replace(hub_module.BACKOFF, first_seconds=0.01, tries=3))
    with stub_hub() as stub:
        stub.models["us/tiny"] = Repository(folders["model"])
        stub.models["us/gated"] = Repository(folders["model"], gated=True, granted=set())
        stub.models["us/private"] = Repository(folders["model"], private=True)
        stub.datasets["us/reviews"] = Repository(folders["dataset"])
        yield stub


def config(
    hub: StubHub, folder: Path, *, model: str = "us/tiny", token: str | None = None, **dataset: Any
) -> TaskConfig:
    access: dict[str, Any] = {"endpoint": hub.endpoint}
    if token is not None:
        (folder / "token").write_text(token + "\n")
        access["token_file"] = str(folder / "token")
    return run_config(folder / "output", model=model, dataset={"name": "us/reviews", **dataset}, hub=access)


def command(config: TaskConfig, folder: Path) -> tuple[ResultRecord, str]:
    """Run `prepare` as its pod does: in a process of its own, which reads the endpoint from the run config alone."""
    (folder / "run.json").write_text(config.to_json())
    (folder / "sitecustomize.py").write_text(LOOK_UPS)
    variables = {
        **os.environ,
        "PYTHONPATH": f"{PACKAGES}{os.pathsep}{folder}",
        "LOOK_UPS": str(folder / "look-ups"),
        "FINETUNE_CONFIG": str(folder / "run.json"),
        "FINETUNE_TERMINATION_LOG": str(folder / "termination-log"),
    }
    process = subprocess.run(
        [sys.executable, "-m", "finetune_trainer", "prepare"], env=variables, capture_output=True, text=True
    )
    return ResultRecord.model_validate_json((folder / "termination-log").read_text()), process.stderr


def test_model_and_dataset_come_from_the_hub(hub: StubHub, tmp_path: Path) -> None:
    run = config(hub, tmp_path, token=TOKEN, revision="v1", splits={"train": "train", "validation": "test"})
    record, output = command(run, tmp_path)
    assert record.failure is None, output
    prepared = read_checked(tmp_path / "output/reviews/runs/11111111-aaaa/prepared.json", PreparedTask)
    assert prepared is not None
    assert prepared.resolved.model_revision == COMMITS["main"]
    assert prepared.resolved.dataset_revision == COMMITS["v1"]
    assert record.resolved == prepared.resolved
    assert prepared.label_names == ("awful", "lovely")
    assert (prepared.summary.train_rows, prepared.summary.validation_rows) == (40, 20)
    snapshot = Path(prepared.model)
    assert snapshot.is_relative_to(tmp_path / "output/.finetune/hub")
    assert {path.name for path in snapshot.iterdir()} == {
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    }
    assert set((tmp_path / "look-ups").read_text().split()) == {"127.0.0.1"}, "nobody else hears of it"
    assert hub.tokens == {TOKEN}
    assert TOKEN not in output
    assert not [
        path for path in (tmp_path / "output").rglob("*") if path.is_file() and TOKEN.encode() in path.read_bytes()
    ]
    again = prepare(run, first_attempt=1)
    assert (again.data, again.data_digest) == (prepared.data, prepared.data_digest)
    asked = len(hub.asked)
    assert prepare(run, first_attempt=1) == again
    assert len(hub.asked) == asked, "within a round of attempts what is prepared needs no Hub"


def test_xet_is_the_users_to_turn_off_and_no_mirror_need_speak_it(hub: StubHub, tmp_path: Path) -> None:
    mirrored = config(hub, tmp_path)
    public = mirrored.model_copy(update={"hub": mirrored.hub.model_copy(update={"endpoint": None})})
    assert "HF_HUB_DISABLE_XET" not in environment(public.hub, tmp_path), "what the pod was given stays"
    assert environment(mirrored.hub, tmp_path)["HF_HUB_DISABLE_XET"] == "1"


def read_splits(run: TaskConfig, asked: ColumnRequest, folder: Path) -> dict[str, Split]:
    client = HubReader(run.hub)
    data_source = splits.find(run.dataset, client, folder / "output/.finetune/hub")
    return splits.read(run.dataset, client, data_source, asked, folder / "scratch", seed=42)


def chosen_of(named: dict[str, str], role: str) -> Split | None:
    available = {name: Split(pa.table({}), (Source(name, 0, row_place),)) for name in ("train", "test")}
    source = DatasetSource(name="us/reviews", splits=named)
    return chosen(role, source, list(available), available.__getitem__)


@pytest.mark.parametrize(
    ("named", "role", "expected"),
    [
        ({}, "train", "train"),
        ({}, "validation", None),
        ({"validation": "test"}, "validation", "test"),
        ({"train": "test"}, "train", "test"),
        ({}, "test", None),
        ({"test": "test"}, "test", "test"),
    ],
)
def test_splits_are_taken_by_name(named: dict[str, str], role: str, expected: str | None) -> None:
    split = chosen_of(named, role)
    assert (split.name if split else None) == expected


@pytest.mark.parametrize("named", [{"train": "training"}, {"validation": "training"}])
def test_a_split_that_is_not_there_names_those_that_are(named: dict[str, str]) -> None:
    role = next(iter(named))
    says = rf"no split 'training'; it has train, test. Did you mean 'train'\? Set spec.dataset.splits.{role}"
    with pytest.raises(ExpectedError, match=says):
        chosen_of(named, role)


@pytest.mark.parametrize(
    ("model", "token", "revision", "reason", "says"),
    [
        (
            "us/nowhere",
            None,
            None,
            Reason.MODEL_NOT_FOUND,
            ("'us/nowhere' is not on the Hub", "spec.hub.tokenSecretRef"),
        ),
        ("us/nowhere", TOKEN, None, Reason.MODEL_NOT_FOUND, ("'us/nowhere' is not on the Hub",)),
        ("us/private", None, None, Reason.MODEL_NOT_FOUND, ("'us/private' is not on the Hub", "private")),
        (
            "us/tiny",
            "hf_expired",
            None,
            Reason.ACCESS_DENIED,
            ("refused access", "token of spec.hub.tokenSecretRef is not valid"),
        ),
        ("us/tiny", "", None, Reason.ACCESS_DENIED, ("tokenSecretRef", "empty")),
        ("us/gated", None, None, Reason.ACCESS_DENIED, ("restricted", "spec.hub.tokenSecretRef")),
        ("us/gated", TOKEN, None, Reason.ACCESS_DENIED, ("restricted", "owner must grant access")),
        ("us/tiny", None, "v9", Reason.MODEL_NOT_FOUND, ("no revision 'v9'",)),
        ("us//tiny", None, None, Reason.MODEL_NOT_FOUND, ("us//tiny",)),
    ],
)
def test_what_the_hub_refuses(
    model: str,
    token: str | None,
    revision: str | None,
    reason: Reason,
    says: tuple[str, ...],
    hub: StubHub,
    tmp_path: Path,
) -> None:
    with pytest.raises(ExpectedError) as raised:
        HubReader(config(hub, tmp_path, model=model, token=token).hub).model(
            ModelSource(name=model, revision=revision), tmp_path / "cache"
        )
    assert (raised.value.reason, raised.value.cause) == (reason, Cause.USER)
    for part in says:
        assert part in str(raised.value)
    assert not token or token not in str(raised.value)


def test_a_bad_minute_of_the_hub_is_waited_out(hub: StubHub, tmp_path: Path) -> None:
    hub.failing = 1
    folder, commit = HubReader(config(hub, tmp_path).hub).model(ModelSource(name="us/tiny"), tmp_path / "cache")
    assert commit == COMMITS["main"]
    assert (folder / "model.safetensors").is_file()


def test_a_bad_day_of_the_hub_is_for_the_next_try(hub: StubHub, tmp_path: Path) -> None:
    hub.failing = 1000
    with pytest.raises(ExpectedError) as raised:
        HubReader(config(hub, tmp_path).hub).model(ModelSource(name="us/tiny"), tmp_path / "cache")
    assert (raised.value.reason, raised.value.cause) == (Reason.HUB_UNAVAILABLE, Cause.ERROR)
    assert "503" in str(raised.value)


def test_a_hub_that_refuses_connections_is_for_the_next_try(hub: StubHub, tmp_path: Path) -> None:
    run = config(hub, tmp_path)
    run = run.model_copy(update={"hub": run.hub.model_copy(update={"endpoint": "http://127.0.0.1:9"})})
    with pytest.raises(ExpectedError) as raised:
        HubReader(run.hub).model(ModelSource(name="us/tiny"), tmp_path / "cache")
    assert (raised.value.reason, raised.value.cause) == (Reason.HUB_UNAVAILABLE, Cause.ERROR)


def test_of_a_model_only_what_training_reads_is_fetched() -> None:
    names = ["config.json", "model.safetensors", "pytorch_model.bin", "onnx/model.onnx", "vocab.txt", "tf_model.h5"]
    assert needed_files(names) == ["config.json", "model.safetensors", "vocab.txt"]
    assert needed_files(["config.json", "pytorch_model.bin", "training_args.bin"]) == [
        "config.json",
        "pytorch_model.bin",
    ]


@pytest.fixture
def jobs(folders: dict[str, Path], hub: StubHub, tmp_path: Path) -> Iterator[HubJobs]:
    with hub_of_this_process(hub, tmp_path / "claim/.finetune/hub"):
        yield HubJobs(hub, tmp_path)


def test_each_request_may_fail_once(jobs: HubJobs) -> None:
    routes = {
        "GET": (
            "^/api/models/us/tiny$",
            "^/api/models/us/tiny/tree/",
            "^/us/tiny/resolve/",
            "^/api/datasets/us/reviews$",
            "^/api/datasets/us/reviews/auth-check$",
            "^/api/datasets/us/reviews/revision/",
            "^/datasets/us/reviews/resolve/",
        ),
        "HEAD": ("^/us/tiny/resolve/", "^/datasets/us/reviews/resolve/"),
        "POST": ("^/api/datasets/us/reviews/paths-info/",),
    }
    jobs.hub.datasets["us/reviews"].gated = True
    jobs.hub.faults += [Fault(method=method, path=path) for method, paths in routes.items() for path in paths]
    prepared = jobs.prepare()
    assert isinstance(prepared, PreparedTask), prepared
    assert prepared.summary.train_rows == 40
    unused = [fault.path for fault in jobs.hub.faults if fault.times]
    assert unused in ([], ["^/api/datasets/us/reviews/paths-info/"])


def test_a_busy_hub_is_asked_again_when_it_says(jobs: HubJobs) -> None:
    jobs.hub.faults.append(Fault(path="^/api/models/us/tiny$", status=429, headers={"Retry-After": "1"}))
    date = format_datetime(datetime.now(UTC) + timedelta(seconds=3), usegmt=True)
    jobs.hub.faults.append(Fault(path="^/api/datasets/us/reviews$", status=503, headers={"Retry-After": date}))
    started = time.monotonic()
    assert isinstance(jobs.prepare(), PreparedTask)
    assert time.monotonic() - started > 1.9


def test_a_mirror_that_cannot_say_who_may_read_or_what_there_is(jobs: HubJobs) -> None:
    jobs.hub.datasets["us/reviews"].gated = True
    jobs.hub.faults.append(Fault(path="auth-check|/refs|/api/models$", status=404, times=1000))
    assert isinstance(jobs.prepare(), PreparedTask)
    for spec, says in (
        ({"model.revision": "v9"}, "The model 'us/tiny' has no revision 'v9'. Set spec.model.revision"),
        ({"model.name": "us/tinny"}, "The model 'us/tinny' is not on the Hub. If it is private"),
    ):
        failure = jobs.prepare(spec, "bad")
        assert isinstance(failure, Failure)
        assert says in failure.message


def test_what_answers_is_no_hub(jobs: HubJobs) -> None:
    jobs.hub.faults.append(Fault(path="^/api/models/", status=200, error="Welcome", times=1000))
    failure = jobs.prepare()
    assert isinstance(failure, Failure)
    assert (failure.reason, failure.cause) == (Reason.HUB_UNAVAILABLE, Cause.ERROR)
    assert f"The Hub at {jobs.hub.endpoint} (spec.hub.endpoint) cannot be reached" in failure.message
    assert "does not speak as a Hub does" in failure.message


def test_a_hub_that_asks_for_hours_is_left_to_the_next_try(jobs: HubJobs) -> None:
    jobs.hub.faults.append(Fault(path="^/api/models/us/tiny$", status=429, headers={"RateLimit": '"api";r=0;t=3600'}))
    failure = jobs.prepare()
    assert isinstance(failure, Failure)
    assert (failure.reason, failure.cause) == (Reason.HUB_UNAVAILABLE, Cause.ERROR)
    assert "429" in failure.message


def test_slow_answers_are_waited_for_and_silence_is_not(jobs: HubJobs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub_module, "SILENCE_SECONDS", 2.0)
    released = threading.Event()
    slow = Fault(path="^/api/models/us/tiny$", status=None, delay_seconds=0.4)
    silent = Fault(path="^/api/models/us/tiny$", status=None, held=released)
    jobs.hub.faults.append(slow)
    assert isinstance(jobs.prepare(name="slow"), PreparedTask)
    jobs.hub.faults += [replace(silent, times=1) for _ in range(3)]
    failure = jobs.prepare(name="silent")
    released.set()
    assert isinstance(failure, Failure)
    assert failure.reason is Reason.HUB_UNAVAILABLE
    assert "ReadTimeout" in failure.message


def test_a_download_that_is_cut_is_finished(jobs: HubJobs) -> None:
    jobs.hub.faults.append(Fault(method="GET", path="/resolve/.*safetensors", cut=True))
    jobs.hub.faults.append(Fault(method="GET", path="/resolve/.*train.parquet", cut=True))
    prepared = jobs.prepare()
    assert isinstance(prepared, PreparedTask), prepared
    weights = jobs.claim / ".finetune/hub/hub/models--us--tiny/snapshots" / COMMITS["main"] / "model.safetensors"
    repository = jobs.hub.models["us/tiny"].folder
    assert repository is not None
    assert weights.read_bytes() == (repository / "model.safetensors").read_bytes()


def test_a_dataset_that_cannot_be_reached_is_not_another_commit_of_it(jobs: HubJobs) -> None:
    assert isinstance(jobs.prepare(), PreparedTask)
    jobs.hub.faults.append(Fault(path=f"^/api/datasets/us/reviews/tree/{COMMITS['v1']}", status=400, times=1000))
    failure = jobs.prepare({"dataset.revision": "v1"}, "again")
    assert isinstance(failure, Failure), failure
    assert (failure.reason, failure.cause) == (Reason.HUB_UNAVAILABLE, Cause.ERROR)


def test_a_moved_branch_is_no_news_to_a_job_that_is_prepared(jobs: HubJobs) -> None:
    first = jobs.prepare()
    assert isinstance(first, PreparedTask)
    jobs.hub.models["us/tiny"].branches["main"] = COMMITS["v1"]
    again = jobs.prepare(name="another")
    assert isinstance(again, PreparedTask)
    assert first.resolved.model_revision == COMMITS["main"]
    assert again.resolved.model_revision == COMMITS["v1"]
    assert again.data == first.data.replace("/reviews/", "/another/")


TAGGED = """---
dataset_info:
  features:
  - name: tokens
    sequence: string
  - name: ner_tags
    sequence:
      class_label:
        names: {'0': O, '1': B-DISH}
  - name: translation
    dtype:
      translation:
        languages: [en, fr]
configs:
- config_name: default
  data_files:
  - {split: train, path: train.parquet}
---
"""


@pytest.mark.parametrize("streaming", [False, True], ids=["read", "streamed"])
def test_conversations_of_a_hub_dataset_with_the_tools_that_they_may_call(
    hub: StubHub, tmp_path: Path, streaming: bool
) -> None:
    """Arrow gives every tool the parameters of all; a column that is not there has none."""
    messages = [{"role": "user", "content": "soup?"}, {"role": "assistant", "content": "yes"}]
    tools = [{"name": "tide", "parameters": {"harbour": "text"}}, {"name": "clock", "parameters": {"zone": "number"}}]
    rows = [{"messages": messages, "tools": [tool], "functions": "[]"} for tool in tools]
    for name, kept in (("with", rows), ("without", [{"messages": messages}])):
        write_rows(tmp_path / f"{name}/train.parquet", kept)
        hub.datasets[f"us/{name}"] = Repository(tmp_path / name)
    columns = ("messages", "tools")
    asked = ColumnRequest(columns, nested=columns, optional=("tools",), beside=("functions",))
    with hub_of_this_process(hub, tmp_path / "output/.finetune/hub"):
        tables = {}
        for name in ("with", "without"):
            run = config(hub, tmp_path, name=f"us/{name}", streaming=streaming)
            split = read_splits(run, asked, tmp_path)["train"]
            tables[name] = conversations(split, *columns).table
            notices = ("The data has a column 'functions' beside messages: it is there and is not read.",)
            assert split.messages == (notices if name == "with" else ())
    offered = [json.loads(text) for text in tables["with"]["tools"].to_pylist()]
    assert offered == [[{"type": "function", "function": tool}] for tool in tools]
    assert tables["without"]["tools"].to_pylist() == ["[]"]
    assert json.loads(tables["with"]["messages"][0].as_py()) == messages


def test_lists_objects_and_slices_of_a_hub_dataset(hub: StubHub, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [
        {
            "tokens": ["good", f"soup{number}"],
            "ner_tags": [0, 1],
            "translation": {"en": f"soup {number}", "fr": "soupe"},
        }
        for number in range(20)
    ]
    write_rows(tmp_path / "tagged/train.parquet", rows)
    (tmp_path / "tagged/README.md").write_text(TAGGED)
    hub.datasets["us/tagged"] = Repository(tmp_path / "tagged")
    slices = {"train": "train[:50%]", "validation": "train[18:]"}
    with hub_of_this_process(hub, tmp_path / "output/.finetune/hub"):
        streams = {"streaming": True, "splits": {"train": "train[:10]", "validation": "train[18:]"}}
        settings: dict[str, Any]
        for settings in ({"splits": slices}, streams):
            run = config(hub, tmp_path, name="us/tagged", **settings)
            columns = ("tokens", "ner_tags", "translation.en")
            read = read_splits(run, ColumnRequest(columns, ("translation.en",)), tmp_path)
            assert {role: split.table.num_rows for role, split in read.items()} == {"train": 10, "validation": 2}
            assert read["validation"].table.to_pylist() == [
                {"tokens": row["tokens"], "ner_tags": [0, 1], "translation.en": row["translation"]["en"]}
                for row in rows[18:]
            ]
            assert read["train"].class_names == {"ner_tags": ("O", "B-DISH")}
            with pytest.raises(
                ExpectedError, match=r"the objects in column 'translation' have no key 'de'; they have en, fr"
            ):
                read_splits(run, ColumnRequest(("translation.de",)), tmp_path)
    assert read["train"].place(3) == "split 'train[:10]' of us/tagged, row 3 of those taken"
