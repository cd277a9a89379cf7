"""What launch is told, and what it tells ranks."""

import json
from pathlib import Path
from urllib.request import proxy_bypass

import pytest

from finetune_trainer.contract.launch_protocol import Begin, RankCheckpoint
from finetune_trainer.contract.records import CheckpointRef
from finetune_trainer.launch.launch_settings import Peer, Settings
from finetune_trainer.launch.launcher import torchrun_arguments
from finetune_trainer.launch.ranks import environment
from tests.support.checkpoints import START, run_config


def settings(tmp_path: Path, env: dict[str, str] | None = None, **fields: object) -> Settings:
    file = tmp_path / "run.json"
    file.write_text(run_config(**fields).to_json())  # type: ignore[arg-type]
    return Settings.from_env({"FINETUNE_CONFIG": str(file), "FINETUNE_ATTEMPT": "3"} | (env or {}))


def test_peers_of_a_pod(tmp_path: Path) -> None:
    peers = "yelp-train-{attempt}-{node}.yelp:8080"
    own = settings(tmp_path, {"JOB_COMPLETION_INDEX": "1"}, nodes=2, processes_per_node=4, peers=peers)
    assert own.peers == (Peer("yelp-train-3-0.yelp", 8080), Peer("yelp-train-3-1.yelp", 8080))
    assert (own.bind, own.port, own.url) == (None, 8080, "http://127.0.0.1:8080")
    assert own.local_ranks == range(4, 8)
    assert str(own.termination_log) == "/dev/termination-log"


def test_peers_where_nodes_share_a_host(tmp_path: Path) -> None:
    env = {"FINETUNE_PEERS": "127.0.0.1:5001,127.0.0.1:5002", "JOB_COMPLETION_INDEX": "1"}
    own = settings(tmp_path, env, nodes=2, peers="x-{attempt}-{node}.x:8080")
    assert (own.bind, own.port, own.url) == ("127.0.0.1", 5002, "http://127.0.0.1:5002")


def test_one_node_alone(tmp_path: Path) -> None:
    own = settings(tmp_path)
    assert own.peers == (Peer("127.0.0.1", 8080),)
    assert own.node == 0


@pytest.mark.parametrize(
    ("arguments", "limit"),
    [({}, 2), ({"save_total_limit": 5}, 5), ({"save_total_limit": None}, None)],
)
def test_checkpoints_to_keep(tmp_path: Path, arguments: dict[str, object], limit: int | None) -> None:
    assert settings(tmp_path, training_arguments=arguments).save_total_limit == limit


def test_addresses_of_both_families() -> None:
    assert str(Peer.parse("[fd00::1]:8080")) == "[fd00::1]:8080"
    assert Peer.parse("10.0.0.1:8080") == Peer("10.0.0.1", 8080)


def began(resume: CheckpointRef | None = None) -> Begin:
    return Begin(begun=START, master_address="10.0.0.1", master_port=4711, resume=resume)


def test_torchrun_has_a_fixed_size_and_no_restarts(tmp_path: Path) -> None:
    own = settings(tmp_path, {"JOB_COMPLETION_INDEX": "1"}, nodes=2, peers="x-{attempt}-{node}.x:8080")
    options = torchrun_arguments(
        own, Begin(begun=START, master_address="10.0.0.1", master_port=4711), tmp_path / "logs"
    )
    assert options[-3:] == ["-m", "finetune_trainer", "train"]
    for option in ("--nnodes=2", "--nproc-per-node=2", "--node-rank=1", "--master-addr=10.0.0.1", "--max-restarts=0"):
        assert option in options
    assert f"--log-dir={tmp_path / 'logs'}" in options


def test_what_a_rank_is_told(tmp_path: Path) -> None:
    own = settings(tmp_path, grace_period_seconds=60)
    resume = CheckpointRef(step=5, path="/output/c", time=START)
    base = {"OMP_NUM_THREADS": "7", "MALLOC_TRIM_THRESHOLD_": "0", "HF_HUB_OFFLINE": "0", "FINETUNE_RESUME": "/stale"}
    env = environment(own, base, "eth0", tmp_path / "token", tmp_path / "output", began(resume))
    assert (env["OMP_NUM_THREADS"], env["MALLOC_TRIM_THRESHOLD_"]) == ("7", "0")  # the user's
    assert env["MALLOC_MMAP_THRESHOLD_"] == str(32 * 1024**2)
    assert env["HF_HUB_OFFLINE"] == "1"  # ours
    assert (env["GLOO_SOCKET_IFNAME"], env["NCCL_SOCKET_IFNAME"]) == ("eth0", "=eth0")
    assert env["TORCH_ELASTIC_SHUTDOWN_TIMEOUT"] == "50"
    assert env["FINETUNE_RESUME"] == "/output/c"
    assert env["KUBEFLOW_TRAINER_SERVER_URL"] == "http://127.0.0.1:8080/kubeflow"
    assert env["KUBEFLOW_TRAINER_SERVER_TOKEN"] == str(tmp_path / "token")
    assert json.dumps(env)  # plain text only
    assert "FINETUNE_RESUME" not in environment(own, base, "lo", tmp_path, tmp_path, began())
    assert "NCCL_SOCKET_IFNAME" not in environment(own, {}, "lo", tmp_path, tmp_path, began())


@pytest.mark.parametrize("users", [{}, {"NO_PROXY": "10.0.0.0/8"}, {"NO_PROXY": "other", "no_proxy": "10.0.0.0/8"}])
def test_a_rank_reports_past_the_users_proxy(
    users: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = {"HTTP_PROXY": "http://proxy.example.com:3128", **users}
    env = environment(settings(tmp_path), base, "eth0", tmp_path / "token", tmp_path / "output", began())
    assert env["no_proxy"] == env["NO_PROXY"] == ("10.0.0.0/8,127.0.0.1" if users else "127.0.0.1")
    monkeypatch.setenv("no_proxy", env["no_proxy"])
    assert proxy_bypass("127.0.0.1:8080")


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/../b", "", ".", "a//b"])
def test_files_outside_their_folder_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="plain relative"):
        RankCheckpoint(step=1, rank=0, files=(name,))
