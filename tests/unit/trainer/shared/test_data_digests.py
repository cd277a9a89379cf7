"""Digests of prepared data: whatever has happened to a file since it was sealed is found."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from finetune_trainer.contract.records import CheckpointRef
from finetune_trainer.shared import data_digests
from finetune_trainer.shared.data_digests import META, content_of, problem, read_meta
from finetune_trainer.shared.volume import read_checked, write_checked
from tests.support.checkpoints import START
from tests.support.damage import DAMAGE
from tests.support.prepared_data import sealed_data


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_digests, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(data_digests, "CHUNK_BYTES", 300)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    sealed_data(tmp_path / "data")
    return tmp_path / "data"


def test_what_was_sealed_is_sound(folder: Path) -> None:
    assert problem(folder) is None
    assert problem(folder, content_of(read_meta(folder))) is None
    assert [len(entry["blocks"]) for entry in read_meta(folder)["files"].values()] == [3, 1, 1]


@pytest.mark.parametrize("name", ["train.arrow", "validation.arrow", META])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_whatever_happens_to_a_file_is_found(folder: Path, name: str, damage: Callable[[Path], None]) -> None:
    damage(folder / name)
    message = problem(folder)
    assert message is not None
    assert name in message


def test_data_of_an_older_release_has_no_digests(folder: Path) -> None:
    (folder / META).write_text(json.dumps({"labelNames": []}))
    assert problem(folder) == f"{META} is damaged: it holds no digest"


def test_content_is_the_rows_and_the_names_of_the_classes(tmp_path: Path) -> None:
    digest = sealed_data(tmp_path / "one")
    assert sealed_data(tmp_path / "other-name") == digest
    assert sealed_data(tmp_path / "renamed", labels=("good", "negative")) != digest
    assert sealed_data(tmp_path / "rows", rows=b"others ") != digest
    assert problem(tmp_path / "renamed", digest) == "it was made anew, from other data"


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_document_tells_when_it_has_changed(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    file = tmp_path / "document.json"
    ref = CheckpointRef(step=20, path="/output/ä", time=START)
    assert read_checked(file, CheckpointRef) is None
    write_checked(file, ref)
    assert read_checked(file, CheckpointRef) == ref
    assert json.loads(file.read_text())["step"] == 20
    damage(file)
    if file.exists():
        with pytest.raises((OSError, ValueError)):
            read_checked(file, CheckpointRef)
    write_checked(file, ref)
    assert read_checked(file, CheckpointRef) == ref
