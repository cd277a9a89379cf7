"""Preparing as a whole: what it leaves, what it uses again, what it says of a model, and its record."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Cause, Failure, Outcome, Reason, ResultRecord
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.prepare import warnings
from finetune_trainer.prepare.prepare_command import attempt
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.volume import read_checked
from tests.support.damage import flip
from tests.support.ranks import PACKAGES
from tests.support.runs import run_config
from tests.support.tiny import reviews, tiny_bert, write_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("model"))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_rows(
        tmp_path / "data/validation.jsonl", [*reviews(30, seed=1), *reviews(10, seed=2, labels=("positive",) * 2)]
    )
    return write_rows(tmp_path / "data/train.csv", reviews(50))


def test_leaves_what_the_ranks_need(model: Path, data: Path, tmp_path: Path) -> None:
    config = run_config(
        tmp_path / "output", model=model, train=data, validation=data.with_name("validation.jsonl"), max_length=12
    )
    prepared = prepare(config)
    assert read_checked(tmp_path / "output/reviews/runs/11111111-aaaa/prepared.json", PreparedTask) == prepared
    assert prepared.label_names == ("negative", "positive")
    assert prepared.model == str(model)
    assert prepared.summary.model_dump(exclude={"token_lengths", "truncated_share"}) == {
        "train_rows": 50,
        "validation_rows": 40,
        "test_rows": None,
        "dropped_rows": 0,
        "labels": ("negative", "positive"),
        "majority_share": 25 / 40,
    }
    assert {path.name for path in Path(prepared.data).iterdir()} == {
        "train.arrow",
        "validation.arrow",
        "validation.examples.arrow",
        "meta.json",
    }
    assert any("longer than 12 tokens and are cut" in message for message in prepared.messages)


def test_every_split_is_told_in_the_log_and_for_the_report(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = reviews(40)
    train = write_rows(tmp_path / "train.csv", [*rows, {"review": "soup " * 20, "stars": "neutral"}])
    validation = write_rows(tmp_path / "validation.csv", [*rows[:3], *reviews(17, seed=1)])
    config = run_config(tmp_path / "output", model=model, train=train, validation=validation, max_length=16)
    prepared = attempt(config)
    assert isinstance(prepared, PreparedTask)
    split = prepared.splits["train"]
    assert (split.rows, split.sequences, split.labels) == (41, None, {"negative": 20, "neutral": 1, "positive": 20})
    assert prepared.label_counts == (20, 1, 20)
    assert 0 < split.lengths["p50"] <= split.lengths["p99"] <= split.lengths["max"] == 16
    assert split.example is not None
    assert split.example.startswith("[CLS]")
    assert rows[0]["review"].split()[0] in split.example
    assert split.example.endswith(f"-> {rows[0]['stars']}")
    assert prepared.summary.truncated_share == pytest.approx(split.truncated / 41, abs=1e-6)
    examples = pa.ipc.open_stream(Path(prepared.data) / "validation.examples.arrow").read_all()
    assert examples.column("text").to_pylist() == [row["review"] for row in (*rows[:3], *reviews(17, seed=1))]
    log = capsys.readouterr().err
    for line in (
        r"train +41 +41 +0 +[\d.]+% +\d+ .* 16\n",
        r"train labels: negative 20 \(49%\)",
        r"first train row: \[CLS\]",
    ):
        assert re.search(line, log), log
    messages = "\n".join(prepared.messages)
    assert "of the train rows lose their end: raise preprocessing.maxLength (the model reads 64 tokens)" in messages
    assert "1 class has no example in the validation data" in messages
    assert "3 of 41 train rows occur in the validation data too (7.3%)" in messages


@pytest.mark.parametrize(
    ("arguments", "lora", "says"),
    [
        ({"num_train_epochs": 1}, False, "7 optimizer steps in all (50 rows, 8 in a step)"),
        ({"max_steps": 9}, False, "9 optimizer steps in all"),
        ({"warmup_steps": 50}, False, "warmup_steps is 50, training is 21 optimizer steps"),
        ({"learning_rate": 1e-2}, False, "learning_rate 0.01 is high for all weights"),
        ({"learning_rate": 1e-9}, False, "so low that hardly a weight changes"),
        ({"learning_rate": 2e-5}, True, "learning_rate 2e-05 is low for LoRA"),
        ({"learning_rate": 5e-5}, True, "learning_rate 5e-05 is low for LoRA"),
        ({}, True, "learning_rate is not given: 0.0002 is used, which suits LoRA (5e-05 without spec.peft)."),
        ({"optim": "sgd"}, True, "learning_rate is not given: 0.0002 is used"),
        ({}, False, None),
        ({"learning_rate": 2e-4}, True, None),
        ({"learning_rate": 2e-4, "warmup_steps": 0.1}, False, None),
        ({"learning_rate": 0.1, "optim": "sgd"}, False, None),
    ],
)
def test_what_hardly_can_work_is_said_before_an_accelerator_is_taken(
    arguments: dict[str, Any], lora: bool, says: str | None, tmp_path: Path
) -> None:
    config = run_config(tmp_path, model="/models/any", arguments=arguments)
    messages = warnings.of_training(config.training_arguments, 50, ranks=config.world_size, adapter=lora)
    assert messages == [] if says is None else says in " ".join(messages)


def test_the_same_content_is_tokenised_once(model: Path, data: Path, tmp_path: Path) -> None:
    config = run_config(tmp_path / "output", model=model, train=data)
    first = prepare(config)
    stamp = (Path(first.data) / "train.arrow").stat().st_mtime_ns
    moved = data.rename(data.with_name("moved.csv"))
    other_run = run_config(tmp_path / "output", model=model, train=moved).model_copy(update={"uid": "22222222-bbbb"})
    assert prepare(other_run).data == first.data
    assert (Path(first.data) / "train.arrow").stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    "change",
    [
        lambda config, model: changed(config, "preprocessing", max_length=9),
        lambda config, model: changed(config, "dataset", max_samples={"train": 9}),
        lambda config, model: with_other_rows(config),
        lambda config, model: with_other_tokenizer(config, model),
    ],
    ids=["maximum length", "samples", "the file's content", "the tokenizer"],
)
def test_other_content_has_another_name(
    change: Callable[[Any, Path], Any], model: Path, data: Path, tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(model, tmp_path / "model"))
    config = run_config(tmp_path / "output", model=mine, train=data)
    first = prepare(config)
    other = change(config, mine).model_copy(update={"uid": "22222222-bbbb"})
    assert prepare(other).data != first.data


def changed(config: TaskConfig, part: str, **update: Any) -> TaskConfig:
    return config.model_copy(update={part: getattr(config, part).model_copy(update=update)})


def with_other_rows(config: TaskConfig) -> TaskConfig:
    write_rows(Path(config.dataset.files["train"][0]), reviews(51))
    return config


def with_other_tokenizer(config: TaskConfig, model: Path) -> TaskConfig:
    path = model / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["vocab"]["another"] = max(tokenizer["model"]["vocab"].values()) + 1
    path.write_text(json.dumps(tokenizer))
    return config


def test_a_corrected_run_config_prepares_again(model: Path, data: Path, tmp_path: Path) -> None:
    config = run_config(tmp_path / "output", model=model, train=data)
    first = prepare(config)
    second = prepare(
        config.model_copy(update={"dataset": config.dataset.model_copy(update={"max_samples": {"train": 5}})})
    )
    assert (first.summary.train_rows, second.summary.train_rows) == (50, 5)
    assert first.config_digest != second.config_digest


def test_the_same_rows_are_the_same_data_whatever_the_file_is_called(model: Path, tmp_path: Path) -> None:
    files = [write_rows(tmp_path / "train.csv", reviews(50)), write_rows(tmp_path / "copy.jsonl", reviews(50))]
    packed = tmp_path / "packed.csv.gz"
    packed.write_bytes(gzip.compress(files[0].read_bytes()))
    made = [prepare(run_config(tmp_path / f"output-{file.name}", model=model, train=file)) for file in (*files, packed)]
    assert len({Path(prepared.data).name for prepared in made}) == 3
    assert len({prepared.data_digest for prepared in made}) == 1
    moved = Path(shutil.copytree(model, tmp_path / "moved"))
    again = prepare(run_config(tmp_path / "output", model=moved, train=files[0]))
    assert again.model_digest == made[0].model_digest
    weights = bytearray((moved / "model.safetensors").read_bytes())
    weights[-40:] = bytes(40)
    (moved / "model.safetensors").write_bytes(weights)
    assert prepare(run_config(tmp_path / "output", model=moved, train=files[0])).model_digest != again.model_digest


def test_data_is_looked_at_again_in_each_round_and_not_within_one(model: Path, data: Path, tmp_path: Path) -> None:
    config = run_config(tmp_path / "output", model=model, train=data)
    first = prepare(config, first_attempt=1)
    write_rows(data, reviews(51))
    assert prepare(config, first_attempt=1) == first
    second = prepare(config, first_attempt=4)
    assert (first.summary.train_rows, second.summary.train_rows, second.first_attempt) == (50, 51, 4)
    assert second.data_digest != first.data_digest
    write_rows(data, reviews(50))
    by_a_job = prepare(config)
    assert (by_a_job.data_digest, by_a_job.first_attempt) == (first.data_digest, None)


def test_data_that_is_gone_does_not_take_along_what_was_prepared_of_it(model: Path, data: Path, tmp_path: Path) -> None:
    config = run_config(tmp_path / "output", model=model, train=data)
    first = prepare(config, first_attempt=1)
    data.unlink()
    again = prepare(config, first_attempt=2)
    assert (again.data, again.data_digest, again.first_attempt) == (first.data, first.data_digest, 2)
    assert any("Whether model and data have changed is not known" in message for message in again.messages)
    flip(Path(first.data) / "train.arrow")
    with pytest.raises(ExpectedError) as raised:
        prepare(config, first_attempt=3)
    assert raised.value.reason is Reason.FILE_NOT_FOUND


def test_half_written_data_is_not_used(model: Path, data: Path, tmp_path: Path) -> None:
    config = run_config(tmp_path / "output", model=model, train=data)
    prepared = Path(prepare(config).data)
    (prepared / "meta.json").unlink()
    (tmp_path / "output/reviews/runs/11111111-aaaa/prepared.json").unlink()
    shutil.rmtree(prepared)
    prepared.with_name(f"{prepared.name}.partial-1").mkdir()
    assert Path(prepare(config).data) == prepared
    assert [path.name for path in prepared.parent.iterdir()] == [prepared.name]
    assert (prepared / "meta.json").is_file()


def test_the_models_own_limit_counts(model: Path, data: Path, tmp_path: Path) -> None:
    prepared = prepare(run_config(tmp_path / "output", model=model, train=data, max_length=4000))
    assert "preprocessing.maxLength is 4000, the model reads 64 tokens at most: 64 is used." in prepared.messages


def test_few_rows_are_said(model: Path, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "train.jsonl", reviews(4))
    prepared = prepare(run_config(tmp_path / "output", model=model, train=file))
    assert any("fewer than one global batch of 8: an epoch is one step" in message for message in prepared.messages)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda folder: shutil.rmtree(folder), ("does not exist", "holds")),
        (lambda folder: (folder / "config.json").unlink(), ("has no config.json", "model.safetensors")),
        (lambda folder: (folder / "model.safetensors").unlink(), ("has no weights",)),
        (lambda folder: (folder / "tokenizer.json").unlink(), ("has no tokenizer", "config.json")),
        (lambda folder: (folder / "tokenizer.json").write_text("{"), ("tokenizer", "cannot be loaded")),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "no-such"}'), ("configuration", "no-such")),
    ],
    ids=["no folder", "no configuration", "no weights", "no tokenizer", "broken tokenizer", "unknown architecture"],
)
def test_a_model_that_cannot_be_used(
    spoil: Callable[[Path], object], says: tuple[str, ...], model: Path, data: Path, tmp_path: Path
) -> None:
    mine = Path(shutil.copytree(model, tmp_path / "models/mine"))
    spoil(mine)
    with pytest.raises(ExpectedError) as raised:
        prepare(run_config(tmp_path / "output", model=mine, train=data))
    assert raised.value.reason is Reason.MODEL_NOT_FOUND
    assert raised.value.cause is Cause.USER
    for part in says:
        assert part in str(raised.value)


def command(config: Any, folder: Path, paths: dict[str, str] | None = None) -> tuple[int, ResultRecord, str]:
    """Run `python -m finetune_trainer prepare` as the pod does."""
    (folder / "run.json").write_text(config.to_json())
    variables = {
        **os.environ,
        "PYTHONPATH": str(PACKAGES),
        "FINETUNE_CONFIG": str(folder / "run.json"),
        "FINETUNE_TERMINATION_LOG": str(folder / "termination-log"),
        "FINETUNE_PATHS": json.dumps(paths or {}),
        "FINETUNE_ATTEMPT": "3",
    }
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "finetune_trainer", "prepare"],
        env=variables,
        capture_output=True,
        text=True,
    )
    record = ResultRecord.model_validate_json((folder / "termination-log").read_text())
    return process.returncode, record, process.stderr


def test_the_command_maps_paths_and_leaves_a_record_without_torch(model: Path, data: Path, tmp_path: Path) -> None:
    config = run_config(tmp_path / "unused", model="/models/mine", train=Path("/data/train.csv"))
    config = config.model_copy(update={"output": "/output"})
    (tmp_path / "claim").mkdir()
    paths = {"/models/mine": str(model), "/data": str(data.parent), "/output": str(tmp_path / "claim")}
    code, record, imports = command(config, tmp_path, paths)
    assert (code, record.outcome, record.attempt, record.role) == (0, Outcome.SUCCEEDED, 3, "prepare")
    prepared = PreparedTask.model_validate_json(
        (tmp_path / "claim/reviews/runs/11111111-aaaa/prepared.json").read_text()
    )
    assert prepared.model == "/models/mine"
    assert prepared.data.startswith("/output/.finetune/prepared/")
    loaded = {line.rpartition("|")[2].strip() for line in imports.splitlines() if line.startswith("import time:")}
    assert "transformers" in loaded
    assert loaded.isdisjoint({"torch", "datasets", "sklearn"})


def test_the_commands_failure_is_the_users_in_the_record(model: Path, tmp_path: Path) -> None:
    file = write_rows(tmp_path / "train.csv", [{"text": "good", "stars": 1}])
    code, record, output = command(run_config(tmp_path / "output", model=model, train=file), tmp_path)
    assert (code, record.outcome) == (1, Outcome.FAILED)
    assert record.failure is not None
    assert (record.failure.reason, record.failure.cause) == (Reason.COLUMN_NOT_FOUND, Cause.USER)
    assert "it has text, stars" in record.failure.message
    assert "ColumnNotFound" in output


def test_a_volume_that_cannot_be_written_is_said(model: Path, data: Path, tmp_path: Path) -> None:
    config = run_config(tmp_path / "output", model=model, train=data)
    (tmp_path / "file").touch()
    config = config.model_copy(update={"output": str(tmp_path / "file/claim")})
    failure = attempt(config)
    assert isinstance(failure, Failure)
    assert failure.reason is Reason.VOLUME_NOT_WRITABLE
