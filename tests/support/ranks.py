"""Ranks under a real torchrun, with a minimal `launch` beside them that answers and copies checkpoints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from finetune_trainer.contract.prepared import PreparedTask
from finetune_trainer.contract.run_config import TaskConfig
from finetune_trainer.contract.training_report import PREDICTIONS_FILE, REPORT_FILE, TrainingReport
from finetune_trainer.prepare.prepare_run import prepare
from finetune_trainer.shared.host import free_port
from tests.support.patience import PATIENCE_SECONDS
from tests.support.serving import Handler, serving

PACKAGES = Path(__file__).parents[2] / "trainer_image"
TOKEN = "for-the-ranks-of-this-test"


@dataclass
class Heard:
    """The reports of the ranks."""

    progress: list[dict[str, Any]] = field(default_factory=list)
    checkpoints: list[dict[str, Any]] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    results: dict[int, dict[str, Any]] = field(default_factory=dict)

    def last(self, name: str) -> Any:
        """Return the newest value of a field of the progress reports."""
        return next(report[name] for report in reversed(self.progress) if name in report)

    def messages(self) -> list[str]:
        return [message for report in self.progress for message in report.get("messages", [])]


@dataclass
class Finished:
    heard: Heard
    returncode: int
    output: str
    staging: Path
    sealed: Path

    @property
    def model(self) -> Path:
        return self.staging / "model"

    @property
    def failure(self) -> dict[str, Any]:
        """Failure of the first rank that failed."""
        return next(result["failure"] for _, result in sorted(self.heard.results.items()) if "failure" in result)

    @property
    def report(self) -> TrainingReport:
        """Report beside the final model."""
        return TrainingReport.model_validate_json((self.model / REPORT_FILE).read_text(encoding="utf-8"))

    @property
    def predictions(self) -> list[dict[str, Any]]:
        """Predictions for the rows of the test split."""
        return [json.loads(line) for line in (self.model / PREDICTIONS_FILE).read_text(encoding="utf-8").splitlines()]

    def checkpoint(self, step: int) -> Path:
        return self.sealed / f"checkpoint-{step}"

    def log(self, step: int | None = None) -> list[dict[str, Any]]:
        """Return `log_history` of a checkpoint, the newest if none is named."""
        steps = [int(path.name.split("-")[1]) for path in self.sealed.iterdir()]
        state = json.loads((self.checkpoint(step or max(steps)) / "trainer_state.json").read_text())
        return list(state["log_history"])


def run_ranks(
    folder: Path,
    config: TaskConfig,
    *,
    world: int = 1,
    resume: Path | None = None,
    sealed_before: Path | None = None,
    kill_after_checkpoint: int | None = None,
    environment: dict[str, str] | None = None,
    prepared: PreparedTask | None = None,
    happens: Callable[[str, dict[str, Any]], None] = lambda path, body: None,
    timeout_seconds: float = PATIENCE_SECONDS,
) -> Finished:
    """Prepare in this process, then train with `world` ranks; at step `kill_after_checkpoint` all are SIGKILLed.

    `sealed_before` holds checkpoints of earlier attempts, which lie on the volume like those to come. `happens` is called after
    each report of a rank.
    """
    staging, sealed = folder / "staging", folder / "sealed"
    staging.mkdir(parents=True)
    if sealed_before is None:
        sealed.mkdir()
    else:
        shutil.copytree(sealed_before, sealed)
    heard = Heard()
    launch = PlayedLaunch(heard, prepared or prepare(config), staging, sealed, world, kill_after_checkpoint, happens)
    (folder / "run.json").write_text(config.to_json())
    (folder / "token").write_text(TOKEN)
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes=1", f"--nproc-per-node={world}"]
    command += ["--master-addr=127.0.0.1", f"--master-port={free_port('127.0.0.1')}", "--max-restarts=0"]
    with launch.served() as address:
        variables = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(PACKAGES), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "FINETUNE_CONFIG": str(folder / "run.json"),
            "FINETUNE_LAUNCH_URL": address,
            "FINETUNE_LAUNCH_TOKEN_FILE": str(folder / "token"),
            "FINETUNE_STAGING": str(staging),
            "HF_HUB_OFFLINE": "1",
            "GLOO_SOCKET_IFNAME": "lo",
            "OMP_NUM_THREADS": "1",
            **({"FINETUNE_RESUME": str(resume)} if resume else {}),
            **(environment or {}),
        }
        process = subprocess.Popen(
            [*command, "-m", "finetune_trainer", "train"],
            env=variables,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        launch.process = process
        try:
            output, _ = process.communicate(timeout=timeout_seconds)
        finally:
            if process.poll() is None:
                kill(process)
                process.wait()
    finished = Finished(heard, process.returncode, output, staging, sealed)
    if kill_after_checkpoint is not None:
        assert finished.checkpoint(kill_after_checkpoint).is_dir(), f"it ended before that checkpoint:\n{output}"
    return finished


def kill(process: subprocess.Popen[str]) -> None:
    """Send SIGKILL to torchrun and its ranks, which it starts in sessions of their own."""
    whole = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
    for member in whole:
        member.kill()


@dataclass
class PlayedLaunch:
    """`launch` as far as ranks see it."""

    heard: Heard
    prepared: PreparedTask
    staging: Path
    sealed: Path
    world: int
    kill_after: int | None
    happens: Callable[[str, dict[str, Any]], None] = lambda path, body: None
    process: subprocess.Popen[str] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def served(self) -> AbstractContextManager[str]:
        """Serve, and yield the address."""
        return serving(_Handler, launch=self)

    def post(self, path: str, body: dict[str, Any]) -> None:
        with self.lock:
            match path:
                case "/rank/progress":
                    self.heard.progress.append(body)
                case "/rank/checkpoint":
                    self.heard.checkpoints.append(body)
                    self._seal(body["step"])
                case "/rank/model":
                    self.heard.models.append(body)
                case "/rank/result":
                    self.heard.results[body["rank"]] = body
            self.happens(path, body)

    def _seal(self, step: int) -> None:
        parts = [part for part in self.heard.checkpoints if part["step"] == step]
        if len(parts) < self.world:
            return
        if any("problem" in part for part in parts):
            shutil.rmtree(self.staging / f"checkpoint-{step}", ignore_errors=True)
            return
        target = self.sealed / f"checkpoint-{step}"
        partial = target.with_suffix(".partial")
        for name in [name for part in parts for name in part["files"]]:
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self.staging / target.name / name, partial / name)
        partial.rename(target)
        shutil.rmtree(self.staging / target.name)
        if step == self.kill_after and self.process is not None:
            kill(self.process)


class _Handler(Handler):
    methods = ("GET", "POST")
    launch: PlayedLaunch

    def serve(self) -> None:
        if self.command == "POST":
            self._hear()
        elif self.path == "/rank/prepared":
            self.answer(200, self.launch.prepared.to_json().encode())
        else:
            folder = self.launch.sealed / f"checkpoint-{self.path.rsplit('/', 1)[1]}"
            self.answer(200, json.dumps({"path": str(folder)}).encode()) if folder.is_dir() else self.answer(
                404, b"it is gone"
            )

    def _hear(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path.startswith("/rank/") and self.headers["Authorization"] != f"Bearer {TOKEN}":
            return self.answer(401)
        self.launch.post(self.path, body)
        return self.answer(200)
