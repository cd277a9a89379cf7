"""Durable writes and the probe."""

import errno
import os
import stat
from pathlib import Path

import pytest

from finetune_trainer.config import Cause, CheckpointRef, Reason
from finetune_trainer.volume import (
    Layout,
    VolumeError,
    explain,
    make_folder,
    probe,
    read_document,
    replace_link,
    write_text,
)


def test_write_replaces_the_whole_file_and_leaves_no_other(tmp_path: Path) -> None:
    write_text(tmp_path / "a.json", "old and long")
    write_text(tmp_path / "a.json", "new", mode=0o600)
    assert (tmp_path / "a.json").read_text() == "new"
    assert stat.S_IMODE((tmp_path / "a.json").stat().st_mode) == 0o600
    assert os.listdir(tmp_path) == ["a.json"]


def test_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a.json", "old")

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_text(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_document_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read_document(tmp_path / "nothing.json", CheckpointRef) is None


def test_link_is_replaced_in_one_step(tmp_path: Path) -> None:
    for name in ("one", "two"):
        make_folder(tmp_path / "runs" / name)
        replace_link(tmp_path / "model", tmp_path / "runs" / name)
        assert (tmp_path / "model").resolve() == (tmp_path / "runs" / name).resolve()
        assert not os.path.isabs(os.readlink(tmp_path / "model"))


def test_probe_leaves_nothing_but_the_jobs_folder(tmp_path: Path) -> None:
    probe(Layout(tmp_path, "reviews", "u"))
    assert os.listdir(tmp_path) == ["reviews"]
    assert os.listdir(tmp_path / "reviews") == []


def test_probe_of_a_volume_that_is_not_mounted(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("a file")
    with pytest.raises(VolumeError) as caught:
        probe(Layout(tmp_path / "output", "reviews", "u"))
    assert caught.value.failure.reason is Reason.VOLUME_NOT_WRITABLE
    assert str(tmp_path / "output") in caught.value.failure.message


@pytest.mark.parametrize(
    ("number", "reason", "cause", "said"),
    [
        (errno.EACCES, Reason.VOLUME_NOT_WRITABLE, Cause.USER, "fsGroup"),
        (errno.EROFS, Reason.VOLUME_NOT_WRITABLE, Cause.USER, "read-only"),
        (errno.ENOSPC, Reason.VOLUME_FULL, Cause.USER, "full"),
        (errno.EDQUOT, Reason.VOLUME_FULL, Cause.USER, "full"),
        (errno.EIO, Reason.VOLUME_NOT_WRITABLE, Cause.ERROR, "failed"),
    ],
)
def test_what_an_error_of_the_volume_means(
    tmp_path: Path, number: int, reason: Reason, cause: Cause, said: str
) -> None:
    failure = explain(OSError(number, os.strerror(number), str(tmp_path / "x")), tmp_path)
    assert (failure.reason, failure.cause) == (reason, cause)
    assert said in failure.message
    assert str(tmp_path) in failure.message
