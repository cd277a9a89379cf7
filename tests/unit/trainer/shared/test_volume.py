"""Durable writes and the probe."""

import errno
import os
import stat
from pathlib import Path

import pytest

from finetune_trainer.contract.records import Cause, CheckpointRef, Reason
from finetune_trainer.shared.volume import (
    Layout,
    VolumeError,
    explain,
    has_worked,
    is_of_volume,
    make_folder,
    passes,
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
    assert probe(Layout(tmp_path, "reviews", "u")) == ()
    assert os.listdir(tmp_path) == ["reviews"]
    assert os.listdir(tmp_path / "reviews") == []


def test_probe_of_a_volume_that_is_not_mounted(tmp_path: Path) -> None:
    (tmp_path / "output").write_text("a file")
    with pytest.raises(VolumeError) as caught:
        probe(Layout(tmp_path / "output", "reviews", "u"))
    assert caught.value.failure.reason is Reason.VOLUME_NOT_WRITABLE
    assert str(tmp_path / "output") in caught.value.failure.message


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOSYS, errno.EMFILE, errno.EOPNOTSUPP, errno.EINVAL])
def test_a_volume_that_cannot_rename_folders_is_found_by_the_probe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """Object storage that is mounted as a folder can write and rename files, and can't rename folders."""
    rename = os.rename

    def refuse(source: Path, target: Path) -> None:
        if Path(source).is_dir():
            raise OSError(number, os.strerror(number), str(source))
        rename(source, target)

    monkeypatch.setattr(os, "rename", refuse)
    with pytest.raises(VolumeError) as caught:
        probe(Layout(tmp_path, "reviews", "u"))
    failure = caught.value.failure
    assert (failure.reason, failure.cause) == (Reason.VOLUME_UNSUITABLE, Cause.USER)
    assert "can't rename a folder with files in it" in failure.message
    assert os.listdir(tmp_path / "reviews") == []


@pytest.mark.parametrize(
    ("call", "message"), [("symlink", "makes no symbolic links"), ("utime", "sets no times of files"), ("fchmod", None)]
)
def test_what_training_can_do_without_is_said_and_no_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str, message: str | None
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, call, refuse)
    notes = probe(Layout(tmp_path, "reviews", "u"))
    assert [message in note for note in notes] == [True] if message is not None else notes == ()
    assert os.listdir(tmp_path / "reviews") == []


def test_a_link_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "model" / "of somebody").mkdir(parents=True)
    with pytest.raises(OSError, match="model"):
        replace_link(tmp_path / "model", tmp_path / "runs")
    assert os.listdir(tmp_path) == ["model"]


def test_a_folder_in_place_of_a_file_is_moved_aside_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.json" / "in it").mkdir(parents=True)
    write_text(tmp_path / "a.json", "new")
    assert (tmp_path / "a.json").read_text() == "new"
    (aside,) = tmp_path.glob("a.json.aside-*")
    assert os.listdir(aside) == ["in it"]


@pytest.mark.parametrize(
    ("number", "reason", "cause", "later", "words"),
    [
        (errno.EACCES, Reason.VOLUME_NOT_WRITABLE, Cause.USER, Cause.USER, "fsGroup"),
        (errno.EROFS, Reason.VOLUME_NOT_WRITABLE, Cause.USER, Cause.VOLUME, "read-only"),
        (errno.ENOSPC, Reason.VOLUME_FULL, Cause.USER, Cause.VOLUME, "full"),
        (errno.EDQUOT, Reason.VOLUME_FULL, Cause.USER, Cause.VOLUME, "full"),
        (errno.EIO, Reason.VOLUME_FAILED, Cause.VOLUME, Cause.VOLUME, "fails"),
        (errno.ESTALE, Reason.VOLUME_FAILED, Cause.VOLUME, Cause.VOLUME, "fails"),
        (errno.ENOTCONN, Reason.VOLUME_FAILED, Cause.VOLUME, Cause.VOLUME, "fails"),
        (errno.ELOOP, Reason.VOLUME_FAILED, Cause.ERROR, Cause.ERROR, "failed"),
    ],
)
def test_what_an_error_of_the_volume_means(
    tmp_path: Path, number: int, reason: Reason, cause: Cause, later: Cause, words: str
) -> None:
    """A new volume that fails is set up wrong; on one that has worked before, what passes is waited for."""
    error = OSError(number, os.strerror(number), str(tmp_path / "x"))
    for worked, expected in ((False, cause), (True, later)):
        failure = explain(error, tmp_path, worked=worked)
        assert (failure.reason, failure.cause) == (reason, expected)
        assert words in failure.message
        assert str(tmp_path) in failure.message
    assert passes(error) is (later is Cause.VOLUME)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "full", "/output/x"), True),
        (OSError(errno.ENOSPC, "full"), True),
        (OSError(errno.ENOSPC, "full", "/tmp/x"), False),
        (OSError(errno.EIO, "from fsync"), True),
        (ConnectionResetError(errno.ECONNRESET, "of a socket"), False),
        (OSError(errno.ETIMEDOUT, "of NFS", "/output/x"), True),
        (OSError(errno.EMFILE, "of the process", "/output/x"), False),
    ],
)
def test_which_errors_are_the_volumes(error: OSError, expected: bool) -> None:
    assert is_of_volume(error, Path("/output")) is expected


def test_attempts_are_folders_of_plain_numbers(tmp_path: Path) -> None:
    run = Layout(tmp_path, "reviews", "u").run
    for name in ("2", "10", "\xb2", "lost+found"):
        (run.attempts / name).mkdir(parents=True)
    assert [attempt.folder.name for attempt in run.numbered()] == ["2", "10"]


def test_a_volume_worked_once_the_run_was_prepared_on_it(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "reviews", "u")
    assert not has_worked(layout)
    make_folder(layout.run.folder)
    layout.run.prepared.touch()
    assert has_worked(layout)
