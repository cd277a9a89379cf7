"""The cost of the wrapping of a user's own program: as a FineTuneJob, against torchrun by hand on the same two nodes.

Two `launch` processes on this machine run the program `script_program`; the baseline is the same program under two torchruns. They
take turns. Time counts from the start of the processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.common import Figure, Table, rates
from finetune_trainer.contract.run_config import Env, ScriptConfig
from finetune_trainer.shared.host import free_port
from tests.support.cluster.client import REPOSITORY

ROUNDS = 7
NODES = 2
PROGRAM = Path(__file__).with_name("script_program.py")


def main(rounds: int = ROUNDS) -> tuple[Table, ...]:
    """Run the benchmark."""
    by_hand, ours = [], []
    for number in range(rounds):
        with tempfile.TemporaryDirectory(prefix="scripts-") as folder:
            by_hand.append(run_by_hand(Path(folder)))
            ours.append(run_job(Path(folder), number))

    def of(measured: list[dict[str, float]], name: str) -> float:
        return median(record[name] for record in measured)

    start, our_start = of(by_hand, "first_step_seconds"), of(ours, "first_step_seconds")
    rate, our_rate = of(by_hand, "steps_per_second"), of(ours, "steps_per_second")
    table = Table(
        f"a program of one's own on two nodes (median of {rounds})",
        (
            Figure("start to first step", f"{start:.2f} s", f"{our_start:.2f} s", our_start / start, 1.05, "x"),
            rates("steps", rate, our_rate, 0.99),
        ),
        ("torchrun by hand", "FineTuneJob"),
    )
    return (table,)


def run_by_hand(folder: Path) -> dict[str, float]:
    """Run the program under a torchrun for each node."""
    port = free_port("127.0.0.1")
    commands = [
        [
            *(sys.executable, "-m", "torch.distributed.run", f"--nnodes={NODES}", "--nproc-per-node=1"),
            *(f"--node-rank={node}", "--master-addr=127.0.0.1", f"--master-port={port}", str(PROGRAM)),
        ]
        for node in range(NODES)
    ]
    return _measured(folder / "by-hand", commands, [{"GLOO_SOCKET_IFNAME": "lo"}] * NODES)


def run_job(folder: Path, number: int) -> dict[str, float]:
    """Run the program as the nodes of a FineTuneJob do."""
    config = ScriptConfig.model_validate(
        {
            "namespace": "bench",
            "job": "bench",
            "uid": f"bench-{number}",
            "script": {"path": str(PROGRAM)},
            "nodes": NODES,
            "processesPerNode": 1,
            "accelerators": False,
            "output": "/output",
            "prepare": "none",
        }
    )
    (folder / "claim").mkdir()
    (folder / "run.json").write_text(config.to_json())
    peers = ",".join(f"127.0.0.1:{free_port('127.0.0.1')}" for _ in range(NODES))
    environments = [
        {
            Env.CONFIG.value: str(folder / "run.json"),
            Env.ATTEMPT.value: "1",
            Env.NODE.value: str(node),
            Env.PEERS.value: peers,
            Env.TERMINATION_LOG.value: str(folder / f"termination-log-{node}"),
            Env.PATHS.value: json.dumps({"/output": str(folder / "claim")}),
            "REPORTS": "1",
        }
        for node in range(NODES)
    ]
    command = [sys.executable, "-m", "finetune_trainer", "launch"]
    return _measured(folder / "ours", [command] * NODES, environments)


def _measured(folder: Path, commands: list[list[str]], environments: Sequence[Mapping[str, str]]) -> dict[str, float]:
    """Run a process for each node to its end; return what rank 0 measured."""
    folder.mkdir()
    common = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY / "trainer_image"),
        "RESULT": str(folder / "result.json"),
        "STARTED": str(time.monotonic()),
    }
    processes = []
    for node, (command, environment) in enumerate(zip(commands, environments, strict=True)):
        with (folder / f"log-{node}").open("wb") as log:
            processes.append(
                subprocess.Popen(command, env={**common, **environment}, cwd=folder, stdout=log, stderr=log)
            )
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError(f"exit codes {codes}:\n{(folder / 'log-0').read_text()[-4000:]}")
    measured: dict[str, Any] = json.loads((folder / "result.json").read_text())
    return measured
