"""What metrics and progress cost a training step of 50 ms.

A real `launch` runs one rank, `overhead_rank`. The baseline is the same Trainer in the same process without what reports;
the two take turns.
"""

from __future__ import annotations

import csv
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import mean, median
from typing import Any

from benchmarks.common import Figure, show
from finetune_trainer.config import Env, RunConfig
from tests.support.cluster.client import REPOSITORY
from tests.support.tiny import BAD, GOOD, NEUTRAL, tiny_bert

ROUNDS = 6
STEPS = 100
ROWS = 400
BATCH = 4
START = (
    "import os, sys; from finetune_trainer.launch.run import main; os.environ['LAUNCH_PID'] = str(os.getpid()); "
    "sys.exit(main(('-m', 'benchmarks.overhead_rank')))"
)


def main(rounds: int = ROUNDS) -> None:
    """Run and show."""
    with tempfile.TemporaryDirectory(prefix="overhead-") as folder:
        measured = run(Path(folder), rounds)
    silent = [one for one in measured if not one["reporting"]]
    ours = [one for one in measured if one["reporting"]]
    step = median(seconds for one in silent for seconds in one["step_seconds"])

    def figure(what: str, before: float, after: float, target: float | None) -> Figure:
        share = (after - before) / step * 100
        return Figure(what, f"{before * 1e3:.3f} ms", f"{after * 1e3:.3f} ms", share, target, "% of a step")

    def average(rounds: list[dict[str, Any]], name: str) -> float:
        return float(mean(one[name] for one in rounds))

    with_reports = median(seconds for one in ours for seconds in one["step_seconds"])
    show(
        f"metrics and progress at steps of 50 ms ({len(ours)} x {STEPS} steps)",
        [
            figure("time of a step, median", step, with_reports, 0.5),
            figure("in the callbacks, CPU of the training thread", 0, average(ours, "callback_cpu_seconds"), None),
            figure("CPU of the rank, all threads", average(silent, "cpu_seconds"), average(ours, "cpu_seconds"), None),
            figure("CPU of launch", 0, average(ours, "launch_cpu_seconds"), None),
        ],
    )


def run(folder: Path, rounds: int) -> list[dict[str, Any]]:
    """One launch from begin to end; what its rank measured."""
    config = make_config(folder)
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    environment = {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(REPOSITORY),
        "RESULTS": str(folder / "results.json"),
        "ROUNDS": str(rounds),
        Env.CONFIG.value: str(config),
        Env.ATTEMPT.value: "1",
        Env.NODE.value: "0",
        Env.PEERS.value: f"127.0.0.1:{port}",
        Env.TERMINATION_LOG.value: str(folder / "termination-log"),
        Env.PATHS.value: json.dumps({"/output": str(folder / "claim")}),
    }
    done = subprocess.run(
        [sys.executable, "-c", START],
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    results = folder / "results.json"
    if not results.exists():
        raise RuntimeError(f"the rank measured nothing:\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}")
    measured: list[dict[str, Any]] = json.loads(results.read_text())
    return measured


def make_config(folder: Path) -> Path:
    """A model, rows of one length (so that any order of them costs the same), and the run config."""
    (folder / "claim").mkdir()
    tiny_bert(folder / "model")
    with (folder / "train.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["review", "stars"])
        rows.writerows([" ".join((*NEUTRAL, (BAD, GOOD)[row % 2][row % 6])), row % 2] for row in range(ROWS))
    config = RunConfig.model_validate(
        {
            "namespace": "bench",
            "job": "overhead",
            "uid": "overhead",
            "task": "text-classification",
            "model": {"name": str(folder / "model")},
            "dataset": {
                "files": {"train": [str(folder / "train.csv")]},
                "columns": {"text": "review", "label": "stars"},
            },
            "trainingArguments": {"max_steps": STEPS, "per_device_train_batch_size": BATCH, "logging_steps": 10},
            "nodes": 1,
            "processesPerNode": 1,
            "accelerators": False,
            "output": "/output",
            "prepare": "inline",
        }
    )
    path = folder / "run.json"
    path.write_text(config.to_json())
    return path
