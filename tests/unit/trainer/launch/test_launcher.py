"""What torchrun, accelerate and python are told of the world, and what every program is told of its job."""

from __future__ import annotations

import json
import os
import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from finetune_trainer.contract.launch_protocol import Begin, RankEnv
from finetune_trainer.launch import launcher, ranks
from finetune_trainer.launch.children import Children
from finetune_trainer.launch.launch_settings import Settings
from finetune_trainer.launch.rank_output import attach
from finetune_trainer.launch.ranks import Ranks
from finetune_trainer.shared.volume import make_folder
from tests.support.checkpoints import layout, run_config
from tests.support.scripts import began, script_config, script_settings, seal_as

RANK = ["-m", "finetune_trainer", "script"]
WORKERS = ("10.0.0.1:7001", "10.0.0.2:7002")


def settings(folder: Path, node: int = 0, script: dict[str, Any] | None = None, **fields: Any) -> Settings:
    return script_settings(folder, script_config(folder / "volume", script, **fields), node)


def test_torchrun_runs_our_command_as_each_rank(tmp_path: Path) -> None:
    own = settings(tmp_path, node=1, nodes=2, processes_per_node=8)
    assert launcher.torchrun_arguments(own, began(), tmp_path / "logs") == [
        "--nnodes=2",
        "--nproc-per-node=8",
        "--node-rank=1",
        "--master-addr=10.0.0.1",
        "--master-port=4711",
        "--max-restarts=0",
        f"--log-dir={tmp_path / 'logs'}",
        *RANK,
    ]


def test_python_starts_one_plain_process(tmp_path: Path) -> None:
    own = settings(tmp_path, script={"launcher": "python"})
    assert launcher.command(own, began(), tmp_path) == [sys.executable, *RANK]
    assert list(tmp_path.iterdir()) == []


# --- accelerate -------------------------------------------------------------------------------------------------------


def accelerate(
    tmp_path: Path, users_config: dict[str, Any] | None = None, node: int = 0, **fields: Any
) -> dict[str, Any]:
    script = {"launcher": "accelerate", "accelerate_config": users_config}
    return launcher.accelerate_config(settings(tmp_path, node, script, **fields), began())


def test_accelerate_reads_the_configuration_from_a_file(tmp_path: Path) -> None:
    own = settings(tmp_path, script={"launcher": "accelerate", "accelerate_config": {"mixed_precision": "no"}})
    command = launcher.command(own, began(), tmp_path)
    file = tmp_path / launcher.ACCELERATE_CONFIG
    assert command == [sys.executable, "-m", "accelerate.commands.launch", f"--config_file={file}", *RANK]
    assert json.loads(file.read_text()) == launcher.accelerate_config(own, began())
    assert json.loads(file.read_text())["mixed_precision"] == "no"


def test_accelerate_is_told_the_world_of_the_job(tmp_path: Path) -> None:
    made = accelerate(tmp_path, node=1, nodes=2, processes_per_node=4, accelerators=True)
    assert made == {
        "compute_environment": "LOCAL_MACHINE",
        "mixed_precision": "no",
        "use_cpu": False,
        "distributed_type": "MULTI_GPU",
        "num_machines": 2,
        "num_processes": 8,
        "machine_rank": 1,
        "main_process_ip": "10.0.0.1",
        "main_process_port": 4711,
        "rdzv_backend": "static",
        "same_network": True,
    }


@pytest.mark.parametrize(
    ("users_config", "nodes", "processes", "kind"),
    [
        (None, 1, 1, "NO"),
        (None, 1, 2, "MULTI_GPU"),
        (None, 2, 1, "MULTI_GPU"),
        ("NO", 2, 1, "MULTI_GPU"),
        (False, 2, 1, "MULTI_GPU"),  # NO, as YAML reads it
        ("MULTI_CPU", 2, 1, "MULTI_GPU"),
        ("MULTI_CPU", 1, 1, "MULTI_CPU"),
        ("FSDP", 1, 1, "FSDP"),
        ("FSDP", 2, 2, "FSDP"),
        ("DEEPSPEED", 2, 2, "DEEPSPEED"),
    ],
)
def test_more_than_one_process_is_started_by_torchrun(
    tmp_path: Path, users_config: object, nodes: int, processes: int, kind: str
) -> None:
    """Accelerate starts a world of CPUs through MPI, unless it is told that these are GPUs; `use_cpu` keeps them on the CPU."""
    configuration = {"distributed_type": users_config} if users_config is not None else None
    made = accelerate(tmp_path, configuration, nodes=nodes, processes_per_node=processes)
    assert (made["distributed_type"], made["use_cpu"]) == (kind, True)


@pytest.mark.parametrize(
    ("accelerators", "users_config", "expected"),
    [(False, None, "true"), (True, None, None), (True, {"use_cpu": True}, "true"), (False, {"use_cpu": False}, None)],
)
def test_ranks_of_accelerate_know_that_they_compute_on_cpus(
    tmp_path: Path, *, accelerators: bool, users_config: dict[str, Any] | None, expected: str | None
) -> None:
    script = {"launcher": "accelerate", "accelerate_config": users_config}
    own = settings(tmp_path, 0, script, nodes=2, accelerators=accelerators)
    assert launcher.environment(own, began()).get("ACCELERATE_USE_CPU") == expected


def test_users_configuration_stays_but_for_the_nodes(tmp_path: Path) -> None:
    users_config = {
        "distributed_type": "FSDP",
        "mixed_precision": "bf16",
        "use_cpu": True,
        "fsdp_config": {"fsdp_sharding_strategy": "FULL_SHARD"},
        "num_machines": 64,
        "num_processes": 512,
        "machine_rank": 63,
        "main_process_ip": "192.0.2.1",
        "main_process_port": 1,
        "rdzv_backend": "c10d",
        "same_network": False,
    }
    made = accelerate(tmp_path, users_config, nodes=2, accelerators=True)
    users = ("distributed_type", "mixed_precision", "use_cpu", "fsdp_config")
    assert {name: made[name] for name in users} == {name: users_config[name] for name in users}
    own = accelerate(tmp_path, None, nodes=2, accelerators=True)
    assert {name: made[name] for name in users_config if name not in users} == {
        name: own[name] for name in users_config if name not in users
    }
    assert users_config["num_machines"] == 64, "the user's own is not changed"


# --- variables --------------------------------------------------------------------------------------------------------


def test_every_program_knows_its_folders_and_its_node(tmp_path: Path) -> None:
    own = settings(tmp_path, node=1, nodes=2)
    output = own.layout.run.output
    assert launcher.environment(own, began(workers=WORKERS)) == {
        "OUTPUT_DIR": str(output),
        "CHECKPOINT_DIR": str(output / "checkpoints"),
        "RESUME_FROM_CHECKPOINT": "",
        "NODES": "2",
        "NODE_RANK": "1",
    }


def test_folders_are_the_same_in_every_attempt(tmp_path: Path) -> None:
    config = script_config(tmp_path)
    first, second = (
        launcher.environment(script_settings(tmp_path, config, attempt=number), began()) for number in (1, 2)
    )
    assert first == second


def test_program_is_told_the_checkpoint_under_its_own_name(tmp_path: Path) -> None:
    own = settings(tmp_path)
    make_folder(own.layout.run.folder)
    resume = seal_as(own.layout.run, "checkpoints/step_40", 40)
    variables = launcher.environment(own, began(resume))
    assert variables["RESUME_FROM_CHECKPOINT"] == str(own.layout.run.output / "checkpoints" / "step_40")


@pytest.mark.parametrize(("node", "index"), [(0, 0), (1, 1)])
def test_workers_of_tensorflow_find_one_another(tmp_path: Path, node: int, index: int) -> None:
    own = settings(tmp_path, node, {"launcher": "python"}, nodes=2)
    cluster = json.loads(launcher.environment(own, began(workers=WORKERS))["TF_CONFIG"])
    assert cluster == {"cluster": {"worker": list(WORKERS)}, "task": {"type": "worker", "index": index}}


@pytest.mark.parametrize(
    ("kind", "workers"), [("python", ()), ("python", WORKERS[:1]), ("torchrun", WORKERS), ("accelerate", WORKERS)]
)
def test_others_get_no_configuration_of_tensorflow(tmp_path: Path, kind: str, workers: tuple[str, ...]) -> None:
    own = settings(tmp_path, 0, {"launcher": kind}, nodes=2)
    assert "TF_CONFIG" not in launcher.environment(own, began(workers=workers))


def test_user_can_change_no_variable_of_the_job(tmp_path: Path) -> None:
    own = settings(tmp_path)
    base = {"OUTPUT_DIR": "/tmp", "NODE_RANK": "7", "RESUME_FROM_CHECKPOINT": "/old", "MINE": "1"}
    env = ranks.environment(own, base, None, tmp_path / "token", tmp_path / "output", began())
    assert env["OUTPUT_DIR"] == str(own.layout.run.output)
    assert (env["NODE_RANK"], env["RESUME_FROM_CHECKPOINT"], env["MINE"]) == ("0", "", "1")
    assert all(type(name) is str and type(value) is str for name, value in env.items())


def test_task_is_started_as_before(tmp_path: Path) -> None:
    own = Settings(
        run_config(output=str(tmp_path)), tmp_path / "run.json", 1, 0, script_settings(tmp_path).peers, None, tmp_path
    )
    assert launcher.torchrun_arguments(own, began(), tmp_path)[-3:] == ["-m", "finetune_trainer", "train"]
    assert "TF_CONFIG" not in launcher.environment(own, Begin.model_validate_json(began(workers=WORKERS).to_json()))
    assert layout(tmp_path).run.output == own.layout.run.output


# --- ranks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("local_rank", "name"), [("1", "1"), (None, "0")])
def test_output_of_a_launcher_without_local_ranks_is_that_of_rank_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, local_rank: str | None, name: str
) -> None:
    monkeypatch.setenv(RankEnv.OUTPUT, str(tmp_path))
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if local_rank is not None:
        monkeypatch.setenv("LOCAL_RANK", local_rank)
    stream = tmp_path / name
    stream.touch()
    pid = os.fork()
    if pid == 0:
        try:
            attach()
            os.write(1, b"out")
            os.write(2, b"err")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert stream.read_bytes() == b"outerr"


async def test_pattern_that_this_python_does_not_take_ends_no_attempt(tmp_path: Path) -> None:
    """The operator has its own Python, and checks the pattern with that."""
    own = settings(tmp_path, script={"progress_pattern": "(?P<step>[0-9]+"})
    children = Children()
    try:
        made = Ranks(own, children, tmp_path)
        made._line('{"step": 1}')
    finally:
        children.close()
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600
