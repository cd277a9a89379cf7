"""`finetune validate --deep`: what prepare would say of model and data, before anything is applied."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from finetune_operator.cli.command_errors import ExitCode
from finetune_operator.cli.local.volumes import Volumes
from finetune_operator.cli.validate import validate_files
from tests.support.local_run import EXAMPLE
from tests.support.stub_s3 import ACCESS_KEY, SECRET_KEY, stub_s3
from tests.support.tiny import reviews, tiny_bert, write_rows


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    tiny_bert(folder / "model")
    write_rows(folder / "train.csv", reviews(64))
    write_rows(folder / "validation.csv", reviews(16, seed=1))
    return folder


def manifest(folder: Path, **spec: Any) -> str:
    body = yaml.safe_load(EXAMPLE.read_text())
    body["spec"] |= spec
    path = folder / "job.yaml"
    path.write_text(yaml.safe_dump(body))
    return str(path)


def test_good_data_is_shown_and_nothing_is_left(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The claim that the job would write to is not needed, and one that is there is not written to."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    before = sorted(data.rglob("*"))
    volumes = [{"name": "data", "mountPath": "/data", "claimName": "reviews-data"}]
    spec = yaml.safe_load(EXAMPLE.read_text())["spec"]
    dataset = {**spec["dataset"], "maxSamples": {"train": 1000}}
    path = manifest(tmp_path, storage={"claimName": "reviews-data"}, volumes=volumes, nodes=1, dataset=dataset)

    assert validate_files([path], Volumes(tmp_path, claims={"reviews-data": data})) is ExitCode.SUCCEEDED

    printed = capsys.readouterr()
    assert f"{path}: FineTuneJob reviews: model and data can be trained on" in printed.out
    assert "train      64 rows" in printed.out
    assert "labels     train: negative 32, positive 32" in printed.out
    assert "example    [CLS] " in printed.out
    assert f"{path}: FineTuneJob reviews: Note: maxSamples.train is 1000, the data has 64 rows" in printed.err
    assert sorted(data.rglob("*")) == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["job.yaml"]


def test_data_at_an_address_is_read_with_the_credentials_of_the_secret(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each key of the Secret is a variable of the prepare step; nothing of it is shown."""
    dataset = {
        "files": {"train": ["s3://chats/train.csv"]},
        "columns": {"text": "review", "label": "stars"},
        "validationFraction": 0.25,
        "credentialsSecretRef": {"name": "bucket"},
    }
    secret = tmp_path / "bucket"
    secret.mkdir()
    with stub_s3() as s3:
        s3.buckets["chats"] = {"train.csv": (data / "train.csv").read_bytes()}
        keys = {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_ENDPOINT_URL": s3.endpoint}
        for name, value in {**keys, "AWS_REGION": "us-east-1"}.items():
            (secret / name).write_text(value)
        volumes = Volumes(tmp_path, claims={"reviews-data": data}, secrets={"bucket": secret})

        assert validate_files([manifest(tmp_path, dataset=dataset)], volumes) is ExitCode.SUCCEEDED

    printed = capsys.readouterr()
    assert "train      48 rows" in printed.out
    assert "validation 16 rows" in printed.out
    assert SECRET_KEY not in printed.out + printed.err


def test_bad_data_is_refused_in_the_words_of_prepare(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = {"files": {"train": ["/data/train.csv"]}, "columns": {"text": "review", "label": "starz"}}
    path = manifest(tmp_path, dataset=bad, trainingArguments={})

    assert validate_files([path], Volumes(tmp_path, claims={"reviews-data": data})) is ExitCode.FAILED

    printed = capsys.readouterr()
    assert printed.out == f"{path}: FineTuneJob reviews is valid\n"
    assert f"{path}: FineTuneJob reviews: ColumnNotFound: /data/train.csv has no column 'starz'" in printed.err


def test_without_the_folder_of_a_claim_it_says_how_to_name_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert validate_files([manifest(tmp_path)], Volumes(tmp_path)) is ExitCode.USAGE
    assert "say --volume reviews-data=FOLDER" in capsys.readouterr().err


def test_without_the_trainers_packages_it_says_what_to_install(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("finetune_operator.cli.local.packages.TRAINER_PACKAGES", ("no_such_package",))

    assert validate_files([manifest(tmp_path)], Volumes(tmp_path)) is ExitCode.USAGE

    assert "needs no_such_package: pip install 'finetune-operator[operator,trainer]'" in capsys.readouterr().err


def test_a_preparation_that_dies_shows_its_last_lines(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho it is out of memory >&2\nexit 137\n")
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))

    assert validate_files([manifest(tmp_path)], Volumes(tmp_path, claims={"reviews-data": data})) is ExitCode.FAILED

    assert "preparing ended without a word; its last lines:\nit is out of memory" in capsys.readouterr().err
