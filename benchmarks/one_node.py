"""A real `launch` on this machine, with the rank of a benchmark in place of the product's own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from finetune_trainer.config import Env, RunConfig
from tests.support.cluster.client import REPOSITORY

START = (
    "import os, sys; from finetune_trainer.launch.run import main; os.environ['LAUNCH_PID'] = str(os.getpid()); "
    "sys.exit(main(('-m', *sys.argv[1:])))"
)


def run_config(folder: Path, **more: Any) -> RunConfig:
    """One node that prepares inline and trains on the CPU; model and data lie in `folder`."""
    return RunConfig.model_validate(
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


def run_launch(folder: Path, config: RunConfig, rank: tuple[str, ...], result: Path, **more: str) -> str:
    """From begin to end. Ranks run the module `rank[0]`, and one of them must write `result`; returns what they printed."""
    (folder / "run.json").write_text(config.to_json())
    with socket.create_server(("127.0.0.1", 0)) as held:
        port = held.getsockname()[1]
    environment = {
        Env.CONFIG.value: str(folder / "run.json"),
        Env.ATTEMPT.value: "1",
        Env.NODE.value: "0",
        Env.PEERS.value: f"127.0.0.1:{port}",
        Env.TERMINATION_LOG.value: str(folder / "termination-log"),
        Env.PATHS.value: f'{{"/output": "{folder / "claim"}"}}',
        **more,
    }
    (folder / "claim").mkdir(exist_ok=True)
    return run([sys.executable, "-c", START, *rank], environment, result)


def run(command: list[str], environment: Mapping[str, str], result: Path) -> str:
    """Run a command that must write the file `result`, one thread a rank."""
    common = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), "RESULT": str(result)}
    done = subprocess.run(
        command,
        env={**os.environ, **common, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if not result.exists():
        raise RuntimeError(f"`{' '.join(command)}` measured nothing:\n{done.stdout[-8000:]}")
    return done.stdout
