"""`finetune run` as a user runs it: a process with a terminal's signals, on the demo's job made small."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import yaml

from tests.support.patience import PATIENCE_SECONDS
from tests.support.tiny import reviews, tiny_bert, write_rows

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "reviews.yaml"
FINETUNE = (sys.executable, "-c", "from finetune_operator.cli import main; main()")


@dataclass
class LocalRun:
    """A folder with data, a manifest and a work folder, and the runs in it."""

    folder: Path
    arguments: dict[str, Any] = field(default_factory=dict)
    """Training arguments that differ from the example's."""
    spec: dict[str, Any] = field(default_factory=dict)
    """Other fields of the spec that differ."""
    script: dict[str, Any] | None = None
    """`spec.script`: a program of the user's own in place of the example's task, its model and its data."""
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def work_dir(self) -> Path:
        return self.folder / "work"

    @property
    def temporary(self) -> Path:
        """Temporary folder of the machine, as the run sees it."""
        return self.folder / "tmp"

    @property
    def data(self) -> Path:
        return self.work_dir / "claims" / "reviews-data"

    def make_data(self) -> None:
        self.data.mkdir(parents=True)
        tiny_bert(self.data / "model")
        write_rows(self.data / "train.csv", reviews(256))
        write_rows(self.data / "validation.csv", reviews(64, seed=1))

    def manifest(self) -> Path:
        body = yaml.safe_load(EXAMPLE.read_text())
        if self.script is not None:
            body["spec"] = {"script": self.script, "storage": body["spec"]["storage"]}
        body["spec"] |= self.spec
        if self.script is None:
            body["spec"]["trainingArguments"] |= self.arguments
        path = self.folder / "job.yaml"
        path.write_text(yaml.safe_dump(body))
        return path

    def start(self, *options: str) -> subprocess.Popen[str]:
        """Start `finetune run`; its output goes to files with its number."""
        number = len(self.started)
        command = [*FINETUNE, "run", str(self.manifest()), "--work-dir", str(self.work_dir), *options]
        with self._file(number, "out").open("w") as out, self._file(number, "err").open("w") as err:
            self.temporary.mkdir(exist_ok=True)
            environment = {**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(self.temporary)}
            process = subprocess.Popen(
                command, stdout=out, stderr=err, text=True, env=environment, preexec_fn=_as_in_a_terminal
            )
        self.started.append(process)
        return process

    def finish(self, *options: str) -> int:
        """Run to the end; return the exit code."""
        return self.start(*options).wait(PATIENCE_SECONDS)

    def output(self, number: int = -1) -> str:
        return self._file(range(len(self.started))[number], "out").read_text()

    def errors(self, number: int = -1) -> str:
        return self._file(range(len(self.started))[number], "err").read_text()

    def status(self) -> dict[str, Any]:
        """Return the status as the run last wrote it."""
        path = self.work_dir / "jobs" / "reviews" / "state.json"
        status: dict[str, Any] = json.loads(path.read_text())["status"] if path.exists() else {}
        return status

    def wait_until(self, holds: Callable[[dict[str, Any]], bool], number: int = -1) -> dict[str, Any]:
        """Wait for a status; fail where the run of this number ends before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline:
            status = self.status()
            if holds(status):
                return status
            assert self.started[number].poll() is None, f"ended too early: {self.output()}{self.errors()}{status}"
            time.sleep(0.05)
        raise AssertionError(f"waited in vain: {self.output()}{self.errors()}{self.status()}")

    def heads(self, number: int = -1) -> list[str]:
        """Return the first words of the lines that have one: the phases in order."""
        text = self.output(number) + self.errors(number)
        return [match[1] for line in text.splitlines() if (match := re.match(r"([A-Z][a-z]+)  ", line))]

    def processes(self) -> list[psutil.Process]:
        """Return every process of a pod of this folder."""
        from finetune_operator.cli.local.processes import processes_of

        return processes_of(self.work_dir)

    def close(self) -> None:
        for process in self.started:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
                process.wait()
        for left in self.processes():
            left.kill()

    def _file(self, number: int, kind: str) -> Path:
        return self.folder / f"run-{number}.{kind}"


def _as_in_a_terminal() -> None:
    """Turn Ctrl-C on, as in a terminal: a shell that runs these tests in the background has turned it off, and the run would obey."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
