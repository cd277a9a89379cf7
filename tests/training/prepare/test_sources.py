"""Rows from addresses: S3, https and files of the Hub, fetched once into the claim or read from where they are."""

from __future__ import annotations

import fcntl
import gzip
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Cause, Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.prepare import hub as hub_module
from finetune_trainer.prepare import remote, s3, streamed
from finetune_trainer.prepare import web as web_files
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.failures import ExpectedError
from tests.support.hub_jobs import hub_of_this_process
from tests.support.runs import run_config
from tests.support.stub_hub import COMMITS, TOKEN, Fault, Repository, StubHub, stub_hub
from tests.support.stub_s3 import ACCESS_KEY, SECRET_KEY, StubS3, stub_s3
from tests.support.stub_web import StubWeb, stub_web
from tests.support.tiny import reviews, tiny_bert, write_rows

ROWS = reviews(30)
LINES = "".join(json.dumps(row) + "\n" for row in ROWS).encode()
CSV = ("review,stars\n" + "".join(f"{row['review']},{row['stars']}\n" for row in reviews(20, seed=1))).encode()


def parquet(count: int) -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.Table.from_pylist(reviews(count, seed=2)), sink)
    return bytes(sink.getvalue().to_pybytes())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("model"))


@pytest.fixture(autouse=True)
def no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "BACKOFF", replace(remote.BACKOFF, first_seconds=0.01, tries=3))
    monkeypatch.setattr(hub_module, "BACKOFF", replace(hub_module.BACKOFF, first_seconds=0.01, tries=3))


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[StubS3]:
    with stub_s3() as stub:
        stub.buckets["rows"] = {
            "reviews/train-0.jsonl": LINES,
            "reviews/train-1.csv.gz": gzip.compress(CSV),
            "reviews/notes/README.md": b"notes",
            "validation.parquet": parquet(10),
        }
        stub.buckets["empty"] = {}
        for name, value in {
            "AWS_ACCESS_KEY_ID": ACCESS_KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_ENDPOINT_URL": stub.endpoint,
            "AWS_REGION": "us-east-1",
        }.items():
            monkeypatch.setenv(name, value)
        s3.filesystem.cache_clear()
        yield stub
        s3.filesystem.cache_clear()


@pytest.fixture
def web() -> Iterator[StubWeb]:
    with stub_web() as stub:
        stub.files = {"/train.jsonl": LINES, "/train.parquet": parquet(40), "/train.csv": CSV}
        yield stub


def job(model: Path, folder: Path, *train: str, validation: str | None = None, **dataset: Any) -> TaskConfig:
    files = {"train": train} | ({"validation": (validation,)} if validation else {})
    return run_config(folder / "output", model=model, dataset={"files": files, **dataset})


def kept(folder: Path) -> list[str]:
    """Return the names of the files that were fetched."""
    return sorted(path.name for path in (folder / "output/.finetune/downloads").rglob("*") if path.is_file())


def tokens(prepared: PreparedTask) -> list[list[int]]:
    table = pa.ipc.open_stream(pa.memory_map(f"{prepared.data}/train.arrow")).read_all()
    return [list(ids) for ids in table.column("input_ids").to_pylist()]


def test_objects_of_a_bucket_are_fetched_once_and_known_by_their_tags(
    bucket: StubS3, model: Path, tmp_path: Path
) -> None:
    run = job(model, tmp_path, "s3://rows/reviews/train-*", validation="s3://rows/validation.parquet")
    first = prepare(run)
    assert (first.summary.train_rows, first.summary.validation_rows) == (50, 10)
    assert kept(tmp_path) == ["train-0.jsonl", "train-1.csv.gz", "validation.parquet"]
    bucket.asked.clear()
    again = prepare(run.model_copy(update={"uid": "22222222-bbbb", "job": "again"}))
    assert again.data.rpartition("/")[2] == first.data.rpartition("/")[2]
    bucket.buckets["rows"]["reviews/train-0.jsonl"] = LINES[: len(LINES) // 2].rpartition(b"\n")[0] + b"\n"
    changed = prepare(run.model_copy(update={"uid": "33333333-cccc"}))
    assert changed.data != first.data
    assert changed.summary.train_rows < 50
    assert len([line for line in bucket.asked if line.startswith("GET /rows/reviews/train-1")]) == 0


@pytest.mark.parametrize(
    ("address", "reason", "says"),
    [
        (
            "s3://rows/reviews/valid-*",
            Reason.FILE_NOT_FOUND,
            "No file fits s3://rows/reviews/valid-*. s3://rows/reviews/ holds notes/, train-0.jsonl, train-1.csv.gz.",
        ),
        (
            "s3://rows/reviews/train.csv",
            Reason.FILE_NOT_FOUND,
            "s3://rows/reviews/train.csv does not exist. s3://rows/reviews/ holds notes/,",
        ),
        (
            "s3://elsewhere/train.csv",
            Reason.FILE_NOT_FOUND,
            "s3://elsewhere/train.csv: there is no bucket 'elsewhere'.",
        ),
        ("s3://elsewhere/*.csv", Reason.FILE_NOT_FOUND, "s3://elsewhere/*.csv: there is no bucket 'elsewhere'."),
        ("s3://empty/*.csv", Reason.FILE_NOT_FOUND, "No file fits s3://empty/*.csv. s3://empty/ holds nothing."),
        ("s3://rows", Reason.FILE_NOT_FOUND, "s3://rows names no file: write s3://bucket/key."),
        ("s3://rows/reviews/notes/*", Reason.DATA_INVALID, "README.md: cannot read .md; use .csv"),
    ],
)
def test_what_a_bucket_does_not_hold(
    address: str, reason: Reason, says: str, bucket: StubS3, model: Path, tmp_path: Path
) -> None:
    with pytest.raises(ExpectedError) as raised:
        prepare(job(model, tmp_path, address))
    assert (raised.value.reason, raised.value.cause) == (reason, Cause.USER)
    assert says in str(raised.value)


def test_credentials_that_are_missing_or_wrong_are_told_and_never_said(
    bucket: StubS3, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = job(model, tmp_path, "s3://rows/reviews/train-0.jsonl")
    for key, says in (
        ("AKIAWRONG", "The credentials of spec.dataset.credentialsSecretRef may not read it"),
        ("", "name a Secret with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in spec.dataset.credentialsSecretRef"),
    ):
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
        s3.filesystem.cache_clear()
        with pytest.raises(ExpectedError) as raised:
            prepare(run)
        assert (raised.value.reason, raised.value.cause) == (Reason.ACCESS_DENIED, Cause.USER)
        assert says in str(raised.value)
        assert SECRET_KEY not in str(raised.value)
        assert not key or key not in str(raised.value)
    bucket.public.add("rows")
    assert prepare(run).summary.train_rows == 30


def test_a_bucket_is_reached_through_the_proxy_of_the_environment(
    bucket: StubS3, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", bucket.endpoint)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.test")
    assert prepare(job(model, tmp_path, "s3://rows/reviews/train-0.jsonl")).summary.train_rows == 30
    assert "HEAD /rows/reviews/train-0.jsonl" in bucket.asked


def test_bucket_trouble_is_waited_out_for_a_while(
    bucket: StubS3, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bad minute of a bucket is waited out, and a bad day is for the next try."""
    bucket.failing = 2
    run = job(model, tmp_path, "s3://rows/reviews/train-0.jsonl")
    assert prepare(run).summary.train_rows == 30
    monkeypatch.setattr(remote, "BACKOFF", replace(remote.BACKOFF, tries=1))
    bucket.failing = 1000
    with pytest.raises(ExpectedError) as raised:
        prepare(run.model_copy(update={"uid": "22222222-bbbb"}))
    assert (raised.value.reason, raised.value.cause) == (Reason.HUB_UNAVAILABLE, Cause.ERROR)
    assert "s3://rows/reviews/train-0.jsonl cannot be read now" in str(raised.value)
    assert "503" in str(raised.value)


def test_a_download_that_is_cut_goes_on_where_it_stopped(web: StubWeb, model: Path, tmp_path: Path) -> None:
    web.cuts = 2
    prepared = prepare(job(model, tmp_path, f"{web.endpoint}/train.jsonl"))
    assert prepared.summary.train_rows == 30
    assert kept(tmp_path) == ["train.jsonl"]
    asked = [line for line in web.asked if line.startswith("GET")]
    half = len(LINES) // 2
    assert asked[:2] == ["GET /train.jsonl", f"GET /train.jsonl bytes={half}-"]
    assert len(asked) == 3


def test_what_an_earlier_try_has_fetched_is_gone_on_from(
    web: StubWeb, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "BACKOFF", replace(remote.BACKOFF, tries=1))
    run = job(model, tmp_path, f"{web.endpoint}/train.jsonl")
    web.cuts = 1
    with pytest.raises(ExpectedError, match=f"the connection ended after {len(LINES) // 2} of {len(LINES)} bytes|peer"):
        prepare(run)
    assert kept(tmp_path) == ["train.jsonl.partial"]
    assert prepare(run).summary.train_rows == 30
    assert web.asked[-1] == f"GET /train.jsonl bytes={len(LINES) // 2}-"


@pytest.mark.parametrize("lacks", ["tags", "parts", "heads", "tags parts heads"])
def test_servers_that_can_do_less(lacks: str, web: StubWeb, model: Path, tmp_path: Path) -> None:
    for ability in lacks.split():
        setattr(web, ability, False)
    web.cuts = 1 if lacks == "parts" else 0
    run = job(model, tmp_path, f"{web.endpoint}/train.jsonl")
    first = prepare(run)
    assert first.summary.train_rows == 30
    web.files["/train.jsonl"] = LINES[: len(LINES) // 2].rpartition(b"\n")[0] + b"\n"
    changed = prepare(run.model_copy(update={"uid": "22222222-bbbb"}))
    assert changed.summary.train_rows < 30
    assert changed.data != first.data


def test_what_grows_in_other_hands_is_left_alone(web: StubWeb, tmp_path: Path) -> None:
    file = web_files.find(f"{web.endpoint}/train.jsonl")
    downloaded = remote.fetched(file, tmp_path).path
    assert downloaded is not None
    downloaded.unlink()
    partial = downloaded.with_name("train.jsonl.partial")
    with partial.open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        other.write(LINES[:10])
        other.flush()
        with remote.fetched(file, tmp_path).open() as fetched:
            assert fetched.read() == LINES
        assert partial.read_bytes() == LINES[:10]
    assert [path.name for path in downloaded.parent.iterdir() if path != partial] == ["train.jsonl"]


@pytest.mark.parametrize("path", ["/packed.csv", "/packed.csv.gz"])
def test_what_a_server_packs_on_its_way_is_unpacked(path: str, web: StubWeb, model: Path, tmp_path: Path) -> None:
    web.files[path] = gzip.compress(CSV)
    web.encoding = "gzip"
    assert prepare(job(model, tmp_path, f"{web.endpoint}{path}")).summary.train_rows == 20


@pytest.mark.parametrize(
    ("path", "status", "reason", "cause", "says"),
    [
        ("/nope.csv", 404, Reason.FILE_NOT_FOUND, Cause.USER, "the server answered 404 (Not Found); there is no such"),
        ("/train.csv", 403, Reason.ACCESS_DENIED, Cause.USER, "an address with a signature has expired"),
        ("/train.csv", 503, Reason.HUB_UNAVAILABLE, Cause.ERROR, "cannot be read now: the server answered 503"),
        ("/train.csv", 418, Reason.FILE_NOT_FOUND, Cause.USER, "correct the address in spec.dataset.files"),
        ("/train.html", 200, Reason.DATA_INVALID, Cause.USER, "/train.html: cannot read .html; use .csv"),
    ],
)
def test_what_a_server_refuses(
    path: str, status: int, reason: Reason, cause: Cause, says: str, web: StubWeb, model: Path, tmp_path: Path
) -> None:
    web.statuses[path] = status
    address = f"{web.endpoint}{path}?signature=a-secret".replace("http://", "http://me:a-password@")
    with pytest.raises(ExpectedError) as raised:
        prepare(job(model, tmp_path, address))
    assert (raised.value.reason, raised.value.cause) == (reason, cause)
    assert says in str(raised.value)
    assert f"{web.endpoint}{path}" in str(raised.value)
    assert "a-secret" not in str(raised.value)
    assert "a-password" not in str(raised.value)


def test_a_web_page_is_no_file_and_nobody_there_is_for_the_next_try(web: StubWeb, model: Path, tmp_path: Path) -> None:
    web.kind = "text/html; charset=utf-8"
    with pytest.raises(
        ExpectedError, match=r"train\.csv is a web page, not a file of rows. Give the address of the file"
    ):
        prepare(job(model, tmp_path, f"{web.endpoint}/train.csv"))
    with pytest.raises(
        ExpectedError, match=r"http://127\.0\.0\.1:9/train\.csv cannot be read now: ConnectError"
    ) as raised:
        prepare(job(model, tmp_path, "http://127.0.0.1:9/train.csv"))
    assert raised.value.cause is Cause.ERROR


# --- the Hub's files, and streams ---


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StubHub]:
    # `datasets` waits for threads of pyarrow, in case the process is to end.
    monkeypatch.setattr("datasets.config.SLEEP_TIME_ON_THREADS_SHUTDOWN", 0.05)
    folder = tmp_path / "dataset"
    write_rows(folder / "data/train-0.parquet", reviews(40, labels=(0, 1)))
    write_rows(folder / "data/train-1.parquet", reviews(40, seed=3, labels=(0, 1)))
    write_rows(folder / "data/test.parquet", reviews(20, seed=1, labels=(0, 1)))
    with stub_hub() as stub:
        stub.datasets["us/reviews"] = Repository(folder)
        stub.datasets["us/closed"] = Repository(folder, gated=True, granted=set())
        with hub_of_this_process(stub, tmp_path / "output/.finetune/hub"):
            yield stub


def of_hub(hub: StubHub, run: TaskConfig) -> TaskConfig:
    """Return the run with the stub as its Hub."""
    return run.model_copy(update={"hub": run.hub.model_copy(update={"endpoint": hub.endpoint})})


def test_files_of_a_hub_dataset_are_read_at_a_commit(hub: StubHub, model: Path, tmp_path: Path) -> None:
    run = of_hub(hub, job(model, tmp_path, "hf://datasets/us/reviews@v1/data/train-*.parquet"))
    prepared = prepare(run)
    assert prepared.summary.train_rows == 80
    assert prepared.resolved.dataset_revision == COMMITS["v1"]
    assert f"GET /datasets/us/reviews/resolve/{COMMITS['v1']}/data/train-0.parquet" in hub.asked
    for address, reason, says in (
        ("us/reviews/data/train.parquet", Reason.FILE_NOT_FOUND, "has no file 'data/train.parquet'; it has data/test"),
        ("us/nowhere/train.csv", Reason.DATASET_NOT_FOUND, "The dataset 'us/nowhere' is not on the Hub"),
        ("us/reviews@v9/data/test.parquet", Reason.DATASET_NOT_FOUND, "has no revision 'v9'"),
        ("us/closed/data/test.parquet", Reason.ACCESS_DENIED, "spec.hub.tokenSecretRef"),
    ):
        with pytest.raises(ExpectedError, match=says) as raised:
            prepare(of_hub(hub, job(model, tmp_path, f"hf://datasets/{address}")))
        assert raised.value.reason is reason


def streamed_job(hub: StubHub, model: Path, folder: Path, seed: int = 1, **dataset: Any) -> TaskConfig:
    source = {"name": "us/reviews", "streaming": True, "max_samples": {"train": 30}, **dataset}
    run = run_config(folder / "output", model=model, dataset=source, arguments={"seed": seed})
    return of_hub(hub, run.model_copy(update={"uid": f"{folder.name}-{seed}-{len(dataset)}"}))


def test_of_a_stream_only_what_is_wanted_is_taken_and_nothing_else_kept(
    hub: StubHub, model: Path, tmp_path: Path
) -> None:
    splits = {"train": "train", "validation": "test[5:15]"}
    first = prepare(streamed_job(hub, model, tmp_path, splits=splits))
    assert (first.summary.train_rows, first.summary.validation_rows) == (30, 10)
    assert first.resolved.dataset_revision == COMMITS["main"]
    left = [path for path in (tmp_path / "output/.finetune").rglob("*") if path.suffix == ".parquet"]
    assert left == []
    again = prepare(streamed_job(hub, model, tmp_path / "again", splits=splits))
    assert tokens(again) == tokens(first)
    other = prepare(streamed_job(hub, model, tmp_path, seed=2, splits=splits))
    assert sorted(tokens(other)) != sorted(tokens(first))


def test_a_stream_is_cut_in_two_where_there_is_no_validation_split(hub: StubHub, model: Path, tmp_path: Path) -> None:
    prepared = prepare(streamed_job(hub, model, tmp_path, validation_fraction=0.25))
    assert (prepared.summary.train_rows, prepared.summary.validation_rows) == (30, 10)
    with pytest.raises(ExpectedError, match=r"a share of them or one counted from the end is not known"):
        prepare(streamed_job(hub, model, tmp_path, splits={"train": "train[:10%]"}))


def test_a_stream_that_is_cut_is_taken_from_the_beginning(hub: StubHub, model: Path, tmp_path: Path) -> None:
    hub.faults.append(Fault(method="GET", path="/resolve/.*train-0.parquet", cut=True))
    assert prepare(streamed_job(hub, model, tmp_path)).summary.train_rows == 30


@pytest.mark.parametrize("address", ["web:/train.parquet", "web:/train.csv", "s3://rows/reviews/train-*"])
def test_files_far_away_are_read_from_where_they_are(
    address: str, web: StubWeb, bucket: StubS3, model: Path, tmp_path: Path
) -> None:
    limits: dict[str, Any] = {"streaming": True, "max_samples": {"train": 15}}
    run = job(model, tmp_path, address.replace("web:", web.endpoint), **limits)
    first = prepare(run)
    assert first.summary.train_rows == 15
    assert kept(tmp_path) == []
    again = prepare(run.model_copy(update={"uid": "22222222-bbbb", "output": str(tmp_path / "other")}))
    assert tokens(again) == tokens(first)


def test_the_hubs_files_are_read_from_where_they_are(hub: StubHub, model: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    run = of_hub(
        hub,
        job(model, tmp_path, "hf://datasets/us/reviews/data/train-*", streaming=True, max_samples={"train": 50}),
    )
    run = run.model_copy(update={"hub": run.hub.model_copy(update={"token_file": str(tmp_path / "token")})})
    assert prepare(run).summary.train_rows == 50
    assert hub.tokens == {TOKEN}
    assert not list((tmp_path / "output/.finetune").rglob("*.parquet"))


def test_what_cannot_be_streamed(web: StubWeb, model: Path, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "train.csv", ROWS)
    web.parts = False
    for address, says in (
        (str(file), "lies on a mounted volume: there is nothing to stream. Leave spec.dataset.streaming out."),
        (f"{web.endpoint}/train.csv", "the server does not answer requests for a part of a file. Leave"),
    ):
        with pytest.raises(ExpectedError, match=says):
            prepare(job(model, tmp_path, address, streaming=True, max_samples={"train": 5}))


def test_a_quote_that_is_never_closed_is_found_in_a_stream_too(web: StubWeb, model: Path, tmp_path: Path) -> None:
    web.files["/train.csv"] = CSV + b'"soup,positive\nbread,negative\n'
    run = job(model, tmp_path, f"{web.endpoint}/train.csv", streaming=True, max_samples={"train": 5})
    with pytest.raises(ExpectedError, match=r'train\.csv, line 22: a quote \("\) that begins here is never closed'):
        prepare(run)


def test_a_buffer_mixes_rows_and_loses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streamed, "BATCH_ROWS", 7)
    tables = [pa.table({"n": list(range(start, start + 20))}) for start in range(0, 200, 20)]
    mixed = [row for table in streamed._mixed(iter(tables), 3, 50) for row in table.column("n").to_pylist()]
    assert sorted(mixed) == list(range(200))
    assert mixed != sorted(mixed)
    assert mixed == [row for table in streamed._mixed(iter(tables), 3, 50) for row in table.column("n").to_pylist()]
    assert max(mixed[:20]) < 100, "rows are drawn as they come"
    monkeypatch.setattr(streamed, "BUFFER_BYTES", 200)
    bounded = [row for table in streamed._mixed(iter(tables), 3, 50) for row in table.column("n").to_pylist()]
    assert sorted(bounded) == list(range(200))
    assert max(bounded[:5]) < 40, "long rows wait in smaller numbers"
    assert [streamed.Taking(rows, 1).buffer for rows in (5, 1000, 10**6)] == [1000, 4000, 10_000]
