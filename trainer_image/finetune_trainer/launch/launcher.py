"""How a launcher is told where its node is in the world: arguments and variables of torchrun, accelerate and python. Pure, but for the
configuration file of accelerate.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finetune_trainer.contract.launch_protocol import Begin
from finetune_trainer.contract.script import Launcher, ScriptEnv
from finetune_trainer.launch import output_folder
from finetune_trainer.launch.launch_settings import Settings

ACCELERATE_CONFIG = "accelerate.json"
_ONE_PROCESS = ("NO", "MULTI_CPU")
"""Kinds of worlds that `accelerate launch` starts as one plain process, or through MPI."""


def torchrun_arguments(settings: Settings, begin: Begin, logs: Path) -> list[str]:
    """Return the arguments of torchrun: static rendezvous, fixed size, no restarts inside. It fails quickly that way, and predictably.

    `logs` is a folder that nobody reads: torchrun would leave one behind in the machine's temporary folder.
    """
    config = settings.config
    return [
        f"--nnodes={config.nodes}",
        f"--nproc-per-node={config.processes_per_node}",
        f"--node-rank={settings.node}",
        f"--master-addr={begin.master_address}",
        f"--master-port={begin.master_port}",
        "--max-restarts=0",
        f"--log-dir={logs}",
        *settings.rank_command,
    ]


def command(settings: Settings, begin: Begin, temporary: Path) -> list[str]:
    """Return the command line of another launcher than torchrun. Writes what accelerate reads to `temporary`."""
    if settings.config.launcher is Launcher.PYTHON:
        return [sys.executable, *settings.rank_command]
    return accelerate_launch(settings, begin, temporary, settings.rank_command)


def accelerate_launch(settings: Settings, begin: Begin, temporary: Path, program: Sequence[str]) -> list[str]:
    """Return the command line that runs a program on all nodes with the job's configuration, which it writes to `temporary`."""
    file = temporary / ACCELERATE_CONFIG
    file.write_text(json.dumps(accelerate_config(settings, begin)), encoding="utf-8")
    return [sys.executable, "-m", "accelerate.commands.launch", f"--config_file={file}", *program]


def accelerate_config(settings: Settings, begin: Begin) -> dict[str, Any]:
    """Return the user's configuration of accelerate, with the nodes, addresses and ranks of the job."""
    config, script = settings.config, settings.config.script
    users_config = dict(script.accelerate_config or {}) if script is not None else {}
    kind = str(users_config.get("distributed_type") or "NO")
    if config.world_size > 1 and kind in _ONE_PROCESS:  # which starts them by torchrun, on a CPU too
        kind = "MULTI_GPU"
    return {
        "compute_environment": "LOCAL_MACHINE",
        "mixed_precision": "no",
        "use_cpu": not config.accelerators,
        **users_config,
        "distributed_type": kind,
        "num_machines": config.nodes,
        "num_processes": config.world_size,
        "machine_rank": settings.node,
        "main_process_ip": begin.master_address,
        "main_process_port": begin.master_port,
        "rdzv_backend": "static",
        "same_network": True,
    }


def environment(settings: Settings, begin: Begin) -> dict[str, str]:
    """Return the variables of every program, and those of its launcher."""
    layout, config = settings.layout, settings.config
    resume = output_folder.resume_path(layout.run, begin.resume)
    variables: dict[str, str] = {
        ScriptEnv.OUTPUT_DIR: str(layout.run.output),
        ScriptEnv.CHECKPOINT_DIR: str(layout.run.output_checkpoints),
        ScriptEnv.RESUME_FROM_CHECKPOINT: str(resume) if resume is not None else "",
        ScriptEnv.NODES: str(config.nodes),
        ScriptEnv.NODE_RANK: str(settings.node),
    }
    if config.launcher is Launcher.ACCELERATE and accelerate_config(settings, begin)["use_cpu"]:
        # Where it starts several processes, it does not pass this on: each would take itself for the only one.
        variables["ACCELERATE_USE_CPU"] = "true"
    if config.launcher is Launcher.PYTHON and len(begin.workers) > 1:
        task = {"type": "worker", "index": settings.node}
        variables["TF_CONFIG"] = json.dumps({"cluster": {"worker": list(begin.workers)}, "task": task})
    return {str(name): value for name, value in variables.items()}


def device_defaults(settings: Settings, begin: Begin) -> dict[str, str]:
    """Return what libtpu reads to find the machines of a slice, unless the cloud has set it in the pods."""
    if settings.config.launcher is not Launcher.PYTHON or not begin.workers:
        return {}
    hosts = [address.rpartition(":")[0].strip("[]") for address in begin.workers]
    return {"TPU_WORKER_ID": str(settings.node), "TPU_WORKER_HOSTNAMES": ",".join(hosts)}
