"""The parent process of a pod, with real processes in the pod."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from finetune_operator.cli.local import processes
from tests.support.patience import PATIENCE_SECONDS

SLEEPER = "import time; open('up', 'w'); time.sleep(3600)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); open('up', 'w'); time.sleep(3600)"
WITH_ORPHAN = (
    "import subprocess, sys\n"
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(3600)'], start_new_session=True)\n"
    "open('up', 'w')\n"
    "sys.exit(3)\n"
)


Start = Callable[..., processes.PodProcess]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start Python programs as pods; none is left running."""
    started: list[processes.PodProcess] = []

    def start(folder: Path, program: str, grace_seconds: float = 3600.0) -> processes.PodProcess:
        started.append(processes.start(folder, [sys.executable, "-c", program], dict(os.environ), grace_seconds))
        return started[-1]

    yield start
    for pod in started:
        pod.kill()
        pod.supervisor.wait(PATIENCE_SECONDS)
        assert not pod.running()


def wait_for(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_exit_code_and_output_are_kept(tmp_path: Path, start: Start) -> None:
    pod = start(tmp_path, "print('hello'); raise SystemExit(7)")
    pod.supervisor.wait(PATIENCE_SECONDS)
    ending = processes.ending(tmp_path)
    assert ending is not None
    assert (ending["exitCode"], ending["signal"], ending["stopped"]) == (7, None, False)
    assert (tmp_path / processes.LOG_FILE).read_text() == "hello\n"


def test_asked_to_stop_the_first_process_gets_the_signal(tmp_path: Path, start: Start) -> None:
    pod = start(tmp_path, SLEEPER)
    wait_for((tmp_path / "up").exists)
    pod.stop()
    pod.supervisor.wait(PATIENCE_SECONDS)
    ending = processes.ending(tmp_path)
    assert ending is not None
    assert (ending["exitCode"], ending["signal"], ending["stopped"]) == (143, 15, True)


def test_after_its_grace_period_a_pod_is_killed(tmp_path: Path, start: Start) -> None:
    pod = start(tmp_path, STUBBORN, grace_seconds=0.3)
    wait_for((tmp_path / "up").exists)
    pod.stop()
    assert pod.supervisor.wait(PATIENCE_SECONDS) == 137


def test_killed_at_once_it_does_not_wait(tmp_path: Path, start: Start) -> None:
    pod = start(tmp_path, STUBBORN)
    wait_for((tmp_path / "up").exists)
    pod.kill()
    assert pod.supervisor.wait(PATIENCE_SECONDS) == 137


def test_nothing_of_a_pod_outlives_its_first_process(tmp_path: Path, start: Start) -> None:
    pod = start(tmp_path, WITH_ORPHAN)
    assert pod.supervisor.wait(PATIENCE_SECONDS) == 3
    assert processes.processes_of(tmp_path) == []


def test_the_end_of_the_run_stops_the_pod(tmp_path: Path, start: Start) -> None:
    pod = start(tmp_path, SLEEPER)
    wait_for((tmp_path / "up").exists)
    assert pod.supervisor.stdin is not None
    pod.supervisor.stdin.close()  # as the kernel does for a process that was killed
    assert pod.supervisor.wait(PATIENCE_SECONDS) == 143


def test_the_end_of_the_supervisor_ends_the_pod(tmp_path: Path, start: Start) -> None:
    pod = start(tmp_path, SLEEPER)
    wait_for((tmp_path / "up").exists)
    assert len(processes.processes_of(tmp_path)) == 2
    pod.supervisor.kill()
    pod.supervisor.wait()
    wait_for(lambda: processes.processes_of(tmp_path) == [])


def test_other_pods_are_nobodys_business(tmp_path: Path, start: Start) -> None:
    own, other = tmp_path / "one", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    pod = start(own, SLEEPER)
    wait_for((own / "up").exists)
    assert processes.processes_of(other) == []
    pod.kill()
    pod.supervisor.wait(PATIENCE_SECONDS)
