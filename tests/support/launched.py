"""Nodes of an attempt as `launch` processes on loopback, as the local backend runs them, with stand-in ranks."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any

from finetune_trainer.contract.prepared import PreparedTask, PrepareSummary
from finetune_trainer.contract.records import Progress, ResultRecord
from finetune_trainer.contract.run_config import Env, RunConfig, TaskConfig
from finetune_trainer.launch.launch_settings import Peer
from finetune_trainer.shared.data_digests import content_of, read_meta
from finetune_trainer.shared.host import free_port
from finetune_trainer.shared.volume import Layout, make_folder, write_checked
from tests.support.patience import PATIENCE_SECONDS
from tests.support.prepared_data import sealed_data

PACKAGES = Path(__file__).parents[2] / "trainer_image"
RANK_PROGRAM = Path(__file__).parent / "stand_in" / "rank_program.py"
START = "import sys; from finetune_trainer.launch.node_run import main; sys.exit(main((sys.argv[1],)))"


def until(what: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """Wait for something to become true, and return it."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if value := what():
            return value
        time.sleep(0.02)
    raise TimeoutError(f"not within {seconds} s")


@dataclass
class NodeProcess:
    """A process of `launch`."""

    process: subprocess.Popen[bytes]
    port: int
    termination_log: Path
    output: Path
    host: str = "127.0.0.1"

    def get(self, path: str, token: str | None = None) -> bytes:
        status, content = self.ask("GET", path, token)
        if status != HTTPStatus.OK:
            raise OSError(f"{path}: {status}")
        return content

    def ask(self, method: str, path: str, token: str | None = None, body: str | None = None) -> tuple[int, bytes]:
        """Send one request; return status and content of the answer."""
        connection = http.client.HTTPConnection(self.host, self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, path, body, {"Authorization": f"Bearer {token}"} if token else {})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def progress(self) -> Progress | None:
        """Return what /progress answers; None while nobody listens."""
        try:
            return Progress.model_validate_json(self.get("/progress"))
        except OSError:
            return None

    def wait(self) -> int:
        return self.process.wait(PATIENCE_SECONDS)

    def record(self) -> ResultRecord:
        assert self.termination_log.exists(), self.text()
        return ResultRecord.model_validate_json(self.termination_log.read_text(encoding="utf-8"))

    def text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")


@dataclass
class Launches:
    """A starter of the attempts of one job on one claim."""

    folder: Path
    nodes: int = 1
    processes: int = 1
    arguments: dict[str, Any] = field(default_factory=dict)
    uid: str = "11111111-aaaa"
    grace_period_seconds: int = 12
    resume_from: str = "auto"
    start_code: str = START
    host: str = "127.0.0.1"
    """Address at which the nodes listen."""
    started: list[NodeProcess] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.claim.mkdir(parents=True, exist_ok=True)

    @property
    def claim(self) -> Path:
        return self.folder / "claim"

    @property
    def layout(self) -> Layout:
        return Layout(self.claim, "reviews", self.uid)

    @property
    def data(self) -> Path:
        """The prepared data."""
        return self.claim / "d"

    def config(self) -> RunConfig:
        return TaskConfig.model_validate(
            {
                "namespace": "default",
                "job": "reviews",
                "uid": self.uid,
                "task": "text-classification",
                "model": {"name": "/data/model"},
                "dataset": {"files": {"train": ["/data/train.csv"]}},
                "trainingArguments": self.arguments,
                "nodes": self.nodes,
                "processesPerNode": self.processes,
                "accelerators": False,
                "output": "/output",
                "prepare": "job",
                "gracePeriodSeconds": self.grace_period_seconds,
                "resumeFrom": self.resume_from,
            }
        )

    def prepare(self) -> None:
        """Write the files that the prepare step leaves."""
        make_folder(self.layout.run.folder)
        digest = sealed_data(self.data) if not self.data.exists() else content_of(read_meta(self.data))
        summary = PrepareSummary(train_rows=8, labels=("bad", "good"))
        prepared = PreparedTask(
            config_digest="0",
            data=f"/output/{self.data.relative_to(self.claim)}",
            data_digest=digest,
            model="/data/model",
            label_names=("bad", "good"),
            summary=summary,
        )
        write_checked(self.layout.run.prepared, prepared)

    def start(
        self,
        attempt: int = 1,
        plan: Mapping[str, Any] | None = None,
        only: tuple[int, ...] | None = None,
        ports: list[int] | None = None,
        **popen: Any,
    ) -> list[NodeProcess]:
        """Start the nodes of an attempt (or some of them)."""
        ports = ports or [free_port(self.host) for _ in range(self.nodes)]
        return [
            self._start_node(attempt, node, ports, plan or {}, popen)
            for node in range(self.nodes)
            if only is None or node in only
        ]

    def _start_node(
        self, attempt: int, node: int, ports: list[int], plan: Mapping[str, Any], popen: dict[str, Any]
    ) -> NodeProcess:
        home = self.folder / f"{self.uid}-{attempt}-{node}"
        home.mkdir(parents=True, exist_ok=True)
        config = home / "run.json"
        config.write_text(self.config().to_json(), encoding="utf-8")
        env = dict(os.environ) | {
            "PYTHONPATH": str(PACKAGES),
            "OMP_NUM_THREADS": "1",
            "PLAN": json.dumps(plan),
            Env.CONFIG.value: str(config),
            Env.ATTEMPT.value: str(attempt),
            Env.NODE.value: str(node),
            Env.PEERS.value: ",".join(str(Peer(self.host, port)) for port in ports),
            Env.TERMINATION_LOG.value: str(home / "termination-log"),
            Env.PATHS.value: json.dumps({"/output": str(self.claim)}),
        }
        env.update(popen.pop("env", {}))
        output = home / "output"
        with output.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-c", self.start_code, str(RANK_PROGRAM)],
                env=env,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **popen,
            )
        started = NodeProcess(process, ports[node], home / "termination-log", output, self.host)
        self.started.append(started)
        return started

    def run(self, attempt: int = 1, plan: Mapping[str, Any] | None = None) -> list[ResultRecord]:
        """Run an attempt to its end."""
        nodes = self.start(attempt, plan)
        for node in nodes:
            node.wait()
        return [node.record() for node in nodes]

    def close(self) -> None:
        """Leave nothing running."""
        for node in self.started:
            if node.process.poll() is None:
                node.process.send_signal(signal.SIGKILL)
                node.process.wait()
