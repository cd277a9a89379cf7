"""Trainings on this machine: a real `launch` with a benchmark's rank in place of the product's own, and scripts by hand."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from finetune_trainer.contract.run_config import Env, TaskConfig
from finetune_trainer.shared.host import free_port
from tests.support.cluster.client import REPOSITORY

BATCH = 8
"""Batch size of a rank, also in scripts by hand."""
START = (
    "import os, sys; from finetune_trainer.launch.node_run import main; os.environ['LAUNCH_PID'] = str(os.getpid()); "
    "sys.exit(main(('-m', *sys.argv[1:])))"
)


@dataclass(frozen=True)
class Measured:
    """A training, by the stopwatch of its rank 0."""

    steps: int
    seconds: float
    later_seconds: float
    """Seconds of all steps but the first."""
    loss: float | None
    """The last loss that was logged."""


def train(folder: Path, name: str, *, warm_up: int = 0, **more: Any) -> Measured:
    """Train an epoch in a FineTuneJob's pod, whose files go to the new folder `name`."""
    arguments = {
        "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH,
        "logging_steps": 10,
        "save_strategy": "no",
    }
    config = run_config(folder, trainingArguments=arguments, **more)
    (folder / name).mkdir()
    rank = ("benchmarks.training_rank", "ours")
    return Measured(**run_launch(folder / name, config, rank, WARM_UP=str(warm_up)))


def train_by_hand(folder: Path, script: str, *arguments: str, ranks: int = 1, warm_up: int = 0) -> Measured:
    """Train on the same rows by the script, under torchrun."""
    torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}")
    rank = ("-m", "benchmarks.training_rank", script, f"--folder={folder}", *arguments)
    environment = {
        "GLOO_SOCKET_IFNAME": "lo",
        "HF_HOME": str(folder / "cache"),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "WARM_UP": str(warm_up),
    }
    return Measured(**run([sys.executable, *torchrun, *rank], environment))


def run_config(folder: Path, **more: Any) -> TaskConfig:
    """Make the run config of one node that prepares inline and trains on the CPU; model and data lie in `folder`."""
    return TaskConfig.model_validate(
        {
            "namespace": "bench",
            "job": "bench",
            "uid": "bench",
            "task": "text-classification",
            "model": {"name": str(folder / "model")},
            "dataset": {
                "files": {"train": [str(folder / "train.csv")]},
                "columns": {"text": "review", "label": "stars"},
            },
            "nodes": 1,
            "processesPerNode": 1,
            "accelerators": False,
            "output": "/output",
            "prepare": "inline",
            **more,
        }
    )


def run_launch(folder: Path, config: TaskConfig, rank: tuple[str, ...], **more: str) -> Any:
    """Run a launch to its end; ranks run the module `rank[0]`. Return what one of them measured."""
    (folder / "run.json").write_text(config.to_json())
    environment = {
        Env.CONFIG.value: str(folder / "run.json"),
        Env.ATTEMPT.value: "1",
        Env.NODE.value: "0",
        Env.PEERS.value: f"127.0.0.1:{free_port('127.0.0.1')}",
        Env.TERMINATION_LOG.value: str(folder / "termination-log"),
        Env.PATHS.value: f'{{"/output": "{folder / "claim"}"}}',
        **more,
    }
    (folder / "claim").mkdir(exist_ok=True)
    return run([sys.executable, "-c", START, *rank], environment)


def run(command: list[str], environment: Mapping[str, str]) -> Any:
    """Run a command, one thread a rank; return what it wrote, as JSON, to the file of RESULT."""
    with TemporaryDirectory(prefix="result-") as folder:
        result = Path(folder) / "result.json"
        common = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "RESULT": str(result)}
        process = subprocess.run(
            command,
            env={**os.environ, **common, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if not result.exists():
            raise RuntimeError(f"`{' '.join(command)}` measured nothing:\n{process.stdout[-8000:]}")
        return json.loads(result.read_text())
