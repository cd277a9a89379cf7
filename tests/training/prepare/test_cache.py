"""Prepared once per content: jobs that need the same share the work, a kill costs time alone, room is made with care."""

from __future__ import annotations

import errno
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.records import Exit, Reason
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.prepare import cores, eviction, lease, store, workers
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared import data_digests
from finetune_trainer.shared.failures import ExpectedError
from finetune_trainer.shared.volume import Layout, read_checked
from tests.support.damage import DAMAGE
from tests.support.patience import PATIENCE_SECONDS
from tests.support.ranks import PACKAGES
from tests.support.runs import run_config
from tests.support.tiny import reviews, tiny_bert, write_rows


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_bert(tmp_path_factory.mktemp("model"))


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten leases."""
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 4.0)
    monkeypatch.setattr(lease, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(lease, "POLL_SECONDS", 0.05)


def job(name: str, config: TaskConfig) -> TaskConfig:
    return config.model_copy(update={"job": name, "uid": f"uid-of-{name}"})


# --- the lease -------------------------------------------------------------------------------------------------------


def target(folder: Path) -> Path:
    return folder / "prepared" / "0123"


def forged(path: Path, number: int, **fields: Any) -> Path:
    """Write a lease of a holder somewhere else, who does not renew it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    file = path.with_name(f"{path.name}.lease-{number}")
    file.write_text(lease.Holder("other", host="elsewhere", pid=1, machine="another", **fields).text(1))
    return file


def test_only_one_holds_a_lease(quick: None, tmp_path: Path) -> None:
    path, inside, worked = target(tmp_path), [0], []

    def work() -> None:
        with lease.held(path, "job", done=lambda: False) as mine:
            assert mine is not None
            inside[0] += 1
            worked.append(inside[0])
            time.sleep(0.02)
            inside[0] -= 1

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert worked == [1] * 8
    assert os.listdir(path.parent) == []


def test_one_that_waits_says_for_whom_and_finds_it_done(quick: None, tmp_path: Path) -> None:
    path, done = target(tmp_path), threading.Event()
    messages: list[str] = []
    leases: list[lease.Lease | None] = []
    with lease.held(path, "first", done=lambda: False) as mine:
        assert mine is not None

        def wait() -> None:
            with lease.held(path, "second", done=done.is_set, waiting=messages.append, waited=messages.append) as none:
                leases.append(none)

        thread = threading.Thread(target=wait)
        thread.start()
        time.sleep(0.3)
        done.set()
        thread.join()
    assert "job first" in messages[0]
    assert "waiting" in messages[0]
    assert "Waited" in messages[1]
    assert leases == [None]


def test_a_lease_that_nobody_renews_is_taken_over(quick: None, tmp_path: Path) -> None:
    path = target(tmp_path)
    old = forged(path, 7)
    left = path.with_name("0123.partial-7-ffff")
    left.mkdir()
    began = time.monotonic()
    with lease.held(path, "next", done=lambda: False) as mine:
        assert mine is not None
        assert time.monotonic() - began >= 4.0
        assert not old.exists()
        assert not left.exists()
        assert mine.partial.name.startswith("0123.partial-8-")
        assert not mine.is_lost()
        # The old holder wakes up: it sees that it was taken for dead, and what it does to its lease changes nothing.
        forged(path, 9)
        assert mine.is_lost()
    assert path.with_name("0123.lease-9").exists()


def test_a_lease_that_is_renewed_is_never_taken(quick: None, tmp_path: Path) -> None:
    path = target(tmp_path)
    with lease.held(path, "first", done=lambda: False):
        until = time.monotonic() + 5.5
        with lease.held(path, "second", done=lambda: time.monotonic() > until) as none:
            assert none is None


def test_a_holder_that_died_on_this_machine_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "EXPIRY_SECONDS", 86400.0)
    path = target(tmp_path)
    path.parent.mkdir()
    child = subprocess.Popen(["sleep", "3600"])
    holder = lease.Holder("dead", pid=child.pid, started=lease._started(child.pid))
    path.with_name("0123.lease-1").write_text(holder.text(1))
    assert not holder.is_gone()
    child.kill()
    assert holder.is_gone() or child.wait()
    with lease.held(path, "next", done=lambda: False) as mine:
        assert mine is not None
    child.wait()


def test_leftovers_of_the_living_are_left_alone(quick: None, tmp_path: Path) -> None:
    path = target(tmp_path)
    long_ago = time.time() - 2 * lease.FORGOTTEN_SECONDS
    dead, living = path.with_name("dead.partial-1-aa"), path.with_name("living.partial-1-aa")
    lonely, complete = path.with_name("gone.partial-1-bb"), path.with_name("complete")
    for folder in (dead, living, lonely, complete):
        folder.mkdir(parents=True)
    files = [forged(path.with_name(name), 1) for name in ("dead", "living")]
    for old in (dead, living, lonely, complete, files[0]):
        os.utime(old, (long_ago, long_ago))
    with lease.held(path, "next", done=lambda: False) as mine:
        assert mine is not None
        names = {name for name in os.listdir(path.parent) if not name.startswith("0123.")}
    assert names == {"living.partial-1-aa", "living.lease-1", "complete"}


# --- found again -----------------------------------------------------------------------------------------------------


def test_what_is_prepared_is_found_without_looking_at_the_model_again(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = Path(shutil.copytree(model, tmp_path / "model"))
    data = write_rows(tmp_path / "train.csv", reviews(30))
    config = run_config(tmp_path / "output", model=mine, train=data, max_length=4000)
    first, looked = prepare(config), []

    def look() -> None:
        looked.append(1)

    again = prepare(config.model_copy(update={"uid": "another"}), look)
    assert looked == []
    assert again == first
    assert any("the model reads 64 tokens at most" in message for message in again.messages)
    shutil.rmtree(first.data)
    assert prepare(config.model_copy(update={"uid": "third"}), look).data == first.data
    assert looked == [1]
    (mine / "tokenizer_config.json").write_text((mine / "tokenizer_config.json").read_text() + " ")
    assert prepare(config.model_copy(update={"uid": "fourth"}), look).data != first.data
    assert looked == [1, 1]


# --- two jobs --------------------------------------------------------------------------------------------------------


def started(config: TaskConfig, folder: Path, hook: str = "") -> subprocess.Popen[str]:
    """Prepare in a process of its own, with a few lines of test code before it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.json").write_text(config.to_json())
    code = f"from finetune_trainer.prepare import prepare_command, tokens, lease\n{hook}\nraise SystemExit(prepare_command.main())"
    variables = {
        **os.environ,
        "PYTHONPATH": str(PACKAGES),
        "FINETUNE_CONFIG": str(folder / "run.json"),
        "FINETUNE_TERMINATION_LOG": str(folder / "termination-log"),
    }
    return subprocess.Popen([sys.executable, "-c", code], env=variables, stderr=subprocess.PIPE, text=True)


SLOW = """
import time
part = tokens._part
def slow(*args):
    time.sleep(3600)
    return part(*args)
tokens._part = slow
"""


def until(condition: Callable[[], Any]) -> Any:
    end = time.monotonic() + PATIENCE_SECONDS
    while not (result := condition()):
        assert time.monotonic() < end
        time.sleep(0.02)
    return result


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def test_two_jobs_tokenise_once_and_a_kill_costs_nothing_else(model: Path, tmp_path: Path) -> None:
    data = write_rows(tmp_path / "train.csv", reviews(60))
    config = run_config(tmp_path / "output", model=model, train=data)
    prepared = tmp_path / "output/.finetune/prepared"
    first = started(job("first", config), tmp_path / "one", SLOW)
    until(lambda: list(prepared.glob("*.partial-*")) or first.poll() is not None)
    second = started(job("second", config), tmp_path / "two")
    assert second.stderr is not None
    waiting = second.stderr.readline()
    while "waiting for it" not in waiting:
        assert waiting, "the second one ended without waiting"
        waiting = second.stderr.readline()
    assert "job first" in waiting
    first.send_signal(signal.SIGKILL)
    _, rest = second.communicate()
    assert second.returncode == 0, rest
    first.communicate()
    (folder,) = prepared.iterdir()
    mine = prepare(job("third", run_config(tmp_path / "alone", model=model, train=data)))
    assert content(folder) == content(Path(mine.data))
    record = json.loads((tmp_path / "two/termination-log").read_text())
    assert any("Waited" in message for message in record["messages"])


def test_a_stop_leaves_nothing_to_wait_for(model: Path, tmp_path: Path) -> None:
    config = run_config(tmp_path / "output", model=model, train=write_rows(tmp_path / "train.csv", reviews(60)))
    prepared = tmp_path / "output/.finetune/prepared"
    process = started(config, tmp_path / "one", SLOW)
    until(lambda: list(prepared.glob("*.partial-*")) or process.poll() is not None)
    process.terminate()
    _, stderr = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == Exit.STOPPED, stderr
    assert list(prepared.iterdir()) == []


def test_a_kill_at_any_moment_leaves_no_wrong_data(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from finetune_trainer.prepare import tokens

    monkeypatch.setattr(tokens, "PART_ROWS", 20)
    data = write_rows(tmp_path / "train.csv", reviews(200))
    config = run_config(tmp_path / "output", model=model, train=data, validation=data)
    began = time.monotonic()
    right = content(Path(prepare(run_config(tmp_path / "alone", model=model, train=data, validation=data)).data))
    usual = time.monotonic() - began
    prepared = tmp_path / "output/.finetune/prepared"
    for moment in range(8):
        child = multiprocessing.get_context("fork").Process(target=prepare, args=(config,))
        child.start()
        child.join(usual * (moment + 1) / 8)
        child.kill()
        child.join()
        for folder in prepared.glob("*"):
            assert "." in folder.name or content(folder) == right
    data_folder = Path(prepare(config).data)
    assert content(data_folder) == right
    left = [path.name for path in prepared.iterdir() if ".lease-" not in path.name]  # of a kill after the last step
    assert left == [data_folder.name]


# --- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["train.arrow", "meta.json"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_damaged_data_is_set_aside_and_made_again(
    model: Path, tmp_path: Path, name: str, damage: Callable[[Path], None]
) -> None:
    """The damage is found by the run that had the data made, and by another job that needs the same."""
    config = run_config(tmp_path / "output", model=model, train=write_rows(tmp_path / "train.csv", reviews(20)))
    folder = Path(prepare(config).data)
    right = content(folder)
    for number, run in enumerate((config, job("other", config)), 1):
        damage(folder / name)
        made = prepare(run)
        assert (Path(made.data), content(folder)) == (folder, right)
        assert len(list(folder.parent.glob("*.damaged-*"))) == number
        assert [message for message in made.messages if "it is set aside and made again" in message]
    assert not [message for message in prepare(config).messages if "set aside" in message]
    eviction.make_room(Layout.of(config), sys.maxsize)
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_note_of_what_was_prepared_is_written_again(
    model: Path, tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    config = run_config(tmp_path / "output", model=model, train=write_rows(tmp_path / "train.csv", reviews(20)))
    first = prepare(config)
    note = Layout.of(config).run.prepared
    damage(note)
    assert eviction.in_use(Layout.of(config)) <= {Path(first.data).name}
    assert prepare(config).data_digest == first.data_digest
    assert read_checked(note, PreparedTask) == first


def test_what_is_damaged_only_at_first_sight_stays(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data is kept after an error of reading that passes, and where another job has made it again meanwhile."""
    config = run_config(tmp_path / "output", model=model, train=write_rows(tmp_path / "train.csv", reviews(20)))
    folder = Path(prepare(config).data)
    answers = iter(["train.arrow can't be read: Input/output error"])
    real = data_digests.problem
    monkeypatch.setattr(data_digests, "problem", lambda *asked: next(answers, None) or real(*asked))
    made = folder.stat().st_ino
    assert not [message for message in prepare(config).messages if "set aside" in message]
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]
    assert folder.stat().st_ino == made


# --- room ------------------------------------------------------------------------------------------------------------


def entry(layout: Layout, name: str, days: float) -> Path:
    folder = layout.prepared(name)
    folder.mkdir(parents=True)
    (folder / "meta.json").write_text("{}")
    used = time.time() - days * 86400
    os.utime(folder / "meta.json", (used, used))
    return folder


def named(layout: Layout, job: str, uid: str, key: str, *, finished: bool = False) -> None:
    run = replace(layout, job=job, uid=uid).run
    run.folder.mkdir(parents=True)
    run.prepared.write_text(json.dumps({"data": f"/output/.finetune/prepared/{key}", "of": "another release"}))
    if finished:
        run.attempt(1).model.mkdir(parents=True)
        run.attempt(1).record_file.touch()


def test_only_what_nobody_can_need_makes_room_the_oldest_first(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "new", "uid")
    days = {"training": 90, "finished": 40, "superseded": 60, "forgotten": 50, "fresh": 0.01}
    folders = {name: entry(layout, name, age) for name, age in days.items()}
    named(layout, "one", "a", "superseded")
    time.sleep(0.01)
    named(layout, "one", "b", "training")
    named(layout, "two", "c", "finished", finished=True)
    (layout.all_prepared / "forgotten.partial-1-aa").mkdir()
    assert [unused.folder.name for unused in eviction.candidates(layout)] == ["superseded", "forgotten", "finished"]
    assert eviction.make_room(layout, 1) == []
    messages = eviction.make_room(layout, sys.maxsize)
    assert ["superseded" in messages[0], "forgotten" in messages[1], "finished" in messages[2]] == [True] * 3
    left = {path.name for path in layout.all_prepared.iterdir()}
    assert left == {"training", "fresh", "forgotten.partial-1-aa"}
    assert folders["training"].is_dir()


def test_what_somebody_begins_to_use_while_it_goes_is_put_back(tmp_path: Path) -> None:
    layout = Layout(tmp_path, "new", "uid")
    for name in ("found", "named"):
        entry(layout, name, 30)
    old = eviction.candidates(layout)
    assert eviction.touch(layout.prepared("found"))
    named(layout, "other", "a", "named")
    assert [eviction.evict(layout, candidate) for candidate in old] == [False, False]
    assert {path.name for path in layout.all_prepared.iterdir()} == {"found", "named"}
    assert not eviction.touch(layout.prepared("gone"))


def test_volume_without_times_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a volume that sets no times, room is made and damaged data set aside."""
    layout = Layout(tmp_path, "new", "uid")
    entry(layout, "old", 30)
    entry(layout, "damaged", 30)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "utime", refuse)
    assert store.set_aside(layout.prepared("damaged")) is not None
    assert [store.DAMAGED in path.name for path in layout.all_prepared.glob("damaged*")] == [True]
    (old,) = [candidate for candidate in eviction.candidates(layout) if candidate.folder.name == "old"]
    assert eviction.evict(layout, old)
    assert not layout.prepared("old").exists()


def test_a_full_volume_gives_up_what_nobody_needs_and_preparing_goes_on(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = run_config(tmp_path / "output", model=model, train=write_rows(tmp_path / "train.csv", reviews(20)))
    layout, write = Layout.of(config), store.ArrowFile.write
    old = entry(layout, "old", 10)

    def full(file: Any, batch: Any) -> None:
        if old.exists():
            raise OSError(errno.ENOSPC, "No space left on device")
        write(file, batch)

    monkeypatch.setattr(store.ArrowFile, "write", full)
    prepared = prepare(config)
    assert any("short of room: prepared data old" in message for message in prepared.messages)
    assert [path.name for path in layout.all_prepared.iterdir()] == [Path(prepared.data).name]
    monkeypatch.setattr(store.ArrowFile, "write", lambda file, batch: full(file, entry(layout, "old", 0)))
    with pytest.raises(OSError, match="No space left"):
        prepare(
            job("other", run_config(tmp_path / "output", model=model, train=write_rows(tmp_path / "b.csv", reviews(9))))
        )
    assert sorted(path.name for path in layout.all_prepared.iterdir()) == sorted([Path(prepared.data).name, "old"])


# --- several processes -----------------------------------------------------------------------------------------------


def test_the_number_of_processes_changes_no_byte(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from finetune_trainer.prepare import tokens

    monkeypatch.setattr(tokens, "PART_ROWS", 7)
    data = write_rows(tmp_path / "train.jsonl", reviews(100))
    folders = {}
    for processes in (1, 2, 5):
        config = run_config(tmp_path / f"output-{processes}", model=model, train=data, validation=data, max_length=9)
        config = config.model_copy(
            update={"preprocessing": config.preprocessing.model_copy(update={"num_proc": processes})}
        )
        folders[processes] = Path(prepare(config).data)
    assert content(folders[1]) == content(folders[2]) == content(folders[5])
    assert len({folder.name for folder in folders.values()}) == 1


def test_results_come_in_order_and_errors_as_they_were() -> None:
    def work(piece: int) -> int:
        time.sleep(0.01 * (3 - piece % 3))
        if piece == 20:
            raise ExpectedError(Reason.DATA_INVALID, "row 20 is wrong")
        if piece == 30:
            raise ValueError("not thought of")
        return piece

    assert list(workers.in_order(work, 20, 3)) == list(range(20))
    with pytest.raises(ExpectedError, match="row 20 is wrong") as raised:
        list(workers.in_order(work, 22, 3))
    assert raised.value.reason is Reason.DATA_INVALID
    with pytest.raises(workers.WorkerError, match="not thought of"):
        list(workers.in_order(lambda piece: work(piece + 25), 9, 2))


def test_a_worker_that_is_killed_is_missing_memory() -> None:
    def work(piece: int) -> int:
        if piece == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return piece

    with pytest.raises(MemoryError):
        list(workers.in_order(work, 4, 2))


def test_cores_of_a_container(tmp_path: Path) -> None:
    def files(**content: str) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        for name, text in content.items():
            (folder / name.replace("__", "/")).parent.mkdir(parents=True, exist_ok=True)
            (folder / name.replace("__", "/").replace("_dot_", ".")).write_text(text)
        return folder

    allowed = len(os.sched_getaffinity(0))
    assert cores.cores(files()) == allowed
    assert cores.cores(files(cpu_dot_max="max 100000")) == allowed
    assert cores.cores(files(cpu_dot_max="50000 100000")) == 1
    assert cores.cores(files(cpu_dot_max="9900000 100000")) == allowed
    assert cores.cores(files(cpu__cpu_dot_cfs_quota_us="-1", cpu__cpu_dot_cfs_period_us="100000")) == allowed
    assert cores.cores(files(cpu__cpu_dot_cfs_quota_us="100000", cpu__cpu_dot_cfs_period_us="100000")) == 1
    assert cores.processes(None, files(memory_dot_max=str(600 << 20))) == 1
    assert cores.processes(None, files(memory_dot_max="max")) == allowed
    assert cores.processes(5) == 5
