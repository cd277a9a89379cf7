"""Clusters of test runs that follow each other, or start side by side, on one machine."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from tests.support.cache import cache_folder
from tests.support.cluster import guard
from tests.support.cluster.client import REPOSITORY
from tests.support.commands import wait_for


@pytest.fixture
def clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of clusters that no other test run sees."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return cache_folder("clusters")


def test_a_second_cluster_with_nodes_waits_for_the_end_of_the_first(clusters: Path) -> None:
    order: list[str] = []

    def second() -> None:
        with guard.guarded(clusters / f"second{os.getpid()}", with_nodes=True):
            order.append("the second begins")

    with guard.guarded(clusters / f"first{os.getpid()}", with_nodes=True):
        other = Thread(target=second)
        other.start()
        wait_for("the second to wait", lambda: _is_waited_for(clusters / guard.NODES))
        order.append("the first ends")
    other.join()
    assert order == ["the first ends", "the second begins"]
    assert guard.running() == []


def test_leftovers_of_killed_run_stop_no_other(clusters: Path) -> None:
    """Leftovers of a run that was killed with its guard do not stop the next run."""
    left = clusters / f"left{os.getpid()}"
    command = [sys.executable, "-m", "tests.support.cluster", "guard", str(left), "--with-nodes"]
    with subprocess.Popen(command, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        assert killed.stdout.readline() == b"ready\n"
        killed.send_signal(signal.SIGKILL)
    assert guard.running() == [left]
    following = clusters / f"following{os.getpid()}"
    with guard.guarded(following, with_nodes=True):
        assert guard.running() == [following]


def test_one_that_was_started_by_hand_is_not_waited_for(clusters: Path) -> None:
    by_hand = clusters / "dev"
    by_hand.mkdir()
    for mark in ("by-hand", "has-nodes"):
        (by_hand / mark).touch()
    with pytest.raises(LookupError), guard.guarded(clusters / f"beside{os.getpid()}", with_nodes=True):
        pytest.fail("it began")
    assert guard.running() == [by_hand]


def _is_waited_for(lock: Path) -> bool:
    """Return whether a process waits for a lock, as proc_locks(5) shows it: its entry begins with an arrow."""
    waiting = [line for line in Path("/proc/locks").read_text().splitlines() if "->" in line]
    return any(f":{lock.stat().st_ino} " in line for line in waiting)
